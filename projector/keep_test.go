package projector

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/testkit"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// dropOldest makes the oldest sealed segment too old, and runs a projector with --keep until
// it is gone.
func (b *bench) dropOldest(sizes segmentSizes) (stop func() error) {
	b.t.Helper()
	floor := b.count("select floor from checkpoint")
	oldest := b.count(`select id from segments where state = 'sealed' order by low limit 1`)
	b.exec(fmt.Sprintf(`update segments set received_to = now() - interval '2 days' where id = %d`, oldest))
	stop = b.start(func(c *Config) { c.sizes, c.Keep = sizes, 24*time.Hour })
	testkit.Eventually(b.t, patience, "the oldest points to go", func() bool { return b.count("select floor from checkpoint") > floor })
	return stop
}

// unmerged are sizes with which there is an oldest segment, and more.
func unmerged(head int64) segmentSizes {
	s := smallSizes(head)
	s.fan = 100
	return s
}

// An attempt is something that a client does to a point which may have been dropped.
type attempt struct {
	name, kind, value    string
	need                 func(revision event.Position) event.Condition
	live, deleted, never bus.Outcome // what becomes of it, by what the point is
}

func always(c event.Condition) func(event.Position) event.Condition {
	return func(event.Position) event.Condition { return c }
}

var attempts = []attempt{
	{"its creation again", event.Created, "1", always(event.Condition{}), bus.OutcomeUnchanged, bus.OutcomeLate, bus.OutcomeCreated},
	{"another creation", event.Created, "other", always(event.Condition{}), bus.OutcomeConflict, bus.OutcomeLate, bus.OutcomeCreated},
	{"put", event.Put, "3", always(event.Condition{}), bus.OutcomeReplaced, bus.OutcomeCreated, bus.OutcomeCreated},
	{"put if there is none", event.Put, "3", always(event.IfNone()), bus.OutcomePrecondition, bus.OutcomeCreated, bus.OutcomeCreated},
	{"put if there is one", event.Put, "3", always(event.IfAny()), bus.OutcomeReplaced, bus.OutcomeGone, bus.OutcomeMissing},
	{"patch of what it was", event.Put, "3", event.IfRevision, bus.OutcomeReplaced, bus.OutcomeGone, bus.OutcomeMissing},
	{"deletion", event.Deleted, "", always(event.Condition{}), bus.OutcomeDeleted, bus.OutcomeGone, bus.OutcomeMissing},
	{"deletion of what it was", event.Deleted, "", event.IfRevision, bus.OutcomeDeleted, bus.OutcomeGone, bus.OutcomeMissing},
}

func eventOf(id, kind, value string, need event.Condition) event.Event {
	e := event.Event{ID: event.Key(id), Type: kind, Received: time.Now().UTC().Truncate(time.Microsecond), If: need}
	if kind != event.Deleted {
		e.Point = pointOf(value)
	}
	return e
}

// A cell is a point of the table: what was done to it until retention came, and whether
// that dropped it, and what is done then.
type cell struct {
	id, state string
	dropped   bool
	attempt   attempt
	revision  event.Position // before the attempt
	position  event.Position // of the attempt
}

func cells() (all []*cell) {
	for _, dropped := range []bool{true, false} {
		for _, state := range []string{"created", "replaced", "deleted"} {
			for _, a := range attempts {
				all = append(all, &cell{id: fmt.Sprint(state, dropped, a.name), state: state, dropped: dropped, attempt: a})
			}
		}
	}
	return all
}

func (c *cell) want() bus.Outcome {
	switch {
	case c.dropped:
		return c.attempt.never
	case c.state == "deleted":
		return c.attempt.deleted
	}
	return c.attempt.live
}

// create publishes the cells' creations, with others so that the first head is full, and
// waits until that is sealed.
func (b *bench) create(all []*cell, dropped bool, others int) {
	b.t.Helper()
	var lines []string
	for i := range others {
		lines = append(lines, lineOf(eventOf(fmt.Sprint("other", dropped, i), event.Created, "1", event.Condition{})))
	}
	var mine []*cell
	for _, c := range all {
		if c.dropped != dropped {
			continue
		}
		value := "1"
		if c.state == "replaced" {
			value = "0"
		}
		mine, lines = append(mine, c), append(lines, lineOf(eventOf(c.id, event.Created, value, event.Condition{})))
	}
	first := b.publish(lines...)
	for i, c := range mine {
		c.revision = first + event.Position(others+i)
	}
	b.waitFor(first)
	b.waitSealed()
}

// waitSealed waits until there is a sealed segment, and it is known what each holds.
func (b *bench) waitSealed() {
	b.t.Helper()
	testkit.Eventually(b.t, patience, "segments to be sealed", func() bool {
		return b.count("select count(*) from segments where state = 'sealed' and rows is null") == 0 && b.count("select count(*) from segments where state = 'sealed'") > 0
	})
}

// replace makes the cells what their states say.
func (b *bench) replace(all []*cell) {
	b.t.Helper()
	var lines []string
	var mine []*cell
	for _, c := range all {
		switch c.state {
		case "replaced":
			mine, lines = append(mine, c), append(lines, lineOf(eventOf(c.id, event.Put, "1", event.Condition{})))
		case "deleted":
			mine, lines = append(mine, c), append(lines, lineOf(eventOf(c.id, event.Deleted, "", event.Condition{})))
		}
	}
	first := b.publish(lines...)
	for i, c := range mine {
		c.revision = first + event.Position(i)
	}
	b.waitFor(first)
}

