package projector

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"cairn/event"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/paulmach/orb"
)

// A catalogue is the segments that a writer reads and writes: those that are
// sealed, the oldest first, and the head.
type catalogue struct {
	number int64 // of the checkpoint, when it was read
	sealed []*schema.Segment
	head   schema.Segment
	// rows is how many the head has, and firstV7 the least of their ids of version 7;
	// nil: there is none.
	rows    int64
	firstV7 *uuid.UUID
	// parted are the segments with a table for their changed rows.
	parted map[int]bool
}

// readCatalogue reads it; what is known already of the same head is kept.
func readCatalogue(ctx context.Context, conn *pgx.Conn, number int64, before *catalogue, view func(*catalogue)) (*catalogue, error) {
	all, err := schema.Segments(ctx, conn)
	if err != nil {
		return nil, err
	}
	parted, err := readParted(ctx, conn)
	if err != nil {
		return nil, err
	}
	c := &catalogue{number: number, parted: parted}
	for i := range all {
		switch all[i].State {
		case schema.Sealed:
			c.sealed = append(c.sealed, &all[i])
		case schema.Head:
			c.head = all[i]
		}
	}
	if view != nil {
		view(c)
	}
	if c.head.ID == 0 {
		return nil, fmt.Errorf("the catalogue of segments has no head")
	}
	if before != nil && before.head.ID == c.head.ID {
		c.rows, c.firstV7 = before.rows, before.firstV7
		return c, nil
	}
	return c, c.lookIntoHead(ctx, conn)
}

func (c *catalogue) lookIntoHead(ctx context.Context, conn *pgx.Conn) error {
	table := schema.Table(c.head.ID)
	rows, err := conn.Query(ctx, `select id from `+table)
	if err != nil {
		return fmt.Errorf("read the head's ids: %w", err)
	}
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id)}, func() error {
		c.added(id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the head's ids: %w", err)
	}
	return nil
}

// added notes a row of the head.
func (c *catalogue) added(id uuid.UUID) {
	c.rows++
	if isV7(id) && (c.firstV7 == nil || compareIDs(id, *c.firstV7) < 0) {
		first := id // or every id would be moved to the heap
		c.firstV7 = &first
	}
}

// inHead are those of the ids that the head may have.
func (c *catalogue) inHead(ids []uuid.UUID) []uuid.UUID {
	return slices.DeleteFunc(slices.Clone(ids), func(id uuid.UUID) bool {
		return isV7(id) && (c.firstV7 == nil || compareIDs(id, *c.firstV7) < 0)
	})
}

