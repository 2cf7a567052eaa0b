package e2e

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"cairn/bus"
	"cairn/internal/postgres"
	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// emptyDatabase is one that migrate has not seen.
func emptyDatabase(t testing.TB) string {
	t.Helper()
	near := testkit.Postgres(t)
	u, err := url.Parse(near)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/") + "_empty"
	admin := func(sql string) {
		t.Helper()
		ctx := context.Background() // a clean-up runs after the test's ends
		conn, err := pgx.Connect(ctx, near)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Error(err)
		}
	}
	admin("create database " + name)
	t.Cleanup(func() { admin("drop database if exists " + name + " with (force)") })
	u.Path = "/" + name
	return u.String()
}

func TestMigrate(t *testing.T) {
	database := emptyDatabase(t)
	for _, says := range []string{"went from version 0 to", "already"} {
		p, code := run(t, "migrate", "--database-url", database)
		if code != 0 || !strings.Contains(p.Stdout.String(), says) {
			t.Errorf("code %d, not %q: %s%s", code, says, p.Stdout.Tail(), p.Stderr.Tail())
		}
	}
	p, code := run(t, "migrate", "--database-url", "postgres://nobody@127.0.0.1:1/nothing")
	if code != 1 {
		t.Errorf("exit code %d without a server", code)
	}
	p.Complains("127.0.0.1:1")
}

// A fleet is the three roles as processes of their own, on addresses that stay
// the same over restarts.
type fleet struct {
	t        testing.TB
	queue    string // URL of it, for who looks
	commands map[string]testrig.Command
	roles    map[string]*testrig.Server
}

// newFleet knows how to start the roles: the projector reads its password from
// the data folder, the query role has it in the URL of the queue.
func newFleet(t testing.TB, database string) *fleet {
	t.Helper()
	data, queue := testrig.DataFolder(t), testrig.FreePort(t)
	const queryPassword = "a-password/with@signs"
	queueURL := url.URL{Scheme: "nats", Host: queue, User: url.UserPassword(bus.UserQuery, queryPassword)}
	return &fleet{t: t, queue: "nats://" + queue, roles: map[string]*testrig.Server{}, commands: map[string]testrig.Command{
		"ingest": {
			Args: []string{"ingest", "--listen", testrig.FreePort(t), "--data", data, "--nats-listen", queue},
			Env:  []string{"CAIRN_NATS_PASSWORDS=" + bus.UserQuery + "=" + queryPassword},
		},
		"projector": {
			Args: []string{"projector", "--listen", testrig.FreePort(t), "--data", data, "--nats-url", "nats://" + queue},
			Env:  []string{"DATABASE_URL=" + database},
		},
		"query": {
			Args: []string{"query", "--listen", testrig.FreePort(t), "--data", filepath.Join(data, "none"), "--database-url", database},
			Env:  []string{"NATS_URL=" + queueURL.String()},
		},
	}}
}

// start starts a role without waiting until it is ready, for which it may need
// the others.
func (f *fleet) start(role string) {
	f.t.Helper()
	c := f.commands[role]
	c.Program = cairnProgram
	f.roles[role] = c.Listen(f.t)
}

func (f *fleet) ready() {
	f.t.Helper()
	for _, s := range f.roles {
		s.Ready()
	}
}

func (f *fleet) base(role string) string { return f.roles[role].Base }

// restart ends a role, in an orderly way or not, and starts it again.
func (f *fleet) restart(role string, signal syscall.Signal) {
	f.t.Helper()
	s := f.roles[role]
	s.Signal(signal)
	code := s.Wait(testrig.StopBound)
	if signal != syscall.SIGKILL && code != 0 {
		f.t.Errorf("%s: exit code %d after %v", role, code, signal)
	}
	f.start(role)
}

