package projector

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"cairn/event"
	"cairn/fence"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/paulmach/orb"
)

// Who enters and leaves an area is found in the batch's own transaction, by comparing
// where a name's newest point was with where it is: nothing is kept of who is where but
// the table latest. Each event of the batch is looked at in the stream's order, so that
// what is told does not depend on how the batches fell, and a point that is not the
// newest of its name tells nothing.
//
// A change of a fence tells nothing by itself: the next point is compared with the one
// before, both with the fence as it is by then.

// fences are those that there are, as of a number of the checkpoint.
type fences struct {
	number string // as Postgres writes it; "": not read yet
	known  map[string]knownFence
	set    *fence.Set // nil: there is none
	// gathered says that the table latest has every name, as of a catalogue.
	gathered    bool
	gatheredFor int64
}

type knownFence struct {
	revision int64
	*fence.Fence
}

// readFences brings the writer's list up to the checkpoint's number, which it holds.
func (w *writer) readFences(ctx context.Context, number string) error {
	if w.bracket != fenced || w.fences.number == number {
		return nil
	}
	rows, err := w.conn.Query(ctx, `select id, revision from fences`)
	if err != nil {
		return fmt.Errorf("read the fences: %w", err)
	}
	known := map[string]knownFence{}
	var other []string
	var id string
	var revision int64
	_, err = pgx.ForEachRow(rows, []any{&id, &revision}, func() error {
		if f, ok := w.fences.known[id]; ok && f.revision == revision {
			known[id] = f
			return nil
		}
		other = append(other, id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the fences: %w", err)
	}
	rows, err = w.conn.Query(ctx, `select id, revision, definition from fences where id = any($1)`, other)
	if err != nil {
		return fmt.Errorf("read the fences: %w", err)
	}
	var definition string
	_, err = pgx.ForEachRow(rows, []any{&id, &revision, &definition}, func() error {
		f, err := fence.Parse(id, []byte(definition))
		if err != nil {
			// A person's, or a later version's: the others go on.
			w.log.Error("a fence cannot be read, and tells nothing", "fence", id, "error", err)
			f = nil
		}
		known[id] = knownFence{revision, f}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the fences: %w", err)
	}
	w.fences.number, w.fences.known, w.fences.set = number, known, nil
	var all []*fence.Fence
	for _, f := range known {
		if f.Fence != nil {
			all = append(all, f.Fence)
		}
	}
	if len(all) > 0 {
		w.fences.set = fence.NewSet(all)
	}
	return nil
}

// detectsCrossings reports whether crossings are looked for. While the newest point of each name is
// gathered, after an upgrade or a rebuild, they are not: where a name was is not known.
func (w *writer) detectsCrossings(ctx context.Context) (bool, error) {
	if w.bracket != fenced || w.fences.set == nil {
		return false, nil
	}
	f := &w.fences
	if !f.gathered || f.gatheredFor != w.catalogue.number {
		err := w.conn.QueryRow(ctx, `select coalesce(bool_and(latest_done), true) from segments where state in ('`+schema.Head+`', '`+schema.Sealed+`')`).Scan(&f.gathered)
		if err != nil {
			return false, fmt.Errorf("ask whether the table latest is complete: %w", err)
		}
		f.gatheredFor = w.catalogue.number
	}
	return f.gathered, nil
}

// A spot is where the newest point of a name is.
type spot struct {
	fix
	id    uuid.UUID
	place orb.Point
	there bool // there is one
}

// spotsOf makes sure that the newest points of the names are known, as they are before
// the batch.
func (w *writer) spotsOf(ctx context.Context, names []string) error {
	slices.Sort(names)
	var unknown []string
	for _, name := range slices.Compact(names) {
		if _, ok := w.pending.spots[name]; ok || name == "" {
			continue
		}
		if _, waits := w.pending.newest[name]; waits { // since before there was a fence, or a restart
			if err := w.flushPending(ctx); err != nil {
				return err
			}
		}
		unknown = append(unknown, name)
	}
	for _, name := range unknown {
		w.pending.spots[name] = spot{}
	}
	return w.readSpots(ctx, unknown, func(name string, s spot, _ *string, _ *bool) { w.pending.spots[name] = s })
}

// readSpots reads the newest points of names, with their ids as they were given.
func (w *writer) readSpots(ctx context.Context, names []string, f func(name string, s spot, external *string, number *bool)) error {
	if len(names) == 0 {
		return nil
	}
	rows, err := w.conn.Query(ctx, `select name, id, position, coalesce(observed_at, received_at), st_x(geom), st_y(geom), external_id, external_id_number
		from latest where name = any($1) and geom is not null and position >= (select floor from checkpoint)`, names)
	if err != nil {
		return fmt.Errorf("read where names are: %w", err)
	}
	var name string
	var external *string
	var number *bool
	var at time.Time
	s := spot{there: true}
	_, err = pgx.ForEachRow(rows, []any{&name, (*[16]byte)(&s.id), (*int64)(&s.position), &at, &s.place[0], &s.place[1], &external, &number}, func() error {
		s.at = at.UnixMicro()
		f(name, s, external, number)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read where names are: %w", err)
	}
	return nil
}

// crossCreations finds the crossings of a batch that only created points.
func (w *writer) crossCreations(ctx context.Context, b *batch) error {
	if watches, err := w.detectsCrossings(ctx); err != nil || !watches || b.named == 0 {
		return err
	}
	names := make([]string, 0, b.named)
	for i := range b.rows {
		names = append(names, b.rows[i].name)
	}
	if err := w.spotsOf(ctx, names); err != nil {
		return err
	}
	for i := range b.rows {
		r := &b.rows[i]
		if r.name == "" {
			continue
		}
		to := spot{fix{r.time.UnixMicro(), r.position}, r.id, r.at, true}
		if from := w.pending.spots[r.name]; !from.there || to.newer(from.fix) {
			w.moves(r.name, to, crossing{row: r})
		}
	}
	return w.writeCrossings(ctx)
}

// A crossing is the event that moved a name.
type crossing struct {
	row   *row
	point json.RawMessage // the id of the newest point, where that is not the row's; nil: it is
}

// moves notes that a name's newest point is another one now, or none, and what it has
// entered and left by that.
func (w *writer) moves(name string, to spot, by crossing) {
	from := w.pending.spots[name]
	w.pending.spots[name] = to
	if from.there && to.there && from.place == to.place {
		return
	}
	var was, is []*fence.Fence
	var room [2][8]*fence.Fence
	if from.there {
		was = w.fences.set.At(room[0][:0], name, from.place)
	}
	if to.there {
		is = w.fences.set.At(room[1][:0], name, to.place)
	}
	for _, f := range was {
		if !slices.Contains(is, f) {
			w.cross(f, false, name, to, by)
		}
	}
	for _, f := range is {
		if !slices.Contains(was, f) {
			w.cross(f, true, name, to, by)
		}
	}
}

func (w *writer) cross(f *fence.Fence, entered bool, name string, to spot, by crossing) {
	e := fence.Event{Position: by.row.position, Fence: f.ID, Name: name, Entered: entered, Cause: by.row.kind,
		Time: time.UnixMicro(to.at).UTC(), Longitude: to.place[0], Latitude: to.place[1], Point: []byte(by.point)}
	switch {
	case !to.there:
		e.Time, e.Point, e.Longitude, e.Latitude = by.row.time, nil, math.NaN(), math.NaN()
	case e.Point == nil:
		e.Point = shownID(by.row)
	}
	w.crossed = append(w.crossed, e)
}

// shownID is the id of the row's point as the client gave it, as JSON.
func shownID(r *row) []byte {
	var e event.Event
	if err := new(event.Decoder).Event(r.event, &e); err == nil && e.Point.ExternalID != nil {
		return slices.Clone(e.Point.ExternalID)
	}
	return []byte(strconv.Quote(r.id.String()))
}

// changeCrossings are the crossings of a batch that may have changed points, while its
// changes are made.
type changeCrossings struct {
	// unsure are names whose newest point the batch took away, by the last event that had
	// to do with it: what is newest now, only the table can say.
	unsure map[string]*row
	order  []string
}

// crossChanges finds the crossings that follow from the events alone. It is called while the table
// latest is as it was before the batch.
func (w *writer) crossChanges(ctx context.Context, b *batch, v *verdict) (*changeCrossings, error) {
	watches, err := w.detectsCrossings(ctx)
	if err != nil || !watches {
		return nil, err
	}
	called := map[uuid.UUID]string{}
	var names []string
	for _, i := range v.applied {
		r := &b.rows[i]
		if p := v.points[r.id]; p.was && p.name != "" {
			called[r.id] = p.name
			names = append(names, p.name)
		}
		names = append(names, r.name)
	}
	if err := w.spotsOf(ctx, names); err != nil {
		return nil, err
	}
	c := &changeCrossings{unsure: map[string]*row{}}
	for _, i := range v.applied {
		r := &b.rows[i]
		if old := called[r.id]; old != "" && old != r.name {
			if s := w.pending.spots[old]; s.there && s.id == r.id || c.unsure[old] != nil {
				c.doubt(old, r)
			}
		}
		if called[r.id] = r.name; r.name == "" {
			continue
		}
		from, to := w.pending.spots[r.name], spot{fix{r.time.UnixMicro(), v.points[r.id].position}, r.id, r.at, true}
		same := from.there && from.id == r.id
		switch {
		case c.unsure[r.name] != nil, same && to.at < from.at:
			c.doubt(r.name, r)
		case same, !from.there, to.newer(from.fix):
			w.moves(r.name, to, crossing{row: r})
		}
	}
	return c, nil
}

func (c *changeCrossings) doubt(name string, r *row) {
	if c.unsure[name] == nil {
		c.order = append(c.order, name)
	}
	c.unsure[name] = r
}

// settleCrossings finds the others, when the table latest is as it is after the batch,
// and writes all down.
func (w *writer) settleCrossings(ctx context.Context, c *changeCrossings) error {
	if c == nil {
		return nil
	}
	type now struct {
		spot
		point []byte
	}
	found := map[string]now{}
	err := w.readSpots(ctx, c.order, func(name string, s spot, external *string, number *bool) {
		id := s.id.String()
		if external != nil {
			id = *external
		}
		point, _ := json.Marshal(id)
		if number != nil && *number {
			point = []byte(id)
		}
		found[name] = now{s, point}
	})
	if err != nil {
		return err
	}
	for _, name := range c.order {
		w.moves(name, found[name].spot, crossing{row: c.unsure[name], point: found[name].point})
	}
	return w.writeCrossings(ctx)
}

// writeCrossings writes the batch's crossings down.
func (w *writer) writeCrossings(ctx context.Context) error {
	if len(w.crossed) == 0 {
		return nil
	}
	slices.SortStableFunc(w.crossed, func(a, b fence.Event) int { return int(a.Position - b.Position) })
	n := len(w.crossed)
	positions, numbers, fences, names, entered, causes := make([]int64, n), make([]int16, n), make([]string, n), make([]string, n), make([]bool, n), make([]string, n)
	at, points, longitudes, latitudes := make([]time.Time, n), make([]*string, n), make([]*float64, n), make([]*float64, n)
	for i := range w.crossed {
		e := &w.crossed[i]
		if e.N = 0; i > 0 && w.crossed[i-1].Position == e.Position {
			e.N = w.crossed[i-1].N + 1
		}
		positions[i], numbers[i], fences[i], names[i], entered[i], causes[i], at[i] = int64(e.Position), int16(e.N), e.Fence, e.Name, e.Entered, e.Cause, e.Time //nolint:gosec // few
		if e.Point != nil {
			text := string(e.Point)
			points[i], longitudes[i], latitudes[i] = &text, &e.Longitude, &e.Latitude
		}
	}
	_, err := w.conn.Exec(ctx, `insert into fence_events (position, n, fence, name, entered, cause, at, point, longitude, latitude)
		select * from unnest($1::bigint[], $2::smallint[], $3::text[], $4::text[], $5::bool[], $6::text[], $7::timestamptz[], $8::text[], $9::float8[], $10::float8[])
		on conflict do nothing`, positions, numbers, fences, names, entered, causes, at, points, longitudes, latitudes)
	if err != nil {
		return fmt.Errorf("write who entered and left an area: %w", err)
	}
	return nil
}