// find is the sealed segment with the id, or nil.
func (c *catalogue) find(id int) *schema.Segment {
	i := slices.IndexFunc(c.sealed, func(s *schema.Segment) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	return c.sealed[i]
}

// An idRange is ids of a batch that lie side by side: one, or those of one
// request's rows, which share all but the row's number (see event.Rows).
type idRange struct{ from, to uuid.UUID }

const rowPrefix = 10 // bytes that the ids of one request's rows share

func isV7(id uuid.UUID) bool { return id[6]>>4 == 7 }

// ranges sorts the ids into those of version 7, one each, and ranges of others.
func ranges(ids []uuid.UUID) (v7 []uuid.UUID, others []idRange) {
	sorted := slices.Clone(ids)
	slices.SortFunc(sorted, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range slices.Compact(sorted) {
		n := len(others)
		switch {
		case isV7(id):
			v7 = append(v7, id)
		case id[6]>>4 == 8 && n > 0 && bytes.Equal(others[n-1].from[:rowPrefix], id[:rowPrefix]):
			others[n-1].to = id
		default:
			others = append(others, idRange{id, id})
		}
	}
	return v7, others
}

// mayHold is what of a batch's ids a segment may have, by its metadata alone.
func mayHold(s *schema.Segment, v7 []uuid.UUID, others []idRange) (out []idRange) {
	from, to := 0, len(v7)
	if s.Known() {
		if s.V7From == nil {
			to = 0
		} else {
			from, _ = slices.BinarySearchFunc(v7, uuid.UUID(*s.V7From), compareIDs)
			to, _ = slices.BinarySearchFunc(v7, uuid.UUID(*s.V7To), compareIDs)
			if to < len(v7) && v7[to] == uuid.UUID(*s.V7To) {
				to++
			}
		}
		if *s.OtherIDs == 0 {
			others = nil
		}
	}
	for _, id := range v7[from:max(from, to)] {
		out = append(out, idRange{id, id})
	}
	return append(out, others...)
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

// A holding is ids of a batch that one segment has, or may have.
type holding struct {
	segment int
	ids     []uuid.UUID
}

// parameter is ids as pgx encodes them as they are: of uuid.UUID, which is a
// [database/sql/driver.Valuer], it makes a text each and reads that.
func parameter(ids []uuid.UUID) []pgtype.UUID {
	out := make([]pgtype.UUID, len(ids))
	for i, id := range ids {
		out[i] = pgtype.UUID{Bytes: id, Valid: true}
	}
	return out
}

// lookUp finds which of the ids the sealed segments have. A range of ids side by
// side costs one look into an index, whatever it holds. With guess, an id of version
// 7 is taken to be where it may be, since the caller reads its row there anyhow.
func (c *catalogue) lookUp(ctx context.Context, conn *pgx.Conn, ids []uuid.UUID, guess bool) ([]holding, error) {
	v7, others := ranges(ids)
	var out []holding
	if guess {
		for _, s := range c.sealed {
			var h holding
			for _, r := range mayHold(s, v7, nil) {
				h.segment, h.ids = s.ID, append(h.ids, r.from)
			}
			if h.segment != 0 {
				out = append(out, h)
			}
		}
		v7 = nil
	}
	found, err := c.probe(ctx, conn, ids, v7, others)
	return append(out, found...), err
}

// probe asks the segments.
func (c *catalogue) probe(ctx context.Context, conn *pgx.Conn, ids, v7 []uuid.UUID, others []idRange) ([]holding, error) {
	var parts []string
	var args []any
	asked := map[int][]idRange{}
	for _, s := range c.sealed {
		r := mayHold(s, v7, others)
		if len(r) == 0 {
			continue
		}
		asked[s.ID] = r
		from, to := make([]uuid.UUID, len(r)), make([]uuid.UUID, len(r))
		for i := range r {
			from[i], to[i] = r[i].from, r[i].to
		}
		args = append(args, parameter(from), parameter(to))
		// Ordered, so that each look is a step into the index and nothing else.
		parts = append(parts, fmt.Sprintf(`select %d, r.n from unnest($%d::uuid[], $%d::uuid[]) with ordinality r(a, b, n)
			cross join lateral (select 1 from %s p where p.id >= r.a and p.id <= r.b order by p.id limit 1) x`,
			s.ID, len(args)-1, len(args), schema.Table(s.ID)))
	}
	if len(parts) == 0 {
		return nil, nil
	}
	rows, err := conn.Query(ctx, strings.Join(parts, " union all ")+" order by 1, 2", args...)
	if err != nil {
		return nil, fmt.Errorf("look for ids in older segments: %w", err)
	}
	slices.SortFunc(ids, compareIDs)
	var out []holding
	var segment, n int
	_, err = pgx.ForEachRow(rows, []any{&segment, &n}, func() error {
		if len(out) == 0 || out[len(out)-1].segment != segment {
			out = append(out, holding{segment: segment})
		}
		h, r := &out[len(out)-1], asked[segment][n-1]
		from, _ := slices.BinarySearchFunc(ids, r.from, compareIDs)
		for i := from; i < len(ids) && compareIDs(ids[i], r.to) <= 0; i++ {
			h.ids = append(h.ids, ids[i])
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for ids in older segments: %w", err)
	}
	return out, nil
}

// cellColumns and cellRows are the grid of a segment's cells, 5° each.
const (
	cellDegrees = 5
	cellColumns = 360 / cellDegrees
	cellRows    = 180 / cellDegrees
)

func cellOf(p orb.Point) int {
	column := min(max(int(math.Floor((p[0]+180)/cellDegrees)), 0), cellColumns-1)
	line := min(max(int(math.Floor((p[1]+90)/cellDegrees)), 0), cellRows-1)
	return line*cellColumns + column
}

// widen makes the metadata cover a point, and reports whether a reader could have
// skipped the segment by what they were. Its cells and zones are the caller's own.
func widen(s *schema.Segment, position event.Position, p orb.Point, t time.Time) (wider bool) {
	low := func(have **float64, v float64) {
		if *have == nil || v < **have {
			*have, wider = &v, true
		}
	}
	high := func(have **float64, v float64) {
		if *have == nil || v > **have {
			*have, wider = &v, true
		}
	}
	low(&s.West, p[0])
	low(&s.South, p[1])
	high(&s.East, p[0])
	high(&s.North, p[1])
	if s.TimeFrom == nil || t.Before(*s.TimeFrom) {
		s.TimeFrom, wider = &t, true
	}
	if s.TimeTo == nil || t.After(*s.TimeTo) {
		s.TimeTo, wider = &t, true
	}
	if cell := cellOf(p); cell >= len(s.Cells) || s.Cells[cell] == 0 {
		s.Cells = append(s.Cells, make([]byte, max(0, cellColumns*cellRows-len(s.Cells)))...)
		s.Cells[cell], wider = 1, true
	}
	if len(s.Zones) == 0 {
		return wider
	}
	return schema.WidenZone(s.Zones, s.ZoneAt(int64(position)), t) || wider
}
