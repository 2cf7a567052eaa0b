package projector

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/testkit"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/paulmach/orb"
)

// A model is what events mean, written once more and as plainly as can be.
type model struct {
	points map[uuid.UUID]*modelPoint
}

type modelPoint struct {
	position, revision event.Position
	value              string // "" where it was deleted
}

func (m *model) apply(e event.Event, at event.Position, value string) bus.Outcome {
	p := m.points[e.ID]
	live := p != nil && p.value != ""
	revision, exact := e.If.Revision()
	if e.If.None() && live {
		return bus.OutcomePrecondition
	}
	if area := e.If.Area(); area != nil && p != nil && (!live || !area.Has(float64(p.value[0]-'0'), 1)) {
		switch {
		case e.If.Any() || exact || e.Type == event.Deleted:
			return bus.OutcomeMissing
		case live:
			return bus.OutcomeOutside
		}
	}
	if e.If.Any() || exact || e.Type == event.Deleted {
		if p == nil {
			return bus.OutcomeMissing
		}
		if !live {
			return bus.OutcomeGone
		}
	}
	if exact && p.revision != revision {
		return bus.OutcomePrecondition
	}
	switch e.Type {
	case event.Deleted:
		p.value, p.revision = "", at
		return bus.OutcomeDeleted
	case event.Created:
		switch {
		case p == nil:
			m.points[e.ID] = &modelPoint{at, at, value}
			return bus.OutcomeCreated
		case !live:
			return bus.OutcomeLate
		case p.value != value:
			return bus.OutcomeConflict
		}
		return bus.OutcomeUnchanged
	}
	switch {
	case p == nil:
		m.points[e.ID] = &modelPoint{at, at, value}
		return bus.OutcomeCreated
	case p.value == value:
		return bus.OutcomeUnchanged
	}
	p.value, p.revision = value, at
	if live {
		return bus.OutcomeReplaced
	}
	return bus.OutcomeCreated
}

func (m *model) String() string {
	var lines []string
	for id, p := range m.points {
		lines = append(lines, fmt.Sprintf("%s %d %d %s", id, p.position, p.revision, p.value))
	}
	return sorted(lines)
}

func sorted(lines []string) string {
	for i := range lines { // few
		for j := i; j > 0 && lines[j] < lines[j-1]; j-- {
			lines[j], lines[j-1] = lines[j-1], lines[j]
		}
	}
	return strings.Join(lines, "\n")
}

// rows are all points and tombstones, as the model writes them.
func (b *bench) rows() string {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), "select id from segments where state in ('sealed', 'head') order by low")
	if err != nil {
		b.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		b.t.Fatal(err)
	}
	var parts []string
	for _, id := range ids {
		parts = append(parts, fmt.Sprintf(`select id, position, revision, geom, properties from points_%d`, id))
	}
	rows, err = b.pool.Query(b.t.Context(), `select concat_ws(' ', id, position, coalesce(revision, position), case when geom is null then '' else properties ->> 'v' end)
		from (`+strings.Join(parts, " union all ")+`) a`)
	if err != nil {
		b.t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.t.Fatal(err)
	}
	return sorted(lines)
}

// ids of each kind: of version 7, a client's, and of one request's rows.
func someIDs(n int) (ids []uuid.UUID) {
	for i := range n {
		switch i % 3 {
		case 0:
			ids = append(ids, event.NewKey())
		case 1:
			ids = append(ids, event.Key(fmt.Sprint("van-", i)))
		default:
			ids = append(ids, event.RowsOf(event.Upload, "", "load").Key(int64(i)))
		}
	}
	return ids
}

// randomEvent is about one of the ids. Its value, what v is in its properties,
// is one of few, so that some say the same as what is there.
func randomEvent(random *rand.Rand, ids []uuid.UUID, revisions []event.Position) (e event.Event, value string) {
	value = fmt.Sprint(random.IntN(4))
	e = event.Event{ID: ids[random.IntN(len(ids))], Received: time.Now().UTC().Truncate(time.Microsecond),
		Type: []string{event.Created, event.Put, event.Put, event.Deleted}[random.IntN(4)]}
	if e.Type != event.Created {
		switch random.IntN(6) {
		case 0:
			e.If = event.IfNone()
		case 1:
			e.If = event.IfAny()
		case 2:
			if len(revisions) > 0 {
				e.If = event.IfRevision(revisions[random.IntN(len(revisions))])
			}
		}
		if random.IntN(4) == 0 { // of the four places, two are in it
			e.If = e.If.Within(&event.Area{0.5, 0, 2.5, 2})
		}
	}
	if e.Type != event.Deleted {
		e.Point = event.Point{Position: orb.Point{float64(random.IntN(4)), 1}, Altitude: math.NaN(), Properties: []byte(`{"v":"` + value + `"}`)}
		e.Point.Position[0] = float64(value[0] - '0')
	}
	return e, value
}

