package projector

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/hosts"
	"cairn/internal/testkit"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

func (b *bench) purgeBelow(sequence uint64) {
	b.t.Helper()
	if err := b.stream().Purge(b.t.Context(), jetstream.WithPurgeSequence(sequence)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) rebuild() (Rebuilt, error) {
	return Rebuild(b.t.Context(), b.bus.Endpoint(bus.UserProjector), b.url, testkit.Log(b.t))
}

// writeOn creates points until end is called, which says how many, and the last position.
func (b *bench) writeOn(name string) (end func() (written int, last event.Position)) {
	b.t.Helper()
	var group sync.WaitGroup
	stop := make(chan struct{})
	var written int
	var last event.Position
	group.Go(func() {
		for ; ; written++ {
			select {
			case <-stop:
				return
			default:
			}
			last = b.publish(line(fmt.Sprint(name, written), `{}`))
		}
	})
	return func() (int, event.Position) { close(stop); group.Wait(); return written, last }
}

// readOn counts points until end is called; there must be so many at least.
func (b *bench) readOn(least int) (end func()) {
	b.t.Helper()
	var group sync.WaitGroup
	stop := make(chan struct{})
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			var n int
			if err := b.pool.QueryRow(b.t.Context(), "select count(*) from points").Scan(&n); err != nil || n < least {
				b.t.Errorf("a read during the rebuild: %d points, %v", n, err)
				return
			}
		}
	})
	return func() { close(stop); group.Wait() }
}

func TestRebuildReplacesDamagedRowsWhileWritesGoOn(t *testing.T) {
	b := newBench(t)
	reader := "reader_" + b.database()
	b.exec("create role " + reader + "; grant select on points to " + reader)
	t.Cleanup(func() { b.exec("drop owned by " + reader + "; drop role " + reader) })
	before := b.indexes()
	b.start()
	for i := range 50 {
		b.publish(line(fmt.Sprint("a", i), `{"v":1}`), line(fmt.Sprint("b", i), `{"v":1}`))
	}
	last := b.publish(line("a1", `{"v":2}`)) // parked
	b.waitFor(last)
	b.purgeBelow(21)
	// Damage: within the replay window it is fixed, before it stays.
	b.exec(fmt.Sprintf("update points_1 set name = 'wrong' where position >= %d", event.At(21, 0)))
	b.exec(fmt.Sprintf("update points_1 set name = 'old' where position < %d", event.At(21, 0)))
	b.exec(fmt.Sprintf("delete from points_1 where position = %d", event.At(30, 0)))

	endWrites, endReads := b.writeOn("c"), b.readOn(99)
	done, err := b.rebuild()
	written, newest := endWrites()
	endReads()
	if err != nil {
		t.Fatal(err)
	}
	b.waitFor(max(last, newest))
	if done.Kept != 40 || done.From != 21 || done.Replayed < 61 {
		t.Errorf("rebuilt %+v", done)
	}
	if n := b.count("select count(*) from points"); n != 100+written {
		t.Errorf("%d points, want %d", n, 100+written)
	}
	if wrong, old := b.count("select count(*) from points where name = 'wrong'"), b.count("select count(*) from points where name = 'old'"); wrong != 0 || old != 40 {
		t.Errorf("%d damaged rows of the replay window left, %d rows of before it", wrong, old)
	}
	if n := b.count("select count(*) from parked"); n != 1 {
		t.Errorf("%d parked, want the one of before", n)
	}
	if after := b.indexes(); after != before {
		t.Errorf("indexes\n were %s\n are  %s", before, after)
	}
	if n := b.count("select count(*) from information_schema.role_table_grants where table_name = 'points' and grantee = '" + reader + "'"); n != 1 {
		t.Error("the reader lost its grant")
	}
	if n := b.count("select count(*) from trim_hold"); n != 0 {
		t.Error("the hold stayed")
	}
	if _, err := b.rebuild(); err != nil { // and again, as it is now
		t.Error(err)
	}
}