// The roles start in any order and are restarted in any order, while points are
// written: each acknowledged one is there once.
func TestRolesRestartUnderLoad(t *testing.T) {
	f := newFleet(t, testkit.Postgres(t))
	// Readers first: they wait for what they need.
	for _, role := range []string{"query", "projector", "ingest"} {
		f.start(role)
	}
	f.ready()
	l := testrig.NewLedger("w")
	stop := l.Write(f.base("ingest"), crashWriters)
	defer stop()
	l.Reach(t, enough)
	for _, order := range [][]string{
		{"ingest", "projector", "query"}, {"query", "projector", "ingest"}, {"projector", "ingest", "projector", "query"},
	} {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
			for _, role := range order {
				f.restart(role, signal)
				l.Reach(t, enough)
			}
			f.ready()
		}
	}
	stop()
	testrig.Settled(t, f.queue, f.base("query"))
	l.Verify(t, f.base("query"))
	a, one := testrig.MustPost(t, f.base("ingest")+"/point", paris)
	var point testrig.Feature
	testrig.MustGet(t, f.base("query")+a.Header.Get("Location"), &point)
	if point.ID != one.ID {
		t.Errorf("%v came of %s", point.ID, a.Body)
	}
	for role, s := range f.roles {
		s.Signal(syscall.SIGTERM)
		if code := s.Wait(testrig.StopBound); code != 0 {
			t.Errorf("%s: exit code %d at the end", role, code)
		}
	}
}

// All roles die at the same moment, several times.
func TestRolesKilledTogether(t *testing.T) {
	f := newFleet(t, testkit.Postgres(t))
	roles := []string{"ingest", "projector", "query"}
	for _, role := range roles {
		f.start(role)
	}
	f.ready()
	l := testrig.NewLedger("w")
	stop := l.Write(f.base("ingest"), crashWriters)
	defer stop()
	for range 3 {
		l.Reach(t, enough)
		for _, s := range f.roles {
			s.Kill()
		}
		for _, role := range roles {
			f.start(role)
		}
		f.ready()
	}
	stop()
	testrig.Settled(t, f.queue, f.base("query"))
	l.Verify(t, f.base("query"))
}

// Given a database and a queue, serve uses those and starts nothing of its own.
func TestServeOnOthers(t *testing.T) {
	data, database := testrig.DataFolder(t), emptyDatabase(t)
	queue := testkit.NATS(t)
	var passwords []string
	for _, user := range bus.Users {
		passwords = append(passwords, user+"="+queue.Endpoint(user).Password)
	}
	s := testrig.Command{
		Program: cairnProgram,
		Args:    []string{"serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", data},
		Env: []string{"DATABASE_URL=" + database, "NATS_URL=nats://" + queue.Addr(),
			"CAIRN_NATS_PASSWORDS=" + strings.Join(passwords, ";")},
	}.Serve(t)
	testrig.MustPost(t, s.Base+"/point", paris)
	testrig.Settled(t, "nats://"+queue.Addr(), s.Base)
	if n := len(testrig.AllPoints(t, s.Base)); n != 1 {
		t.Errorf("%d points, want 1", n)
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var rows int
	if err := conn.QueryRow(t.Context(), "select count(*) from points").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d rows in the database given, %v", rows, err)
	}
	if text := s.Stdout.String(); strings.Contains(text, "nats --server") {
		t.Errorf("the greeting shows a queue that is not ours:\n%s", text)
	}
	s.Leave()
	if _, ok := postgres.Find(testrig.ClusterOf(data)); ok {
		t.Error("a private PostGIS runs")
	}
	for _, name := range []string{"postgres", "jetstream", "nats-passwords"} {
		if _, err := os.Stat(filepath.Join(data, name)); err == nil {
			t.Errorf("the data folder has a %s", name)
		}
	}
	conn2, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatalf("the database that was given is gone: %v", err)
	}
	_ = conn2.Close(t.Context())
}

// Roles beside a serve use its private cluster: more readers for one machine.
func TestQueryBesideServe(t *testing.T) {
	data := testrig.DataFolder(t)
	s := serve(t, data)
	q := testrig.Command{Program: cairnProgram, Args: []string{"query", "--listen", testrig.AnyPort, "--data", data, "--nats-url", s.NATS()}}.Serve(t)
	a, one := testrig.MustPost(t, s.Base+"/point", paris)
	var f testrig.Feature
	testrig.MustGet(t, q.Base+a.Header.Get("Location"), &f)
	if f.ID != one.ID {
		t.Errorf("%v came of %s", f.ID, a.Body)
	}
	p, code := run(t, "migrate", "--data", data)
	if code != 0 || !strings.Contains(p.Stdout.String(), "already") {
		t.Errorf("code %d: %s%s", code, p.Stdout.Tail(), p.Stderr.Tail())
	}
	q.Leave()
	s.Leave()
}
