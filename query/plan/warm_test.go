package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/internal/testkit"
	"cairn/query/filter"
)

const warmWithin = 20 * time.Second

// knows reports whether a connection's process has read what Postgres keeps of an index.
func knows(t *testing.T, conn *pgx.Conn, index string) (known bool) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `select exists (select from pg_backend_memory_contexts where name = 'index info' and ident = $1)`, index).Scan(&known)
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// allIdle reports whether so many connections or more are idle, and f holds for each.
func (f *fixture) allIdle(n int, cond func(*pgxpool.Conn) bool) bool {
	idle := f.pool.AcquireAllIdle(f.t.Context())
	all := len(idle) >= n
	for _, conn := range idle {
		all = cond(conn) && all
		conn.Release()
	}
	return all
}

// widen gives the reader a pool of which pages can use several connections.
func (f *fixture) widen(afterConnect func(context.Context, *pgx.Conn) error) {
	f.t.Helper()
	cfg := f.pool.Config()
	cfg.MaxConns, cfg.AfterConnect = 4*maxAhead, afterConnect
	pool, err := pgxpool.NewWithConfig(f.t.Context(), cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(pool.Close)
	f.Reader = New(pool, f.long, func(string, time.Time) {})
}

// Connections are there, and know the segments, before anybody asks; and again where
// there is a new segment that nobody has announced, once anybody has asked.
func TestKeepWarm(t *testing.T) {
	f := newFixture(t)
	f.widen(nil)
	f.exec("update segments set state = 'dropped' where id = 1")
	rows := func(from int) string {
		return fmt.Sprintf(strings.ReplaceAll(explainRows, "i % ", "i %% "), 0, from, from+100)
	}
	f.segment(10, 1_000, 2_000, "sealed", rows(1_000))
	fresh, err := pgx.Connect(t.Context(), f.db.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fresh.Close(t.Context()) }()
	if knows(t, fresh, "points_10_geom") {
		t.Fatal("a new connection knows the segment: this test cannot tell")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.KeepWarm(ctx) }()
	warm := func(index string) bool {
		return f.allIdle(maxAhead, func(conn *pgxpool.Conn) bool {
			return knows(t, conn.Conn(), index) && !f.isCold(conn)
		})
	}
	testkit.Eventually(t, warmWithin, "connections are warm", func() bool { return warm("points_10_geom") })
	stop()
	<-ended

	f.segment(11, 2_000, 3_000, "sealed", rows(2_000))
	f.exec("update checkpoint set catalogue = catalogue + 1")
	for range 2 { // the first reads the new list, the second is given a connection without it
		q := Query{Limit: 10, Filter: filter.Box{West: 0, South: 0, East: 180, North: 80}}
		if _, err := f.Page(t.Context(), q, func(Row) (bool, error) { return true, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.cold) != 1 {
		t.Error("a request was given a cold connection, and nobody was told")
	}
	if err := f.warmAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !warm("points_11_geom") {
		t.Error("idle connections do not know the new segment")
	}
}

// A new segment that was announced is known to the connections before anybody asks.
func TestKeepWarmFollows(t *testing.T) {
	f := newFixture(t)
	f.widen(nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.KeepWarm(ctx) }()
	defer func() { stop(); <-ended }()
	warm := func(index string) bool {
		return f.allIdle(maxAhead, func(conn *pgxpool.Conn) bool { return knows(t, conn.Conn(), index) })
	}
	testkit.Eventually(t, warmWithin, "connections are warm", func() bool { return warm("points_1_geom") })

	f.segment(10, 1_000, 2_000, "sealed", fmt.Sprintf(strings.ReplaceAll(explainRows, "i % ", "i %% "), 0, 1_000, 1_100))
	var number int64
	if err := f.db.QueryRow(t.Context(), "update checkpoint set catalogue = catalogue + 1 returning catalogue").Scan(&number); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, warmWithin, "idle connections are warmed", func() bool {
		f.Announced(number) // again, as the projector does
		return f.warmed.Load() == number
	})
	stop()
	<-ended
	if !warm("points_10_geom") {
		t.Error("connections do not know the new segment")
	}
	for len(f.news) > 0 {
		<-f.news
	}
	if f.Announced(number); len(f.news) > 0 {
		t.Error("what connections are warm for is looked at again")
	}
}

// Where there are no connections any more, an announcement makes none.
func TestAnnouncementsMakeNoConnections(t *testing.T) {
	f := newFixture(t)
	f.widen(nil)
	f.announced.Store(1 << 40)
	if err := f.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := f.pool.Stat().NewConnsCount(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// A table that was read while it was the head, and has indexes since, is read again.
func TestSealedIsReadAgain(t *testing.T) {
	f := newFixture(t)
	f.widen(nil)
	if err := f.warmAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.exec(`create index points_1_sealed on points_1 (observed_at);
		update segments set state = 'sealed', high = 1000, rows = 0, revision = 0, other_ids = 0 where id = 1;
		update checkpoint set catalogue = catalogue + 1`)
	f.announced.Store(f.catalogue.last().version + 1)
	if err := f.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !f.allIdle(maxAhead, func(conn *pgxpool.Conn) bool { return knows(t, conn.Conn(), "points_1_sealed") }) {
		t.Error("idle connections do not know the new index")
	}
}

// A database that is away at first is tried again.
func TestKeepWarmWaits(t *testing.T) {
	f := newFixture(t)
	var tries atomic.Int32
	f.widen(func(context.Context, *pgx.Conn) error {
		if tries.Add(1) <= 3 {
			return errors.New("not yet")
		}
		return nil
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.KeepWarm(ctx) }()
	defer func() { stop(); <-ended }()
	testkit.Eventually(t, warmWithin, "a connection is warm", func() bool {
		return f.allIdle(maxAhead, func(conn *pgxpool.Conn) bool { return !f.isCold(conn) })
	})
}

// A connection that does not answer is given up.
func TestWarmIsBounded(t *testing.T) {
	f := newFixture(t)
	f.widen(nil)
	if err := f.warmAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := f.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	f.exec("update checkpoint set catalogue = catalogue + 1")
	f.exec("begin; lock table checkpoint, points_1 in access exclusive mode")
	defer f.exec("rollback")
	f.Announced(1 << 40)
	for name, do := range map[string]func() error{
		"a look at the catalogue": func() error { return f.look(t.Context()) },
		"a page": func() error {
			delete(conn.Conn().PgConn().CustomData(), warmthKey)
			return f.warm(t.Context(), conn)
		},
	} {
		ended := make(chan error, 1)
		go func() { ended <- do() }()
		select {
		case err := <-ended:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(warmWithin):
			t.Fatalf("%s goes on", name)
		}
	}
}