// attempt does to each what it is for.
func (b *bench) attempt(all []*cell) {
	b.t.Helper()
	var lines []string
	for _, c := range all {
		lines = append(lines, lineOf(eventOf(c.id, c.attempt.kind, c.attempt.value, c.attempt.need(c.revision))))
	}
	first := b.publish(lines...)
	for i, c := range all {
		c.position = first + event.Position(i)
	}
	b.waitFor(first)
}

// What retention dropped is as what never was, whether it was live or deleted and
// changed since; what it kept is as it was. Nothing that applies events again changes
// what came of that: no rebuild, and no salvage of a store that went back.
func TestDroppedPointsAreAsNeverThere(t *testing.T) {
	const headRows = 100
	b := newBench(t)
	heard := b.listen()
	stop := b.start(func(c *Config) { c.sizes = unmerged(headRows) })
	all := cells()
	b.create(all, true, headRows)
	b.create(all, false, 0)
	b.replace(all)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = b.dropOldest(unmerged(headRows))
	nc := b.dial(bus.UserIngest).Conn()
	for _, c := range all { // as a patch asks
		found, err := bus.Read(t.Context(), nc, event.Key(c.id))
		if err != nil || found.Found == c.dropped || found.Deleted != (!c.dropped && c.state == "deleted") {
			t.Errorf("%s: %+v, %v", c.id, found, err)
		}
	}
	b.attempt(all)
	testkit.Eventually(t, patience, "all outcomes to be told", func() bool { return heard.of(all[len(all)-1].position) != "" })
	for _, c := range all {
		if got := heard.of(c.position); got != c.want() {
			t.Errorf("%s: %s, want %s", c.id, got, c.want())
		}
	}
	before := b.whole()
	done, err := b.rebuild()
	if err != nil {
		t.Fatal(err)
	}
	if after := b.whole(); after != before {
		t.Errorf("rebuilt %+v: %s", done, difference(before, after))
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	before = b.whole()
	b.goBack(all[0].position.Sequence() - 1) // before the attempts, and after what was dropped
	b.exec("update checkpoint set message_id = 'another'")
	b.start(func(c *Config) { c.sizes = unmerged(headRows) })
	salvaged, err := b.salvage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.waitFor(event.At(salvaged.First-1, 0))
	if after := b.whole(); after != before || salvaged.Published != 0 {
		t.Errorf("salvaged %+v: %s", salvaged, difference(before, after))
	}
}

// forget is what retention does.
func (m *model) forget(floor event.Position) {
	for id, p := range m.points {
		if p.position < floor {
			delete(m.points, id)
		}
	}
}

// A database that is restored from a backup, or a standby that was behind and is
// promoted, applies what it lacks and is as it was, but for what was dropped since: that
// is dropped again.
func TestARestoredDatabaseCatchesUp(t *testing.T) {
	const headRows = 60
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t)
	m, dropping := &model{points: map[uuid.UUID]*modelPoint{}}, &model{points: map[uuid.UUID]*modelPoint{}}
	ids := someIDs(300)
	var revisions []event.Position
	change := func(batches int) {
		for range batches {
			first, events, values := b.randomBatch(random, ids, revisions)
			revisions = append(revisions, first)
			for i, e := range events {
				m.apply(e, first+event.Position(i), values[i])
				dropping.apply(e, first+event.Position(i), values[i])
			}
			b.waitFor(first)
		}
	}
	stop := b.start(func(c *Config) { c.sizes = unmerged(headRows) })
	change(8)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.pool.Reset()
	backup := testkit.Backup(t, b.url)
	stop = b.start(func(c *Config) { c.sizes = unmerged(headRows) })
	change(4)
	b.waitSealed()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = b.dropOldest(unmerged(headRows))
	dropping.forget(event.Position(b.count("select floor from checkpoint")))
	change(4)
	if got := b.rows(); got != dropping.String() {
		t.Fatalf("with retention, rows\n%s\nwant\n%s", got, dropping)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	restored := *b
	restored.url = backup
	pool, err := pgxpool.New(t.Context(), backup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	restored.pool = pool
	stop = restored.start(func(c *Config) { c.sizes = unmerged(headRows) })
	restored.waitFor(revisions[len(revisions)-1])
	restored.waitSealed()
	if got := restored.rows(); got != m.String() {
		t.Fatalf("restored, rows\n%s\nwant\n%s", got, m)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	restored.dropOldest(unmerged(headRows))
	m.forget(event.Position(restored.count("select floor from checkpoint")))
	if got := restored.rows(); got != m.String() {
		t.Fatalf("restored, and dropped again, rows\n%s\nwant\n%s", got, m)
	}
	restored.checkCatalogue()
}

// randomBatch publishes events about the ids, in one envelope.
func (b *bench) randomBatch(random *rand.Rand, ids []uuid.UUID, revisions []event.Position) (first event.Position, events []event.Event, values []string) {
	b.t.Helper()
	var lines []string
	for range 1 + random.IntN(200) {
		e, value := randomEvent(random, ids, revisions)
		events, values, lines = append(events, e), append(values, value), append(lines, lineOf(e))
	}
	return b.publish(lines...), events, values
}