// changes publishes random events about the ids, a hundred in each batch, so that heads
// are full and segments many. It says where the last is.
func (b *bench) changes(random *rand.Rand, ids []uuid.UUID, batches int) (last event.Position) {
	b.t.Helper()
	var revisions []event.Position
	for range batches {
		var lines []string
		for range 100 {
			e, _ := randomEvent(random, ids, revisions)
			lines = append(lines, lineOf(e))
		}
		last = b.publish(lines...)
		revisions = append(revisions, last)
		b.waitFor(last)
	}
	return last
}

// A table that was made of changes is the same afterwards, row by row: revisions,
// tombstones and all, wherever the replay window begins. What retention dropped does
// not come back from the stream, though its changes and late retries are still there;
// what was put again since stays where that put it.
func TestRebuildOfChanges(t *testing.T) {
	for _, tt := range []struct {
		name   string
		window float64 // which part of the stream is still there
		drop   bool    // the oldest segment is dropped before
	}{
		{"all of the stream is there", 1, false},
		{"the latter half of it is", 0.5, false},
		{"nothing but the end is", 0.02, false},
		{"all is there, and some was dropped", 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) { testRebuildOfChanges(t, tt.window, tt.drop) })
	}
}

func testRebuildOfChanges(t *testing.T, window float64, drop bool) {
	const headRows = 100
	b := newBench(t)
	sizes := smallSizes(headRows)
	if drop {
		sizes = unmerged(headRows)
	}
	stop := b.start(func(c *Config) { c.sizes = sizes })
	random, ids := rand.New(rand.NewPCG(3, 4)), someIDs(600)
	last := b.changes(random, ids, 20)
	if drop {
		b.waitSealed()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		stop = b.dropOldest(sizes)
		last = b.changes(random, ids, 10)
	}
	if first := last.Sequence() - uint64(float64(last.Sequence())*window); first > 0 {
		b.purgeBelow(first)
	}
	before := b.whole()
	if before == "" || strings.Count(before, "tombstone") == 0 {
		t.Fatalf("there is nothing to lose: %s", before)
	}
	done, err := b.rebuild()
	if err != nil {
		t.Fatal(err)
	}
	if after := b.whole(); after != before {
		t.Errorf("%+v: %s", done, difference(before, after))
	}
	// And what comes then continues from there.
	b.waitFor(b.publish(line("new", `{}`)))
	if !drop {
		b.settle(headRows)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.checkCatalogue()
}

// difference counts the lines that only one of two texts has, and shows some of them.
func difference(before, after string) string {
	were, are := strings.Split(before, "\n"), strings.Split(after, "\n")
	lost := slices.DeleteFunc(slices.Clone(were), func(row string) bool { return slices.Contains(are, row) })
	came := slices.DeleteFunc(slices.Clone(are), func(row string) bool { return slices.Contains(were, row) })
	some := func(rows []string) string { return strings.Join(rows[:min(3, len(rows))], "\n") }
	return fmt.Sprintf("%d rows of before, such as\n%s\n%d rows of after, such as\n%s", len(lost), some(lost), len(came), some(came))
}

// whole is every column of every row, tombstones too.
func (b *bench) whole() (all string) {
	b.t.Helper()
	testkit.Eventually(b.t, patience, "no segment to be rewritten while all are read", func() bool {
		before := b.count("select catalogue from checkpoint")
		lines, err := b.lines()
		if hasCode(err, "42P01") { // it was rewritten, and dropped
			return false
		}
		if err != nil {
			b.t.Fatal(err)
		}
		all = strings.Join(lines, "\n")
		return b.count("select catalogue from checkpoint") == before
	})
	return all
}

func (b *bench) lines() ([]string, error) {
	all, err := schema.Segments(b.t.Context(), b.pool)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, s := range all {
		if s.State != schema.Sealed && s.State != schema.Head {
			continue
		}
		rows, err := b.pool.Query(b.t.Context(), `select (case when geom is null then 'tombstone ' else '' end) || (to_jsonb(p) - 'received_at')::text from (select `+
			schema.List("", schema.Columns)+` from `+schema.Table(s.ID)+`) p`)
		if err != nil {
			return nil, err
		}
		some, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		lines = append(lines, some...)
	}
	slices.Sort(lines)
	return lines, nil
}

func TestRebuildRefusesWhatDoesNotMeet(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.publish(line("b", `{}`))
	b.publish(line("c", `{}`))
	b.purgeBelow(3) // b was never projected
	_, err := b.rebuild()
	if err == nil || !strings.Contains(err.Error(), "begins at sequence 3") {
		t.Errorf("got %v", err)
	}
	if n := b.count("select count(*) from pg_class where relkind = 'r' and relname ~ '^points_[0-9]+$' and relname <> 'points_1'"); n != 0 {
		t.Error("the new table was left behind")
	}
	if n := b.count("select count(*) from points"); n != 1 {
		t.Errorf("%d points, want 1", n)
	}
}

func TestTrimmingRespectsHolds(t *testing.T) {
	b := newBench(t)
	b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	p := &projector{source: source{url: b.url, seen: &hosts.Seen{}}}
	b.exec("insert into trim_hold values ('mine', 7, now() + interval '1 hour'), ('stale', 3, now() - interval '1 second')")
	if got, err := p.held(t.Context()); err != nil || got != 7 {
		t.Errorf("held from %d, %v; want 7", got, err)
	}
}

func (b *bench) indexes() (s string) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), "select regexp_replace(indexdef, 'points_[0-9]+', 'points_N', 'g') from pg_indexes where tablename = (select 'points_' || id from segments where state = 'head') order by 1")
	if err != nil {
		b.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Join(list, "\n")
}

