package projector

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/event"
	"cairn/internal/testkit"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/paulmach/orb"
)

// pointOf is a point whose property v has the value.
func pointOf(value string) event.Point {
	return event.Point{Position: orb.Point{float64(len(value)), 1}, Altitude: math.NaN(), Properties: []byte(`{"v":"` + value + `"}`)}
}

// change publishes events of one kind about the ids, in envelopes, and waits for them.
func (b *bench) change(kind, value string, ids []uuid.UUID, each func(event.Event, event.Position)) {
	b.t.Helper()
	const envelope = 50
	for some := range slices.Chunk(ids, envelope) {
		var events []event.Event
		var lines []string
		for _, id := range some {
			e := event.Event{ID: id, Type: kind, Received: time.Now().UTC()}
			if kind != event.Deleted {
				e.Point = pointOf(value)
			}
			events, lines = append(events, e), append(lines, lineOf(e))
		}
		first := b.publish(lines...)
		for i, e := range events {
			each(e, first+event.Position(i))
		}
		b.waitFor(first)
	}
}

// apart counts the rows in tables of changed rows, and the dead ones they left.
func (b *bench) apart() (n int) {
	b.t.Helper()
	parted, err := readParted(b.t.Context(), b.pool)
	if err != nil {
		b.t.Fatal(err)
	}
	for id := range parted {
		n += b.count("select count(*) from " + schema.ChangedTable(id))
	}
	return n
}

// Rows of a large segment that change move to a table beside it, as do tombstones;
// there they change in place. Whoever reads the segment sees each once. When it has
// become much, all is one table again.
func TestRowsThatChangeMoveAside(t *testing.T) {
	const head, points = 100, 900
	b := newBench(t)
	stop := b.start(func(c *Config) { c.sizes = smallSizes(head) })
	m := &model{points: map[uuid.UUID]*modelPoint{}}
	ids := someIDs(points)
	publish := func(kind, value string, ids []uuid.UUID) {
		t.Helper()
		b.change(kind, value, ids, func(e event.Event, at event.Position) { m.apply(e, at, value) })
	}
	publish(event.Created, "0", ids)
	b.settle(head)
	testkit.Eventually(t, patience, "/status to tell of the segments", func() bool {
		s := b.status().Segments
		return s != nil && s.Sealed > 0 && s.Unknown == 0 && int(s.Points) > points-2*head && s.Floor == 0
	})
	if n := b.apart(); n > 0 {
		t.Fatalf("%d rows lie apart before any was changed", n)
	}
	// Without maintenance, which would fold them.
	hold, err := connect(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, lock := range []string{segmentsLock, sealLock} {
		if err := lockSegments(t.Context(), hold, lock); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		kind, value string
		ids         []uuid.UUID
	}{{event.Put, "1", ids[:400]}, {event.Deleted, "", ids[300:500]}, {event.Put, "2", ids[200:400]}, {event.Created, "0", ids[400:500]}} {
		publish(step.kind, step.value, step.ids)
		if got := b.rows(); got != m.String() {
			t.Fatalf("after %s %s: rows\n%s\nwant\n%s", step.kind, step.value, got, m)
		}
	}
	if n := b.apart(); n < 300 {
		t.Errorf("%d rows lie apart, of 500 that were changed", n)
	}
	b.checkCatalogue()
	if err := hold.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.settle(head)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := b.rows(); got != m.String() {
		t.Fatalf("in the end, rows\n%s\nwant\n%s", got, m)
	}
	b.checkCatalogue()
}

// Who holds a segment's table keeps nobody waiting: its rows change in place.
func TestPartingWaitsForNobody(t *testing.T) {
	const head = 50
	b := newBench(t)
	b.start(func(c *Config) { c.sizes = smallSizes(head) })
	ids := someIDs(300)
	publish := func(kind, value string) {
		t.Helper()
		b.change(kind, value, ids, func(event.Event, event.Position) {})
	}
	publish(event.Created, "0")
	b.settle(head)
	holder, err := connect(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	tables := []string{}
	all, err := schema.Segments(t.Context(), b.pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.State == schema.Sealed {
			tables = append(tables, schema.Table(s.ID))
		}
	}
	if _, err := holder.Exec(t.Context(), "begin; lock table "+strings.Join(tables, ", ")+" in share update exclusive mode"); err != nil {
		t.Fatal(err)
	}
	publish(event.Put, "1")
	if n := b.apart(); n != 0 {
		t.Errorf("%d rows moved though the tables were held", n)
	}
	if _, err := holder.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	for n := 2; b.apart() == 0; n++ {
		publish(event.Put, fmt.Sprint(n))
		if n > 50 {
			t.Fatal("rows still change in place")
		}
	}
}
