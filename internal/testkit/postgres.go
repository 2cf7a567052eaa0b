package testkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/internal/postgres"
	"cairn/schema"
)

const (
	// setupTimeout bounds the start of a cluster and its first migration:
	// about 3 s here, more while every package's tests start at once.
	setupTimeout = 2 * time.Minute
	// stopTimeout bounds a clean-up.
	stopTimeout = 30 * time.Second
)

// shared is the server that all tests of this process use.
var shared postgresServer

type postgresServer struct {
	once     sync.Once
	err      error
	folder   string // of our cluster; "" with DATABASE_URL
	admin    string // URL of a database to give commands from
	prefix   string // of the names of this process's databases
	template string // the migrated database
	count    atomic.Int64
}

// Postgres makes a database with Cairn's schema for this test alone and returns
// its URL. It is gone when the test has ended, whoever is still connected.
func Postgres(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() { shared.err = shared.open() })
	if shared.err != nil {
		t.Fatalf("PostGIS for the tests: %v", shared.err)
	}
	return like(t, shared.template)
}

// Backup makes a copy of a test's database, as a backup restores it. Nobody may write
// to the database meanwhile; other connections to it are ended.
func Backup(t testing.TB, of string) string {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	if err := shared.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = '" + name + "'"); err != nil {
		t.Fatalf("end the connections to the test's database: %v", err)
	}
	return like(t, name)
}

func like(t testing.TB, template string) string {
	t.Helper()
	name := fmt.Sprintf("%s_%d", shared.prefix, shared.count.Add(1))
	if err := shared.exec("create database " + name + " template " + template); err != nil {
		t.Fatalf("make the test's database: %v", err)
	}
	t.Cleanup(func() {
		if err := shared.exec("drop database if exists " + name + " with (force)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
		if !t.Failed() {
			return
		}
		if crashes := shared.crashes(); crashes != "" {
			t.Log(crashes)
		}
	})
	return WithDatabase(shared.admin, name)
}

// crashes are the lines of the server's log that say why it ended all connections, if it
// did.
func (s *postgresServer) crashes() string {
	files, _ := filepath.Glob(filepath.Join(s.folder, clusterName, "log", "*.log"))
	var out strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			fmt.Fprintln(&out, err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "PANIC") || strings.Contains(line, "terminated by signal") || strings.Contains(line, "exited with exit code") {
				out.WriteString(line)
			}
		}
	}
	return out.String()
}

// OwnCluster starts a cluster for this test alone, so that the test may stop,
// start and kill it. Its database has Cairn's schema. It is gone when the test
// has ended. DATABASE_URL has no say in it.
func OwnCluster(t testing.TB) *postgres.Cluster {
	t.Helper()
	dir := filepath.Join(Folder(t), clusterName)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := postgres.Destroy(ctx, dir); err != nil {
			t.Errorf("remove the test's cluster: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	cluster, err := postgres.Start(ctx, dir, Log(t), postgres.Unsafe())
	if err == nil {
		err = migrate(ctx, cluster.URL())
	}
	if err != nil {
		t.Fatalf("a PostGIS cluster for this test: %v", err)
	}
	return cluster
}

// Standby makes a standby of a test's own cluster, which follows it through a slot of
// that name. It is gone when the test has ended.
func Standby(t testing.TB, primary *postgres.Cluster, slot string) *postgres.Cluster {
	t.Helper()
	dir := filepath.Join(Folder(t), clusterName)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := postgres.Destroy(ctx, dir); err != nil {
			t.Errorf("remove the test's standby: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), setupTimeout)
	defer cancel()
	c, err := postgres.Standby(ctx, primary, dir, slot, Log(t))
	if err != nil {
		t.Fatalf("a standby for this test: %v", err)
	}
	return c
}

// open starts the cluster, unless there is a server to use, and makes the
// template.
func (s *postgresServer) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	s.prefix = fmt.Sprintf("%s%d", namePrefix(), os.Getpid())
	s.template = s.prefix + "_template"
	s.admin = os.Getenv("DATABASE_URL")
	if s.admin == "" {
		folder, err := makeFolder()
		if err != nil {
			return err
		}
		s.folder = folder
		cluster, err := postgres.Start(ctx, filepath.Join(folder, clusterName), slog.New(slog.DiscardHandler), postgres.Unsafe())
		if err != nil {
			return err
		}
		s.admin = cluster.URL()
	} else if err := s.dropOrphans(ctx); err != nil {
		return err
	}
	if err := s.exec("create database " + s.template); err != nil {
		return err
	}
	return migrate(ctx, WithDatabase(s.admin, s.template))
}

// close removes the cluster, or what we made on another's server.
func (s *postgresServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var err error
	switch {
	case s.folder != "":
		err = errors.Join(postgres.Destroy(ctx, filepath.Join(s.folder, clusterName)), os.RemoveAll(s.folder))
	case s.admin != "":
		err = s.exec("drop database if exists " + s.template + " with (force)")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testkit: remove the tests' PostGIS:", err)
	}
}

// exec runs one statement on a connection of its own.
func (s *postgresServer) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// dropOrphans removes the databases of this machine's runs that were killed.
func (s *postgresServer) dropOrphans(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return fmt.Errorf("connect to DATABASE_URL: %w", err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "select datname from pg_database where starts_with(datname, $1)", namePrefix())
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		pid, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix()), "_")
		if alive(pid) {
			continue
		}
		if _, err := conn.Exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)"); err != nil {
			return err
		}
	}
	return nil
}

// namePrefix begins the names of this machine's databases: others may test
// against the same server.
func namePrefix() string {
	host, _ := os.Hostname() // without one, all machines that have none are one
	sum := sha256.Sum256([]byte(host))
	return "cairn_test_" + hex.EncodeToString(sum[:4]) + "_"
}

func migrate(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	// Nobody may be connected to a template while it is copied.
	defer conn.Close(ctx)
	_, _, err = schema.Migrate(ctx, conn)
	return err
}

// WithDatabase is the URL with another database's name.
func WithDatabase(raw, name string) string {
	u, err := url.Parse(raw)
	if err != nil { // pgx has parsed it before
		return raw
	}
	u.Path = "/" + name
	return u.String()
}
