package plan

import (
	"math"

	"cairn/query/filter"
)

// What the ways to a segment's rows cost, in microseconds of one core, measured on 20 million
// points around towns.
const (
	gatherCost = 0.4 // for each row that an index finds, with its neighbours on the same page
	rowCost    = 0.3 // for each of those that lie on different pages
	pageCost   = 1.2 // for each of their pages, in memory
	missCost   = 6   // for one that is not in shared_buffers: 3 from the system's cache, 100 from a disk
	probeCost  = 30  // for a search in an index
	// pageRows is about how many rows a page has.
	pageRows = 35
)

// bitmapRows: of so many rows in a box a bitmap is made first. It costs 20 µs; then each
// page is looked at once, in the order in which they lie, and read ahead.
const bitmapRows = 1_000

const (
	// walkMargin is how much further than expected a walk may go before another
	// way is thought of: rows lie unevenly.
	walkMargin = 4
	// minWalk and maxWalk bound the rows of one walk; the latter is 20 ms. A
	// statement's text has the number, so there are few: powers of 4.
	minWalk = 1 << 8
	maxWalk = 1 << 14
	// enough: a statement asks no further segments when it may expect so many
	// times the rows that are wanted.
	enough = 3
	// firstSegments bounds the segments of a page's first statement, and
	// maxSegments those of the others: what is not opened costs 10 µs each.
	firstSegments, maxSegments = 6, 16
	// unsureTime: at least this part of the rows among which they are is assumed to have the
	// times that are asked for. One point of another year, as from a clock that is wrong or by
	// a change, makes the others of its zone, or of a segment without zones, seem few.
	unsureTime = 1.0 / 8
	// namedPart is about which part of the rows has one name.
	namedPart = 1e-3
)

// A way is how a segment is read.
type way uint8

const (
	// along: in the order of positions, or of another index in that order,
	// until there are enough.
	along way = iota
	// bounded: the same, but no further than so many rows.
	bounded
	// byBox, byTime, byName: all that an index finds, sorted.
	byBox
	byTime
	byName
)

func (w way) String() string { return [...]string{"along", "bounded", "box", "time", "name"}[w] }

// A step is a segment and how it is read.
type step struct {
	segment *segment
	way     way
	walk    int     // rows, where the way is bounded
	within  stretch // where rows of the times that are asked for are
	expect  float64 // how many rows pass
	visit   float64 // how many are read for it
}

// A goal is what a page looks for.
type goal struct {
	extent    *filter.Extent
	need      float64 // rows that are still wanted
	ascending bool
	gather    *segment // where a walk has reached its bound: not again
}

// choose picks the way to the rows of a segment that pass; ok is false where there
// are none.
func (s *segment) choose(g *goal) (st step, ok bool) {
	x := g.extent
	st = step{segment: s, expect: s.rows, within: stretch{s.low, s.high, s.rows}}
	inBoxes, inTime := s.rows, 1.0
	if x.Boxes != nil {
		if inBoxes = s.inBoxes(x.Boxes); inBoxes == 0 && s.known {
			return st, false
		}
		inBoxes = min(max(inBoxes, 1), s.rows)
		st.expect = inBoxes
	}
	if x.Timed() {
		st.within = s.within(x.From, x.To)
		if inTime = s.inTime(x.From, x.To); inTime == 0 || st.within.low >= st.within.high {
			return st, false
		}
		inTime = min(inTime, st.within.rows/s.rows)
		st.expect *= inTime
	}
	indexed := !s.head // over times and names
	if x.Names != nil {
		st.expect = max(1, st.expect*namedPart*float64(len(x.Names)))
		if indexed && len(x.Names) == 1 {
			st.way, st.visit = along, min(s.rows, g.need/max(inBoxes/s.rows*inTime, 1e-9), s.rows*namedPart)
			return st, true
		}
	}
	timed := s.rows * inTime // among how many rows those that pass are, if times rise with positions
	if s.zones != nil {
		timed = st.within.rows
	}
	st.visit = min(st.within.rows, s.skipped(g)+g.need*timed/max(st.expect, 1e-9))
	if st.expect >= s.rows*0.999 && !x.Timed() {
		return st, true // all of them pass
	}
	walk, cost := st.visit, math.Inf(1)
	st.consider(&cost, byBox, s.gathering(inBoxes, byBox), inBoxes, x.Boxes != nil)
	byTimes := s.rows * inTime
	if x.Boxes != nil {
		byTimes = max(byTimes, st.within.rows*unsureTime)
	}
	st.consider(&cost, byTime, s.gathering(byTimes, byTime), byTimes, indexed && x.Timed())
	byNames := s.rows * namedPart * float64(len(x.Names))
	st.consider(&cost, byName, s.gathering(byNames, byName), byNames, indexed && x.Names != nil)
	if math.IsInf(cost, 1) {
		return st, true // there is nothing to gather by
	}
	if s != g.gather && (s.scattered(walk) < cost || st.expect > s.rows/2) {
		st.way, st.visit = bounded, walk
		st.walk = minWalk
		for float64(st.walk) < walkMargin*walk && st.walk < maxWalk {
			st.walk *= 4
		}
	}
	return st, true
}

// skipped is how many rows a walk passes before it comes to the times that are asked
// for, if points came in the order of their times, as most do. With zones, it begins
// there.
func (s *segment) skipped(g *goal) float64 {
	if s.zones != nil || s.from == math.MinInt64 || s.to == s.from {
		return 0
	}
	before := float64(s.to) - float64(g.extent.To)
	if g.ascending {
		before = float64(g.extent.From) - float64(s.from)
	}
	return s.rows * max(0, before) / (float64(s.to) - float64(s.from))
}

// scattered is the cost of so many rows that lie on different pages, while there are pages:
// those of a walk, as it goes through places in no order.
func (s *segment) scattered(rows float64) float64 {
	return rows*rowCost + min(rows, s.rows/pageRows)*(pageCost+missCost*s.missing)
}

// gathering is the cost of so many rows that an index finds. In a merged segment they are in
// the order of their places, so that those of the same time are not side by side.
func (s *segment) gathering(rows float64, by way) float64 {
	if by == byTime && s.merged() {
		return s.scattered(rows)
	}
	return rows * gatherCost
}

// merged reports whether the segment is known to be one that was merged.
func (s *segment) merged() bool { return s.zones != nil }

// consider takes the way if it is cheaper than what was thought of before.
func (st *step) consider(cost *float64, w way, fetch, rows float64, possible bool) {
	if c := probeCost + fetch; possible && c < *cost {
		st.way, st.visit, *cost = w, rows, c
	}
}

// steps picks the segments that the next statement reads, in their order: until
// enough rows can be expected. A bounded walk is the last, for what comes after it
// depends on how it ends.
func steps(list []*segment, g goal, most int) (out []step, rest []*segment) {
	for i, s := range list {
		st, ok := s.choose(&g)
		if !ok {
			continue
		}
		out = append(out, st)
		if g.need -= st.expect / enough; g.need <= 0 || st.way == bounded || len(out) == most {
			return out, list[i+1:]
		}
	}
	return out, nil
}
