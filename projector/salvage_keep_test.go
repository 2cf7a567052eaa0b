package projector

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
)

// goBack makes the stream end at a sequence, as a store does that was damaged or is
// restored from a backup: what comes then gets sequences that were used already.
func (b *bench) goBack(to uint64) {
	b.t.Helper()
	old, err := b.js.Stream(b.t.Context(), bus.Stream)
	if err != nil {
		b.t.Fatal(err)
	}
	var kept []*nats.Msg
	for sequence := uint64(1); sequence <= to; sequence++ {
		m, err := old.GetMsg(b.t.Context(), sequence)
		if err != nil {
			b.t.Fatal(err)
		}
		kept = append(kept, &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data})
	}
	if err := b.js.DeleteStream(b.t.Context(), bus.Stream); err != nil {
		b.t.Fatal(err)
	}
	s, err := bus.CreateStream(b.t.Context(), b.js, 0, bus.MinMaxBytes)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, m := range kept {
		if _, err := b.js.PublishMsg(b.t.Context(), m); err != nil {
			b.t.Fatal(err)
		}
	}
	if _, err := b.pool.Exec(b.t.Context(), `update checkpoint set stream_created = $1`, bus.CreatedAt(s.CachedInfo())); err != nil {
		b.t.Fatal(err)
	}
}

// conn is a connection as the projector's.
func (b *bench) conn() *pgx.Conn {
	b.t.Helper()
	conn, err := connect(b.t.Context(), b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// What the database has applied is not applied again by a salvage, wherever the store
// went back to: what retention dropped does not come back by its creation, by a change
// of it or by a retry, what was deleted does not by a condition that holds today, and
// what came after the store went back is all there.
func TestSalvageKeepsWhatIsThere(t *testing.T) {
	for _, tt := range []struct {
		name   string
		back   float64 // which part of the stream is still there
		drop   bool    // the oldest segment is dropped before
		forget bool    // the database remembers no message but the last
	}{
		{"the last messages are lost, and what was applied is known by its rows only", 0.9, false, true},
		{"the store is from before points were dropped", 0.5, true, false},
		{"all of the store is of dropped points", 0.1, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) { testSalvageKeeps(t, tt.back, tt.drop, tt.forget) })
	}
}

func testSalvageKeeps(t *testing.T, back float64, drop, forget bool) {
	const headRows = 100
	b := newBench(t)
	sizes := func(c *Config) { c.sizes = unmerged(headRows) }
	stop := b.start(sizes)
	random, ids := rand.New(rand.NewPCG(5, 6)), someIDs(600)
	b.changes(random, ids, 12)
	if drop {
		b.waitSealed()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		stop = b.dropOldest(unmerged(headRows))
		b.changes(random, ids, 3)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if forget {
		b.exec("truncate applied_messages")
	}
	before, parked := b.whole(), b.count("select count(*) from parked")
	b.goBack(uint64(float64(b.count("select sequence from checkpoint")) * back))
	b.publish(line("x", `{}`), line("y", `{}`))
	b.publish(lineOf(event.Event{ID: event.Key("x"), Type: event.Deleted, Received: time.Now().UTC()}))
	b.start(sizes)
	done, err := b.salvage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.waitFor(event.At(done.First+done.Published-1, 0))
	if n := b.count("select count(*) from points where id = '" + event.Key("y").String() + "'"); n != 1 {
		t.Error("what came after the store went back is lost")
	}
	b.exec(fmt.Sprintf("delete from points_%d where id in ('%s', '%s')", b.count("select id from segments where state = 'head'"), event.Key("x"), event.Key("y")))
	if after := b.whole(); after != before {
		t.Errorf("%+v: %s", done, difference(before, after))
	}
	if done.Published != 2 {
		t.Errorf("%d messages published, want the two that came last", done.Published)
	}
	if n := b.count("select count(*) from parked"); n != parked {
		t.Errorf("%d events were parked, before it %d", n, parked)
	}
}