func (b *bench) database() (s string) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "select current_database()").Scan(&s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// What came while a rebuild replayed is applied within the transaction of its swap: several
// batches, one after the other, as they would be on their own.
func TestBatchesOfOneTransaction(t *testing.T) {
	b := newBench(t)
	id := uuid.New()
	ctx := t.Context()
	conn, err := connect(ctx, b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	w := &writer{conn: conn, log: testkit.Log(t), bracket: nested, inPlace: map[int]int{}}
	if _, err := conn.Exec(ctx, "begin; select from checkpoint for update"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		kind, name string
		outcome    bus.Outcome
	}{
		{event.Put, "one", bus.OutcomeCreated}, {event.Put, "two", bus.OutcomeReplaced}, {event.Put, "two", bus.OutcomeUnchanged},
		{event.Deleted, "", bus.OutcomeDeleted}, {event.Put, "two", bus.OutcomeCreated}, {event.Put, "one", bus.OutcomeReplaced},
	} {
		e := event.Event{ID: id, Type: want.kind, Received: time.Now().UTC()}
		if want.kind == event.Put {
			e.Point = pointOf(want.name)
		}
		sequence := w.at.sequence + 1
		next := newBatch(sequence)
		if err := next.add(new(event.Decoder), sequence, "next", []byte(lineOf(e))); err != nil {
			t.Fatal(err)
		}
		v, err := w.apply(ctx, next)
		if err != nil {
			t.Fatal(err)
		}
		if v.counted[want.outcome] != 1 {
			t.Errorf("batch %d, %s %s: %v, want %s", i+1, want.kind, want.name, v.counted, want.outcome)
		}
	}
	if _, err := conn.Exec(ctx, "commit"); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`select count(*) from points where properties->>'v' = 'one'`); n != 1 {
		t.Error("the point is not what the last batch made of it")
	}
}

// Who reads the view for long does not delay a rebuild: the view follows when that ends.
func TestRebuildBesideAReader(t *testing.T) {
	b := newBench(t)
	b.start()
	b.waitFor(b.publish(line("a", `{"v":1}`)))
	reader, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Rollback(context.Background()) }()
	if _, err := reader.Exec(t.Context(), `select count(*) from points`); err != nil {
		t.Fatal(err)
	}
	conn, err := connect(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	old := func() bool {
		old, err := viewIsOld(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		return old
	}
	if done, err := b.rebuild(); err != nil || done.Replayed != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if !old() {
		t.Error("the view changed while it was read: this test cannot tell")
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the view to follow", func() bool { return !old() })
}
