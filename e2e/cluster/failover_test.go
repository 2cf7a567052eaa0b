//go:build e2ecluster

package cluster

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cairn/bus"
	"cairn/internal/postgres"
	"cairn/internal/testkit"
	"cairn/internal/testrig"

	"github.com/jackc/pgx/v5"
)

// A failover is a primary with two standbys, an ingest, two projectors and a query
// service that reads a standby where it can.
type failover struct {
	*rig
	servers [3]*postgres.Cluster
	names   [3]string // of their slots
	ledger  *testrig.Ledger
	over    atomic.Bool  // what is under way is broken off
	refused atomic.Int64 // writes that were not taken at the first attempt
}

// TestFailover kills the database's primary and promotes a standby, repeatedly,
// while points are written and read: with asynchronous standbys, one of which lacks
// the last transactions, with a synchronous one, and with the primary of before back
// beside its successor.
func TestFailover(t *testing.T) {
	f := newFailover(t)
	g := &gauge{}
	stopped := f.ledger.WriteAcross(testrig.Across{Bases: []string{f.base0()}, Writers: writers, Pause: betweenPoints, Attempt: attempt,
		Heard: func(began time.Time, a testrig.Answer, acked bool) {
			if !acked && !f.over.Load() {
				f.refused.Add(1)
			}
			g.heard(began, a, acked)
		}})
	defer g.watch(f.query.Base)()
	f.reach()
	reads := testrig.Read(f.query.Base, readers)

	f.round("asynchronous, behind", g, func() {
		// The last to be stopped has the most, and can be followed by the other.
		f.must(f.servers[2].Stop(t.Context()))
		f.must(f.servers[1].Stop(t.Context()))
		f.reach() // what both lack
		f.must(f.servers[0].Kill(t.Context()))
		f.must(f.servers[1].Start(t.Context()))
		f.promote(1)
		f.must(f.servers[2].Follow(f.servers[1], f.names[2]))
		f.ask(1, fmt.Sprintf(`select pg_create_physical_replication_slot('%s')`, f.names[2]))
		f.must(f.servers[2].Start(t.Context()))
	})
	before := f.sequence(0, true)
	f.round("primary of before back", g, func() { f.reach() })
	if after := f.sequence(0, false); after != before {
		t.Errorf("the primary of before was projected to: its sequence was %d and is %d", before, after)
	}
	f.round("synchronous", g, func() {
		f.ask(1, `alter system set synchronous_standby_names = '*'`)
		f.ask(1, `select pg_reload_conf()`)
		testkit.Eventually(t, testrig.Patience, "the standby is synchronous", func() (is bool) {
			f.withServer(1, func(ctx context.Context, conn *pgx.Conn) error {
				return conn.QueryRow(ctx, `select exists (select from pg_stat_replication where sync_state = 'sync')`).Scan(&is)
			})
			return is
		})
		f.reach()
		f.must(f.servers[1].Kill(t.Context()))
		f.promote(2)
		f.ask(2, `alter system reset synchronous_standby_names`)
		f.ask(2, `select pg_reload_conf()`)
	})
	f.over.Store(true)
	stopped()
	reads.Stop(t)
	if n := f.refused.Load(); n > 0 {
		t.Errorf("%d writes were refused while the database changed its primary", n)
	}
	f.ledger.Verify(t, f.query.Base)
}

// TestStandbyBehind stops both standbys while points are written until the queue is
// full: of what they lack nothing is trimmed, whatever room that costs, and writes are
// refused. Then the primary is gone, and a standby is promoted that has next to nothing:
// all that was acknowledged comes to it from the queue. It is in the long form only.
func TestStandbyBehind(t *testing.T) {
	if *rounds == 0 {
		return
	}
	const padding = 60 << 10 // so that the smallest queue is full after some thousand points
	f := newFailover(t, "--max-bytes", strconv.Itoa(bus.MinMaxBytes), "--replay-age", "1s")
	var full atomic.Bool
	stopped := f.ledger.WriteAcross(testrig.Across{Bases: []string{f.base0()}, Writers: writers, Padding: padding, Pause: betweenPoints, Attempt: attempt,
		Heard: func(_ time.Time, a testrig.Answer, acked bool) {
			if !acked && a.Status == http.StatusServiceUnavailable && strings.Contains(string(a.Body), "full") {
				full.Store(true)
			}
		}})
	f.reach()
	f.must(f.servers[2].Stop(t.Context()))
	f.must(f.servers[1].Stop(t.Context()))
	behind := f.ledger.Acked()
	testkit.Eventually(t, fillBound, "the queue is full", full.Load)
	f.visible(f.ledger) // on the primary
	t.Logf("full with %d points that the standbys lack", f.ledger.Acked()-behind)
	f.must(f.servers[0].Kill(t.Context()))
	f.must(f.servers[1].Start(t.Context()))
	f.promote(1)
	f.must(f.servers[2].Follow(f.servers[1], f.names[2]))
	f.ask(1, fmt.Sprintf(`select pg_create_physical_replication_slot('%s')`, f.names[2]))
	f.must(f.servers[2].Start(t.Context()))
	f.reach()
	stopped()
	f.ledger.Verify(t, f.query.Base)
}

