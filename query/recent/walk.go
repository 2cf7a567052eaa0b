package recent

import (
	"context"
	"math"
	"slices"
	"sync"
	"unsafe"

	"cairn/event"
	"cairn/query/filter"
)

const (
	// firstLook: so many of the newest rows for each that is wanted are looked
	// at one after another first. Where a quarter of what came last is in the
	// box, that is all; else it costs a microsecond or two.
	firstLook = 4
	// lookCost and listCost weigh the two ways from there, in nanoseconds:
	// looking at one more row, and taking up one more cell's list.
	lookCost, listCost = 4, 6
	// visitCost and matchCost are those of a row that a list leads to, and of asking a simple
	// filter about a row: both are somewhere else in memory. What costs more is charged as
	// [filter.Subject] counts it.
	visitCost, matchCost = 60, 400
	// maxSpent bounds what a walk spends on rows that are not let through, in nanoseconds,
	// and maxPassed what it spends on asking about those that are: 10,000 rows and a filter as
	// people write them. With both it bounds the time that a change has to wait, and all
	// readers behind that.
	maxSpent, maxPassed = 2_000_000, 8_000_000
	// copyBytes: so many bytes are copied in a nanosecond.
	copyBytes = 8
	// fewRows: where the chunks that may have what is looked for have no more rows, they are
	// looked through, whatever the box is: in 65 µs.
	fewRows = 4 * chunkRows
)

// A Query is what is looked for, newest first.
type Query struct {
	Filter filter.Expr
	Before event.Position // only below it
	Limit  int            // how many are expected to be wanted
}

// Walk hands each row that is let through to f, newest first, until f wants no
// more. It returns the position from which up that was all. ok is false, and f
// was not called, where the rows are older than the sequence.
//
// Nothing can be changed meanwhile, so f should do no more than copy; it must
// not keep the row. A walk takes some milliseconds at most, and the one row that it is at
// as long as it takes to read it. Where ctx has ended, there is none.
func (r *Rows) Walk(ctx context.Context, sequence uint64, q *Query, f func(*Row) bool) (from event.Position, at uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if ctx.Err() != nil || r.sequence < sequence || len(r.chunks) == 0 { // it may have ended while others changed the rows
		return 0, 0, false
	}
	w := walks.Get().(*walk)
	defer walks.Put(w)
	w.prepare(r, q, f)
	from = w.run()
	w.rows, w.q, w.f, w.match, w.box, w.chunk, w.row = nil, nil, nil, nil, nil, nil, Row{scratch: w.row.scratch}
	w.subject.Set(nil)
	return from, r.sequence, true
}

func (w *walk) prepare(r *Rows, q *Query, f func(*Row) bool) {
	w.rows, w.q, w.f, w.spent, w.passed, w.stopped, w.unknown, w.chunk = r, q, f, 0, 0, false, false, nil
	extent := filter.Bound(q.Filter)
	w.from, w.to = extent.From, extent.To
	w.names = w.names[:0]
	for _, name := range extent.Names {
		w.names = append(w.names, r.hash(name))
	}
	w.picky = extent.Timed() || len(w.names) > 0
	w.match = q.Filter
	if len(extent.Boxes) != 1 {
		return
	}
	w.area = extent.Boxes[0]
	w.box = &w.area
	if _, all := q.Filter.(filter.Box); all {
		w.match = nil // what is in the box is let through
	}
}

// A walk is one under way; they are used again.
type walk struct {
	rows    *Rows
	q       *Query
	f       func(*Row) bool
	box     *filter.Box // where all that is let through lies; nil: anywhere
	area    filter.Box
	from    int64 // its times are between these
	to      int64
	names   []uint64    // hashes: its name has one of them; none: it has any
	picky   bool        // times are bounded, or names
	match   filter.Expr // nil: all in the box are let through
	spent   int         // on rows that are not, in nanoseconds
	passed  int         // on asking about those that are
	stopped bool
	unknown bool // whether the row is let through: it would cost too much to say
	row     Row
	subject filter.Subject
	heap    []list

	chunk  *chunk // of which it was asked last whether it misses
	missed bool
}

var walks = sync.Pool{New: func() any { return new(walk) }}

func (w *walk) run() (from event.Position) {
	r := w.rows
	end, _ := r.find(w.q.Before)
	if w.box == nil || w.picky && w.candidates(end) <= fewRows {
		return w.scan(end, math.MaxUint32)
	}
	if n := w.scanFirst(end); n > 0 {
		end, from = w.scanned(end, n)
		if from > 0 {
			return from
		}
	}
	return w.merge(end)
}