// settle waits until there is nothing left to seal, merge, split or show.
func smallSizes(head int64) segmentSizes {
	if head == 0 {
		return segmentSizes{}
	}
	return segmentSizes{head: head, fan: 3, most: 16 * head, lazy: 6, grace: time.Millisecond}
}

func (b *bench) settle(headRows int64) {
	b.t.Helper()
	m := &maintenance{sizes: smallSizes(headRows)}
	conn, err := connect(b.t.Context(), b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	testkit.Eventually(b.t, 2*patience, "all segments to be sealed and merged", func() bool {
		all, err := schema.Segments(b.t.Context(), conn)
		if err != nil {
			return false
		}
		for i := range all {
			s := &all[i]
			if s.State == schema.Filling || s.State == schema.Sealed && (!s.Known() || *s.Rows > 2*m.sizes.most) {
				return false
			}
		}
		if id, err := foldable(b.t.Context(), conn, foldPart); err != nil || id != 0 {
			return false
		}
		old, err := viewIsOld(b.t.Context(), conn)
		return err == nil && !old && m.mergeable(all) == nil
	})
}

// checkCatalogue looks whether what the catalogue says is true: the segments meet,
// no id is in two, and nobody who skips one by its metadata misses a point.
func (b *bench) checkCatalogue() {
	b.t.Helper()
	all, err := schema.Segments(b.t.Context(), b.pool)
	if err != nil {
		b.t.Fatal(err)
	}
	low, ids := int64(b.count("select floor from checkpoint")), map[string]int{}
	for i := range all {
		s := &all[i]
		if s.State != schema.Sealed && s.State != schema.Head {
			continue
		}
		if s.Low > low && low > 0 || s.Low < low || s.High <= s.Low {
			b.t.Errorf("segment %d has positions %d to %d, after %d", s.ID, s.Low, s.High, low)
		}
		low = s.High
		rows, err := b.pool.Query(b.t.Context(), `select id::text from `+schema.Table(s.ID))
		if err != nil {
			b.t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			b.t.Fatal(err)
		}
		for _, id := range list {
			if other, twice := ids[id]; twice {
				b.t.Errorf("id %s is in segments %d and %d", id, other, s.ID)
			}
			ids[id] = s.ID
		}
		if n := b.count(fmt.Sprintf(`select count(*) from %s where position < %d or position >= %d`, schema.Table(s.ID), s.Low, s.High)); n > 0 {
			b.t.Errorf("%d positions of segment %d are out of its range", n, s.ID)
		}
		if s.Known() {
			b.checkMetadata(s)
		}
	}
	if low != schema.HeadEnd {
		b.t.Errorf("the last segment ends at %d", low)
	}
	if n, m := b.count("select count(*) from points"), strings.Count(strings.ReplaceAll(b.rows()+"\n", " \n", ""), "\n"); n != m {
		b.t.Errorf("the view has %d points, the segments %d", n, m)
	}
}

func (b *bench) checkMetadata(s *schema.Segment) {
	b.t.Helper()
	var found *holds
	err := pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) (err error) {
		found, err = lookInto(b.t.Context(), tx, schema.Table(s.ID))
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if *found.rows != *s.Rows || found.revision > *s.Revision || found.otherIDs != *s.OtherIDs {
		b.t.Errorf("segment %d has %d points, revision %d and %d other ids; the catalogue says %d, %d and %d", s.ID,
			*found.rows, found.revision, found.otherIDs, *s.Rows, *s.Revision, *s.OtherIDs)
	}
	for cell, n := range found.counts {
		if n > 0 && s.Cells[cell] == 0 {
			b.t.Errorf("segment %d has points in cell %d", s.ID, cell)
		}
	}
	if *found.rows == 0 {
		return
	}
	if *found.west < *s.West || *found.south < *s.South || *found.east > *s.East || *found.north > *s.North ||
		found.timeFrom.Before(*s.TimeFrom) || found.timeTo.After(*s.TimeTo) {
		b.t.Errorf("segment %d is wider than the catalogue says", s.ID)
	}
	checkZones(b.t, b.pool, s)
}

// checkZones looks whether a reader who goes by the zones misses a point.
func checkZones(t *testing.T, db *pgxpool.Pool, s *schema.Segment) {
	t.Helper()
	rows, err := db.Query(t.Context(), `select position, coalesce(observed_at, received_at) from `+schema.Table(s.ID)+` where geom is not null`)
	if err != nil {
		t.Fatal(err)
	}
	var position int64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&position, &at}, func() error {
		if low, high := s.PositionsWithin(at.UnixMicro(), at.UnixMicro()); position < low || position >= high {
			t.Errorf("segment %d: by its zones, what is of %s lies from %d to %d, and there is a point at %d", s.ID, at, low, high, position)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func lineOf(e event.Event) string {
	return strings.TrimSuffix(string(event.AppendEvent(nil, &e)), "\n")
}

// An outcomes collects what is announced.
type outcomes struct {
	mu   sync.Mutex
	told map[event.Position]bus.Outcome
}

func (b *bench) listen() *outcomes {
	b.t.Helper()
	o := &outcomes{told: map[event.Position]bus.Outcome{}}
	nc := b.dial(bus.UserQuery).Conn()
	err := bus.OnApplied(nc, func(a bus.Applied) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if a.First == 0 {
			return
		}
		for s := a.First; s <= a.Sequence; s++ {
			for i := range 400 {
				o.told[event.At(s, i)], _ = a.Outcome(event.At(s, i))
			}
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		b.t.Fatal(err)
	}
	return o
}

func (o *outcomes) of(p event.Position) bus.Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.told[p]
}

// Random events, many of one id in a batch, do what the model says, and each is
// told what became of it: in one segment, and in many that are sealed and merged
// meanwhile, by projectors that are stopped at any point.
func TestChangesAreAsTheModelSays(t *testing.T) {
	for _, rows := range []int64{0, 20} {
		t.Run(fmt.Sprintf("heads of %d rows", rows), func(t *testing.T) { testChanges(t, rows) })
	}
}

func testChanges(t *testing.T, headRows int64) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t)
	heard := b.listen()
	small := func(c *Config) { c.sizes = smallSizes(headRows) }
	stop := b.start(small)
	m := &model{points: map[uuid.UUID]*modelPoint{}}
	ids := someIDs(60 + 10*int(headRows))
	want := map[event.Position]bus.Outcome{}
	var revisions []event.Position
	for range 12 {
		var events []event.Event
		var values, lines []string
		for range 1 + random.IntN(200) {
			e, value := randomEvent(random, ids, revisions)
			events, values, lines = append(events, e), append(values, value), append(lines, lineOf(e))
		}
		first := b.publish(lines...)
		for i, e := range events {
			at := first + event.Position(i)
			want[at] = m.apply(e, at, values[i])
		}
		for _, p := range m.points {
			revisions = append(revisions, p.revision)
		}
		if headRows > 0 && random.IntN(3) == 0 {
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			stop = b.start(small)
		}
		b.waitFor(first)
		if got := b.rows(); got != m.String() {
			t.Fatalf("rows\n%s\nwant\n%s", got, m)
		}
	}
	if headRows > 0 {
		b.settle(headRows)
	}
	if got := b.rows(); got != m.String() {
		t.Fatalf("in the end, rows\n%s\nwant\n%s", got, m)
	}
	b.checkCatalogue()
	if headRows > 0 {
		return // a restart loses announcements
	}
	testkit.Eventually(t, patience, "all outcomes to be told", func() bool {
		for p := range want {
			if heard.of(p) == "" {
				return false
			}
		}
		return true
	})
	for p, outcome := range want {
		if got := heard.of(p); got != outcome {
			t.Errorf("%d: %s, want %s", p, got, outcome)
		}
	}
}

// What ingest asks before it merges a patch.
func TestAnswersForPoints(t *testing.T) {
	b := newBench(t)
	b.start()
	e := event.Event{ID: event.Key("42"), Type: event.Created, Received: time.Now().UTC(),
		Point: event.Point{ExternalID: []byte("42"), Position: orb.Point{2.5, 48.25}, Altitude: 7, Properties: []byte(`{"a": 1.10}`),
			Time: time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC), Members: []byte(`{"m": []}`)}}
	nc := b.dial(bus.UserIngest).Conn()
	ask := func(what string, want func(bus.Stored) bool) bus.Stored {
		t.Helper()
		stored, err := bus.Read(t.Context(), nc, e.ID)
		if err != nil || !want(stored) {
			t.Fatalf("%s: %+v %s, %v", what, stored, stored.Point, err)
		}
		return stored
	}
	ask("never was", func(s bus.Stored) bool { return !s.Found && s.Point == nil })
	created := b.publish(lineOf(e))
	b.waitFor(created)
	const feature = `{"type":"Feature","id":42,"geometry":{"type":"Point","coordinates":[2.5,48.25,7]},"properties":{"a": 1.10},"time":"1999-12-31T23:59:59Z","m": []}`
	ask("created", func(s bus.Stored) bool {
		return s.Found && !s.Deleted && s.Position == created && s.Revision == created && jsonEqual(s.Point, feature)
	})
	e.Type, e.If, e.Point.Position = event.Put, event.IfRevision(created), orb.Point{1, 1}
	put := b.publish(lineOf(e))
	b.waitFor(put)
	ask("replaced", func(s bus.Stored) bool { return s.Position == created && s.Revision == put })
	testkit.Eventually(t, patience, "/status to tell of changes", func() bool {
		s := b.status()
		return s.ChangesPerSecond > 0 && s.ChangesPerSecond < s.EventsPerSecond && s.Lag == 0
	})
	e.Type, e.If = event.Deleted, event.Condition{}
	gone := b.publish(lineOf(e))
	b.waitFor(gone)
	ask("deleted", func(s bus.Stored) bool { return s.Found && s.Deleted && s.Revision == gone && s.Point == nil })
}

func jsonEqual(a json.RawMessage, b string) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
