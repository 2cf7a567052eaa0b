package query

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"cairn/event"
	"cairn/fence"
	"cairn/query/filter"
)

// fenceChangesSelect reads who entered and left which area after a position.
const fenceChangesSelect = `select c.sequence, c.fence_floor, e.* from checkpoint c left join lateral (select ` + fenceEventColumns + ` from fence_events
	where position > $1::bigint and position <= least($2::bigint, c.sequence << 12 | 4095) order by position, n limit $3::bigint) e on true where c.id`

const fenceEventColumns = `position, n, fence, name, entered, cause, at, recorded_at, point, longitude, latitude`

// maxFencesAsked bounds those that a stream names.
const maxFencesAsked = 100

// parseFences reads which fences a stream is about: none named, all.
func parseFences(value string) (filter.Expr, error) {
	if value == "" {
		return nil, nil //nolint:nilnil // no restriction
	}
	in := filter.In{Field: filter.Property("fence")}
	for id := range strings.SplitSeq(value, ",") {
		if err := fence.CheckID(id); err != nil {
			return nil, err
		}
		v, err := filter.TextValue(id)
		if err != nil {
			return nil, err
		}
		in.Values = append(in.Values, v)
	}
	if len(in.Values) > maxFencesAsked {
		return nil, errors.New("it names more than " + strconv.Itoa(maxFencesAsked) + " fences")
	}
	return in, nil
}

// fenceChanges reads what entered and left areas after a position, up to another. Whether
// it concerns a stream is for whoever hands it out to say.
func (s *service) fenceChanges(after, most event.Position, _ filter.Expr) (batch, error) {
	for limit := batchRows + 1; ; limit *= 4 {
		b, err := s.readFenceChanges(after, most, limit)
		if err != nil || len(b.changes) < limit {
			return b, err
		}
		// What shares the last one's position may go on behind the limit.
		last := b.changes[limit-1].at
		b.changes = slices.DeleteFunc(b.changes, func(c *change) bool { return c.at >= last })
		b.upTo, b.more = last-1, true
		if len(b.changes) > 0 {
			return b, nil
		}
	}
}

// fenceFloor is the position below which crossings were deleted.
func (s *service) fenceFloor() (floor event.Position, err error) {
	ctx, cancel := s.bounded()
	defer cancel()
	err = s.feed.QueryRow(ctx, `select fence_floor from checkpoint`).Scan((*int64)(&floor))
	return floor, err
}

func (s *service) readFenceChanges(after, most event.Position, limit int) (b batch, err error) {
	ctx, cancel := s.bounded()
	defer cancel()
	defer s.metrics.observe("fence_events", time.Now())
	snapshot := s.tracker.Begin()
	rows, err := s.feed.Query(ctx, fenceChangesSelect, int64(after), int64(most), int64(limit))
	if err != nil {
		return b, err
	}
	var sequence, floor int64
	var all []*fence.Event
	found := false
	var r eventRow
	_, err = pgx.ForEachRow(rows, append([]any{&sequence, &floor}, r.fields()...), func() error {
		if found = true; r.position != nil {
			all = append(all, r.event())
		}
		return nil
	})
	switch {
	case err != nil:
		return b, err
	case !found:
		return b, errNoCheckpoint
	}
	b.sequence, b.floor = uint64(sequence), event.Position(floor) //nolint:gosec // not negative
	s.tracker.Read(snapshot, b.sequence)
	for i, e := range all {
		b.changes = append(b.changes, newCrossing(e, i+1 == len(all) || all[i+1].Position != e.Position))
	}
	b.upTo = max(min(most, event.EndOf(b.sequence)), after)
	b.more = b.upTo < event.EndOf(b.sequence)
	s.metrics.rows.Add(float64(len(all)))
	return b, nil
}

// An eventRow is a row of fence_events, or of nulls where there is none.
type eventRow struct {
	position            *int64
	n                   *int16
	fence, name         *string
	entered             *bool
	cause               *string
	at, recorded        *time.Time
	point               *string
	longitude, latitude *float64
}

// fields are where fenceEventColumns go.
func (r *eventRow) fields() []any {
	return []any{&r.position, &r.n, &r.fence, &r.name, &r.entered, &r.cause, &r.at, &r.recorded, &r.point, &r.longitude, &r.latitude}
}

func (r *eventRow) event() *fence.Event {
	e := &fence.Event{Position: event.Position(*r.position), N: int(*r.n), Fence: *r.fence, Name: *r.name, Entered: *r.entered, Cause: *r.cause,
		Time: r.at.UTC(), Recorded: r.recorded.UTC(), Longitude: math.NaN(), Latitude: math.NaN()}
	if r.point != nil && r.longitude != nil && r.latitude != nil {
		e.Point, e.Longitude, e.Latitude = []byte(*r.point), *r.longitude, *r.latitude
	}
	return e
}

// newCrossing is the event as streams tell it. Only the last of those of one position
// has that as its id: whoever is cut off between two of them is told the first again.
func newCrossing(e *fence.Event, last bool) *change {
	c := &change{kind: created, at: e.Position, id: e.Position}
	if !last {
		c.id--
	}
	c.Position, c.Revision, c.X, c.Y, c.Altitude = e.Position, e.Position, e.Longitude, e.Latitude, math.NaN()
	c.Time, c.Received, c.Name = e.Time.UnixMicro()-postgresEpoch, e.Recorded.UnixMicro()-postgresEpoch, e.Name
	c.wire = append(append(append(c.wire, "event: "...), e.Kind()...), "\nid: "...)
	c.wire = e.Append(append(strconv.AppendInt(c.wire, int64(c.id), 10), "\ndata: "...))
	c.wire = append(c.wire, "\n\n"...)
	// By this, a stream is about some fences.
	c.Properties, _ = jsontext.AppendQuote([]byte(`{"fence":`), e.Fence)
	c.Properties = append(c.Properties, '}')
	return c
}