// candidates is how many rows the chunks below end have that may have what is looked for.
func (w *walk) candidates(end uint32) (n int) {
	r := w.rows
	for first := r.number(0, 0); end > first && n <= fewRows; end = (end - 1) &^ (chunkRows - 1) {
		if c, k := r.before(end); !w.misses(c) {
			n += k
		}
	}
	return n
}

// scanFirst is how many rows to look at one after another before the lists are
// taken up: as many as the share of the newest that are in the box says that
// the page needs, if that is cheaper.
func (w *walk) scanFirst(end uint32) (n int) {
	r, b := w.rows, w.box
	first := r.number(0, 0)
	look, hits := firstLook*w.q.Limit, 0
	seen := 0
	for n := end; n > first && seen < look; {
		c, k := r.before(n)
		for i := k - 1; i >= 0 && seen < look; i-- {
			if e := &c.rows[i]; e.feature.n > 0 && b.Has(e.x, e.y) {
				hits++
			}
			seen++
		}
		n = (n - 1) &^ (chunkRows - 1)
	}
	if hits >= w.q.Limit || seen < look {
		return seen
	}
	if hits == 0 {
		return 0
	}
	need := w.q.Limit * seen / hits
	if need*lookCost > cells(b)*listCost+w.q.Limit*100 {
		return 0
	}
	return 2 * need
}

// scanned scans n rows below end. It returns where to continue, and from, where
// nothing is left to do.
func (w *walk) scanned(end uint32, n int) (next uint32, from event.Position) {
	from = w.scan(end, n)
	if w.stopped || from == w.rows.low || w.spent >= maxSpent {
		return 0, from
	}
	next, _ = w.rows.find(from)
	return next, 0
}

// before is the chunk of the row before n, and how many of its rows are below n.
func (r *Rows) before(n uint32) (c *chunk, rows int) {
	c = r.chunk(n - 1)
	return c, min(int((n-1)&(chunkRows-1))+1, len(c.rows))
}

// scan looks at up to n rows below end, one after another.
func (w *walk) scan(end uint32, n int) (from event.Position) {
	r := w.rows
	from = w.q.Before
	for first := r.number(0, 0); end > first; {
		c, k := r.before(end)
		end = (end - 1) &^ (chunkRows - 1)
		if w.misses(c) {
			from = c.rows[0].position
			continue
		}
		for i := k - 1; i >= 0; i-- {
			if n == 0 || w.spent >= maxSpent {
				return from
			}
			n--
			e := &c.rows[i]
			from = e.position
			if e.feature.n == 0 || w.box != nil && !w.box.Has(e.x, e.y) {
				w.spent += lookCost
			} else if !w.offer(c, e) {
				return w.end(e)
			}
		}
	}
	return r.low
}

// misses reports whether no row of the chunk has one of the names, at one of the times, that
// are looked for.
func (w *walk) misses(c *chunk) bool {
	if !w.picky {
		return false
	}
	if w.chunk != c {
		w.chunk, w.missed = c, c.to < w.from || w.to < c.from || len(w.names) > 0 && !slices.ContainsFunc(w.names, c.names.has)
	}
	return w.missed
}

// offer hands the row to f if it is let through, and reports whether to continue.
func (w *walk) offer(c *chunk, e *entry) bool {
	if e.time < w.from || e.time > w.to {
		w.spent += lookCost
		return true
	}
	blob := c.blobs[e.blob]
	w.row.Position, w.row.Revision, w.row.Feature, w.row.Author = e.position, e.revision, e.feature.of(blob), text(e.author.of(blob))
	if w.match != nil {
		e.fill(&w.row, blob)
		if let, known := w.ask(e); !known || !let {
			return known
		}
	}
	if w.f(&w.row) {
		return true
	}
	w.stopped = true
	return false
}

// ask asks the filter about the row, for no more than the walk may spend still.
func (w *walk) ask(e *entry) (let, known bool) {
	most := min(maxSpent-w.spent, maxPassed-w.passed)
	left := most
	w.subject.Set(&w.row.Row)
	let, known = w.subject.Match(w.match, &left)
	cost := most - left + w.subject.Read()
	if e.open {
		cost += int(e.properties.n) / copyBytes
	}
	switch {
	case !known:
		w.unknown, w.spent = true, maxSpent
	case !let:
		w.spent += max(cost, matchCost)
	default:
		if w.passed += cost; w.passed >= maxPassed {
			w.spent = maxSpent // the row is the last
		}
	}
	return let, known
}

// end is the position from which up all was handed out or is not let through, where the
// walk stops at the row.
func (w *walk) end(e *entry) event.Position {
	if w.unknown {
		return e.position + 1
	}
	return e.position
}

// text is a part of a blob as a string, without copying: blobs do not change.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
