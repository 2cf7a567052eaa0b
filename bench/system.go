package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"cairn/internal/postgres"
	"cairn/schema"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"
)

const (
	noopCommand = "serve-noop"
	startWithin = 60 * time.Second
	stopWithin  = 60 * time.Second
)

// A system is a cluster, the three roles as processes of their own, so that one
// can be paused, and the peer that does nothing.
type system struct {
	dir       string
	cluster   *postgres.Cluster
	processes []*exec.Cmd
	projector *exec.Cmd
	ingest    string // base URLs
	query     string
	noop      string
}

func start(ctx context.Context, binary string) (s *system, err error) {
	dir, err := os.MkdirTemp("/var/tmp", "cairn-bench-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the user postgres passes through
		return nil, err
	}
	s = &system{dir: dir}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.cluster, err = postgres.Start(ctx, filepath.Join(dir, "postgres"), slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	err = s.withConn(ctx, func(conn *pgx.Conn) error { _, _, err := schema.Migrate(ctx, conn); return err })
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if _, s.noop, err = s.launch("noop", self, noopCommand); err != nil {
		return nil, err
	}
	if _, s.ingest, err = s.launch("ingest", binary, "ingest", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--data", dir); err != nil {
		return nil, err
	}
	nats, err := s.logged("ingest", regexp.MustCompile(`nats=(\S+)`))
	if err != nil {
		return nil, err
	}
	if s.projector, _, err = s.launch("projector", binary, "projector", "--listen", "127.0.0.1:0", "--nats-url", nats, "--data", dir); err != nil {
		return nil, err
	}
	if _, s.query, err = s.launch("query", binary, "query", "--listen", "127.0.0.1:0", "--nats-url", nats, "--data", dir); err != nil {
		return nil, err
	}
	return s, s.waitReady(ctx)
}

var listening = regexp.MustCompile(`address=(http://\S+)`)

// launch starts a process whose log goes to a file, and waits until it listens.
func (s *system) launch(name, binary string, args ...string) (*exec.Cmd, string, error) {
	log, err := os.Create(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	s.processes = append(s.processes, cmd)
	url, err := s.logged(name, listening)
	return cmd, url, err
}

// logged waits for a line in a process' log.
func (s *system) logged(name string, what *regexp.Regexp) (string, error) {
	for deadline := time.Now().Add(startWithin); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(filepath.Join(s.dir, name+".log"))
		if err != nil {
			return "", err
		}
		if m := what.FindSubmatch(data); m != nil {
			return string(m[1]), nil
		}
	}
	data, _ := os.ReadFile(filepath.Join(s.dir, name+".log"))
	return "", fmt.Errorf("%s did not start:\n%s", name, tail(data))
}

func tail(data []byte) []byte {
	const lines = 10
	parts := bytes.SplitAfter(data, []byte("\n"))
	return bytes.Join(parts[max(0, len(parts)-lines):], nil)
}

func (s *system) waitReady(ctx context.Context) error {
	for deadline := time.Now().Add(startWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(s.ingest + "/readyz")
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.New("ingest did not get ready")
}

func (s *system) stop() {
	for i := len(s.processes) - 1; i >= 0; i-- {
		p := s.processes[i]
		_ = p.Process.Signal(syscall.SIGCONT)
		_ = p.Process.Signal(syscall.SIGTERM)
		_ = p.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if s.cluster != nil {
		_ = s.cluster.Stop(ctx)
	}
	_ = os.RemoveAll(s.dir)
}

func (s *system) pause() error  { return s.projector.Process.Signal(syscall.SIGSTOP) }
func (s *system) resume() error { return s.projector.Process.Signal(syscall.SIGCONT) }

// settle waits until all that is in the queue is in the database, and empties it.
func (s *system) settle(ctx context.Context) error {
	last, err := s.lastSequence()
	if err != nil {
		return err
	}
	if err := s.applied(ctx, last); err != nil {
		return err
	}
	return s.withConn(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "truncate points")
		if err == nil {
			_, err = conn.Exec(ctx, "checkpoint")
		}
		return err
	})
}

// applied waits until the checkpoint is at sequence.
func (s *system) applied(ctx context.Context, sequence uint64) error {
	return s.withConn(ctx, func(conn *pgx.Conn) error {
		for {
			var at uint64
			if err := conn.QueryRow(ctx, "select sequence from checkpoint").Scan(&at); err != nil || at >= sequence {
				return err
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

func (s *system) withConn(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.cluster.URL())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

func (s *system) postgresVersion(ctx context.Context) (v string) {
	_ = s.withConn(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "select 'PostgreSQL ' || current_setting('server_version') || ', PostGIS ' || postgis_lib_version()").Scan(&v)
	})
	return v
}

// serveNoop is the peer of POST /point and of GET /points: fiber, a handler that
// does nothing, and one that answers with what it was given.
func serveNoop() {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/point", func(c *fiber.Ctx) error { return c.SendStatus(http.StatusAccepted) })
	var static []byte
	app.Put("/points", func(c *fiber.Ctx) error { static = bytes.Clone(c.Body()); return nil })
	app.Get("/points", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, "application/geo+json")
		return c.Send(static)
	})
	app.Hooks().OnListen(func(l fiber.ListenData) error {
		fmt.Printf("address=http://%s:%s\n", l.Host, l.Port)
		return nil
	})
	if err := app.Listen(noopAddress); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