// fillBound is how long it may take until 64 MiB are written, each message synced.
const fillBound = 5 * time.Minute

func newFailover(t *testing.T, projecting ...string) *failover {
	t.Helper()
	f := &failover{rig: &rig{t: t, dir: testkit.Folder(t)}, names: [3]string{"s0", "s1", "s2"}, ledger: testrig.NewLedger("failover")}
	t.Cleanup(f.tell)
	f.servers[0] = testkit.OwnCluster(t)
	for i := 1; i < len(f.servers); i++ {
		f.servers[i] = testkit.Standby(t, f.servers[0], f.names[i])
	}
	f.database = postgres.ServersURL(f.servers[:]...)
	queue := testrig.FreePort(t)
	start := func(name string, url string, args ...string) *testrig.Server {
		return testrig.Command{Program: cairnProgram, Args: append([]string{name, "--data", f.dir, "--listen", testrig.AnyPort}, args...),
			Env: append(f.environment(), "CAIRN_LOG_LEVEL=info", "DATABASE_URL="+url), Log: filepath.Join(f.dir, fmt.Sprintf("%s-%d.log", name, time.Now().UnixNano()))}.Listen(t)
	}
	f.nodes[0] = start("ingest", f.database, "--nats-listen", queue)
	for range 2 {
		f.projector = start("projector", f.database, append([]string{"--nats-url", "nats://" + queue}, projecting...)...)
	}
	f.query = start("query", f.database+"&target_session_attrs=prefer-standby", "--nats-url", "nats://"+queue)
	f.query.Ready()
	f.nodes[0].Ready()
	return f
}

func (f *failover) base0() string { return f.nodes[0].Base }

func (f *failover) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// reach waits until more was taken, and is visible.
func (f *failover) reach() {
	f.t.Helper()
	f.ledger.Reach(f.t, afterStrike)
	f.visible(f.ledger)
}

// round does something to the servers, and says how long nothing new was visible.
func (f *failover) round(name string, g *gauge, do func()) {
	f.t.Helper()
	g.take()
	do()
	f.reach()
	figures := g.take()
	f.t.Logf("%-24s no ack for %4.1f s, nothing new visible for %4.1f s, %d writes refused", name, figures.writes.Seconds(), figures.visible.Seconds(), f.refused.Load())
}

// promote makes a server the primary, and says when the projection continues there.
func (f *failover) promote(i int) {
	f.t.Helper()
	had := f.sequence(i, false)
	f.must(f.servers[i].Promote(f.t.Context()))
	began := time.Now()
	testkit.Eventually(f.t, testrig.Patience, "the projection goes on", func() bool { return f.sequence(i, false) > had })
	f.t.Logf("server %d: projected to %d ms after its promotion, from sequence %d", i, time.Since(began).Milliseconds(), had)
}

// sequence is how far a server has the projection; start starts it first, as it was.
func (f *failover) sequence(i int, start bool) (sequence int64) {
	f.t.Helper()
	if start {
		f.must(f.servers[i].Start(f.t.Context()))
	}
	f.withServer(i, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `select sequence from checkpoint`).Scan(&sequence)
	})
	return sequence
}

// ask runs a statement on a server.
func (f *failover) ask(i int, sql string) {
	f.t.Helper()
	f.withServer(i, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

func (f *failover) withServer(i int, do func(context.Context, *pgx.Conn) error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), testrig.SpeakBound)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.servers[i].URL())
	if err == nil {
		err = do(ctx, conn)
		_ = conn.Close(ctx)
	}
	if err != nil {
		f.t.Fatalf("server %d: %v", i, err)
	}
}
