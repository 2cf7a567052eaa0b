package plan

import (
	"context"
	"math"
	"slices"
	"sync"

	"cairn/event"
	"cairn/query/filter"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

// Cells are 5° × 5°, as the catalogue has them.
const (
	cellDegrees = 5
	cellColumns = 360 / cellDegrees
	cellRows    = 180 / cellDegrees
)

const (
	// headRows is what is assumed of a segment of which nothing is known: about
	// half of what the head has when it is sealed.
	headRows = 64_000
)

// A catalogue is the list of segments as it was read, the oldest positions first.
type catalogue struct {
	version  int64
	floor    event.Position // what was below was dropped
	segments []*segment
}

// A segment is one table of points.
type segment struct {
	id        int
	table     string
	head      bool
	known     bool  // what it holds is known; else it must be visited
	low, high int64 // its positions, high excluded
	rows      float64
	from, to  int64 // its times, in microseconds since 2000-01-01 UTC
	area      filter.Box
	cells     []byte  // nil: not known
	scale     float64 // of the numbers in cells
	v7From    [16]byte
	v7To      [16]byte
	v7        bool
	other     bool            // it may have ids of another version
	zones     *schema.Segment // nil: not known
	density   schema.Density  // nil: not known
	missing   float64         // which part of its pages is not in shared_buffers, about
}

// load reads the catalogue. Its number is read before the segments: if they change
// in between, the statements that are planned with them notice.
func load(ctx context.Context, db *pgx.Conn) (*catalogue, error) {
	c := &catalogue{}
	var floor, buffers int64
	err := db.QueryRow(ctx, `select catalogue, floor, pg_size_bytes(current_setting('shared_buffers')) from checkpoint where id`).Scan(&c.version, &floor, &buffers)
	if err != nil {
		return nil, err
	}
	c.floor = event.Position(floor)
	all, err := schema.Segments(ctx, db)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].State == schema.Head || all[i].State == schema.Sealed {
			c.segments = append(c.segments, newSegment(&all[i]))
		}
	}
	c.guess()
	c.miss(float64(buffers))
	return c, nil
}

// storedBytes is about what a row takes with its part of the indexes.
const storedBytes = 430

// miss estimates what of the merged segments is not in shared_buffers: the others are the
// newest, and there.
func (c *catalogue) miss(buffers float64) {
	rows := 0.0
	for _, s := range c.segments {
		rows += s.rows
	}
	missing := max(0, 1-buffers/(rows*storedBytes))
	for _, s := range c.segments {
		if s.merged() {
			s.missing = missing
		}
	}
}

// guess assumes that points whose places are not known are distributed like the newest
// ones whose places are. Such a segment is visited anyhow; this says how.
func (c *catalogue) guess() {
	var newest *segment
	for _, s := range c.segments {
		if s.known && s.cells != nil {
			newest = s
		}
	}
	if newest == nil {
		return
	}
	for _, s := range c.segments {
		if !s.known {
			s.cells, s.scale = newest.cells, s.rows/max(newest.rows, 1)
		}
	}
}

func newSegment(s *schema.Segment) *segment {
	out := &segment{id: s.ID, table: schema.Table(s.ID), head: s.State == schema.Head, known: s.Known() && s.State == schema.Sealed,
		low: s.Low, high: s.High, rows: headRows, scale: 1, from: math.MinInt64, to: math.MaxInt64, area: filter.Box{West: -180, South: -90, East: 180, North: 90}, other: true}
	if !out.known {
		return out
	}
	if s.Rows != nil {
		out.rows = float64(*s.Rows)
	}
	if s.TimeFrom != nil && s.TimeTo != nil {
		out.from, out.to = s.TimeFrom.UnixMicro()-filter.PostgresEpoch, s.TimeTo.UnixMicro()-filter.PostgresEpoch
	}
	if s.West != nil && s.South != nil && s.East != nil && s.North != nil {
		out.area = filter.Box{West: *s.West, South: *s.South, East: *s.East, North: *s.North}
	}
	if len(s.Cells) == cellColumns*cellRows {
		out.cells = s.Cells
	}
	if s.V7From != nil && s.V7To != nil {
		out.v7, out.v7From, out.v7To = true, *s.V7From, *s.V7To
	}
	out.other, out.density = *s.OtherIDs > 0, s.Density
	if len(s.Zones) > 0 {
		out.zones = s
	}
	return out
}

// inBoxes is about how many of the segment's rows lie in one of the boxes; 0 says
// that none does.
func (s *segment) inBoxes(boxes []filter.Box) float64 {
	sum := 0.0
	for _, b := range boxes {
		sum += s.inBox(b)
	}
	return min(sum, s.rows)
}

