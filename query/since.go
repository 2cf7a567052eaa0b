package query

import (
	"cairn/event"
	"fmt"
	"strconv"
)

const (
	// batchRows and batchBytes bound what is read from the table at once for
	// streams: some milliseconds of the database's time.
	batchRows  = 1_000
	batchBytes = 1 << 20
	// strideRows is how many rows one statement looks through for those that
	// a filter lets pass: about 10 ms in memory.
	strideRows = 50_000
)

// A change is a row as it goes to streams, and what filters compare.
type change struct {
	position event.Position
	x, y     float64
	at       int64 // observed, else received; microseconds of Postgres
	name     string
	wire     []byte // as Server-Sent Events have it
}

// passes is the filter as the statements have it.
func (f *filter) passes(e *change) bool {
	if b := f.bbox; b != nil {
		if b.west <= b.east {
			if e.x < b.west || e.x > b.east {
				return false
			}
		} else if e.x < b.west && e.x > b.east {
			return false
		}
		if e.y < b.south || e.y > b.north {
			return false
		}
	}
	return (f.when == nil || f.when.has(e.at)) && (f.name == "" || f.name == e.name)
}

// A batch is what follows a position, in order.
type batch struct {
	events []*change
	upTo   event.Position // nothing more passes up to here
	more   bool           // there may be more at once
}

// sinceSelect reads rows in the order of their positions, and how far it has
// looked: to edge, or, where that is null, to the end. In that order the
// projector has written them, one transaction after another, so what is behind
// the last row read is complete: no gap can fill later.
const sinceSelect = `
	with edge as materialized (
		select (select position from points where position > $1::bigint order by position offset STRIDE limit 1) as edge
	)
	select c.sequence, p.*, e.edge from checkpoint c cross join edge e left join lateral (
		select COLUMNS, name from (
			select * COMPUTED from points where position > $1 and position <= coalesce(e.edge, 9223372036854775807) NAMED
			order by position offset 0
		) w where EXACT order by position limit $2::bigint
	) p on true where c.id`

// since reads what follows the position and passes the filter. The filter's
// own position and limit have no say.
func (s *service) since(f *filter, after event.Position) (batch, error) {
	args := f.args()
	args[0], args[1] = int64(after), int64(batchRows)
	b := batch{upTo: after}
	var edge int64
	found, bytes, g := false, 0, s.tracker.Begin()
	sequence, err := s.rows(f.ways().since, args, func(r row) (bool, error) {
		edge, found = r.int64(colEdge)
		if r[colID] == nil {
			return true, nil
		}
		e, err := newEvent(r)
		if err != nil {
			return false, err
		}
		if e.position <= b.upTo {
			return false, errOrder
		}
		b.events, b.upTo = append(b.events, e), e.position
		bytes += len(e.wire)
		return bytes < batchBytes, nil
	})
	if err != nil {
		return batch{}, err
	}
	s.metrics.rows.Add(float64(len(b.events)))
	s.tracker.Read(g, sequence)
	switch {
	case len(b.events) == batchRows || bytes >= batchBytes:
		b.more = true
	case found:
		b.upTo, b.more = event.Position(edge), true
	default:
		b.upTo = max(b.upTo, event.EndOf(sequence))
	}
	return b, nil
}

func newEvent(r row) (*change, error) {
	if len(r) <= colEdge {
		return nil, errRow
	}
	position, ok := r.int64(colPosition)
	x, okX := r.float64(colLongitude)
	y, okY := r.float64(colLatitude)
	at, okAt := r.int64(colObserved)
	if !okAt {
		at, okAt = r.int64(colReceived)
	}
	if !ok || !okX || !okY || !okAt {
		return nil, fmt.Errorf("an event's row: %w", errRow)
	}
	e := &change{position: event.Position(position), x: x, y: y, at: at, name: string(r[colName])}
	wire := append(make([]byte, 0, 512), "id: "...)
	wire = append(strconv.AppendInt(wire, position, 10), "\ndata: "...)
	wire, err := appendFeature(wire, r) // JSON of Postgres and ours, without a line break
	e.wire = append(wire, "\n\n"...)
	return e, err
}