func (s *segment) inBox(b filter.Box) float64 {
	if b.West > b.East {
		return s.inBox(filter.Box{West: b.West, South: b.South, East: 180, North: b.North}) +
			s.inBox(filter.Box{West: -180, South: b.South, East: b.East, North: b.North})
	}
	if b.West > s.area.East || b.East < s.area.West || b.South > s.area.North || b.North < s.area.South {
		return 0
	}
	if s.cells == nil { // as if they lay evenly
		return max(1, s.rows*(b.East-b.West)*(b.North-b.South)/(360*180))
	}
	sum := 0.0
	for row := cell(b.South, -90, cellRows); row <= cell(b.North, -90, cellRows); row++ {
		height := overlap(b.South, b.North, float64(row)*cellDegrees-90)
		for column := cell(b.West, -180, cellColumns); column <= cell(b.East, -180, cellColumns); column++ {
			if n := s.cells[row*cellColumns+column]; n > 0 {
				width := overlap(b.West, b.East, float64(column)*cellDegrees-180)
				sum += max(1, 0.75*math.Ldexp(1, int(n))*width*height*s.scale)
			}
		}
	}
	if n, ok := s.density.InBox(b.West, b.South, b.East, b.North); ok && sum > 0 {
		return max(1, min(n, s.rows))
	}
	return sum
}

// cell is the index of the cell that holds a coordinate.
func cell(f, from float64, count int) int {
	return max(0, min(count-1, int(math.Floor((f-from)/cellDegrees))))
}

// overlap is which part of a cell lies between two coordinates.
func overlap(from, to, begin float64) float64 {
	return max(0, min(to, begin+cellDegrees)-max(from, begin)) / cellDegrees
}

// inTime is which part of the segment's rows lies between the two times, as if they
// lay evenly, in each zone or in all of it; 0 says that none does.
func (s *segment) inTime(from, to int64) float64 {
	if from > s.to || to < s.from {
		return 0
	}
	if from <= s.from && s.to <= to {
		return 1
	}
	if s.zones != nil {
		if share, ok := s.zones.ShareWithin(unixMicro(from), unixMicro(to)); ok {
			return max(1e-6, share)
		}
	}
	if s.from == math.MinInt64 || s.to == s.from {
		return 0.5 // unknown
	}
	span := float64(s.to) - float64(s.from)
	return max(1e-6, (float64(min(to, s.to))-float64(max(from, s.from)))/span)
}

// stretch is where the segment's rows of some times are: positions from low to below
// high, and about how many rows those are.
type stretch struct {
	low, high int64
	rows      float64
}

// within is the stretch of the rows between the two times. Without zones it is all of
// the segment.
func (s *segment) within(from, to int64) stretch {
	if s.zones == nil {
		return stretch{s.low, s.high, s.rows}
	}
	low, high := s.zones.PositionsWithin(unixMicro(from), unixMicro(to))
	return stretch{low, high, s.rows * float64(high-low) / float64(s.high-s.low)}
}

// unixMicro is a time since 1970; what is no bound stays none.
func unixMicro(t int64) int64 {
	if t == math.MinInt64 || t >= math.MaxInt64-filter.PostgresEpoch {
		return t
	}
	return t + filter.PostgresEpoch
}

// cached is the catalogue as it was last read.
type cached struct {
	mu  sync.Mutex
	now *catalogue
}

// get returns the catalogue, and reads it where it is the one that proved old, or
// was never read.
func (c *cached) get(ctx context.Context, db *pgx.Conn, old *catalogue) (*catalogue, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil && c.now != old {
		return c.now, nil
	}
	now, err := load(ctx, db)
	if err != nil {
		return nil, err
	}
	c.now = now
	return now, nil
}

// read reads the catalogue, and keeps it if it is newer than what is there.
func (c *cached) read(ctx context.Context, db *pgx.Conn) (*catalogue, error) {
	now, err := load(ctx, db)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil || now.version > c.now.version {
		c.now = now
	}
	return now, nil
}

// reaching are the segments that hold positions between the two, both included, in
// the order in which they are asked for.
func (c *catalogue) reaching(low, high int64, ascending bool) []*segment {
	var out []*segment
	for _, s := range c.segments {
		if s.low <= high && s.high > low {
			out = append(out, s)
		}
	}
	if !ascending {
		slices.Reverse(out)
	}
	return out
}

// last is the catalogue as it was last read; nil where it never was.
func (c *cached) last() *catalogue {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}
