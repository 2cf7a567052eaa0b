package recent

import (
	"cairn/event"
	"cairn/query/filter"
)

// A list is a cell's, under way from its newest number.
type list struct {
	n     uint32 // the number that is next
	inner bool   // the cell is in the box as a whole
	rest  []uint32
}

// merge goes through the lists of the box's cells together, newest first.
func (w *walk) merge(end uint32) (from event.Position) {
	w.take(end)
	for i := len(w.heap)/2 - 1; i >= 0; i-- {
		w.down(i)
	}
	r := w.rows
	from = w.q.Before
	for len(w.heap) > 0 {
		if w.spent >= maxSpent {
			return from
		}
		top := &w.heap[0]
		c, e := r.entry(top.n)
		from = e.position
		switch {
		case w.misses(c): // as do all of its rows
			top.rest = top.rest[:below(top.rest, top.n&^(chunkRows-1))]
			w.spent += visitCost
		case !top.inner && !w.box.Has(e.x, e.y):
			w.spent += visitCost
		case !w.offer(c, e):
			return w.end(e)
		}
		if k := len(top.rest); k > 0 {
			top.n, top.rest = top.rest[k-1], top.rest[:k-1]
		} else {
			last := len(w.heap) - 1
			w.heap[0], w.heap[last] = w.heap[last], list{}
			w.heap = w.heap[:last]
		}
		w.down(0)
	}
	return r.low
}

// take fills the heap with the lists of the box, each from below end on.
func (w *walk) take(end uint32) {
	clear(w.heap)
	w.heap = w.heap[:0]
	b := w.box
	south, north := line(b.South), line(b.North)
	columns(b, func(west, east int, westInner, eastInner bool) {
		for y := south; y <= north; y++ {
			cells := w.rows.grid.cells[y*gridColumns : (y+1)*gridColumns]
			for x := west; x <= east; x++ {
				if cells[x] == 0 {
					continue
				}
				l := w.rows.grid.lists[cells[x]]
				if k := len(l); k > 0 && l[k-1] >= end {
					l = l[:below(l, end)]
				}
				if k := len(l); k > 0 {
					inner := y > south && y < north && (x > west || westInner) && (x < east || eastInner)
					w.heap = append(w.heap, list{n: l[k-1], inner: inner, rest: l[:k-1]})
				}
			}
		}
	})
}

// columns calls f with each range of columns that the box has, and whether the
// ones at its ends are in the box as a whole.
func columns(b *filter.Box, f func(west, east int, westInner, eastInner bool)) {
	west, east := column(b.West), column(b.East)
	switch {
	case b.West <= b.East:
		f(west, east, false, false)
	case west <= east: // all but a sliver within a column
		f(0, west, true, false)
		if west < gridColumns-1 {
			f(west+1, gridColumns-1, true, true)
		}
	default:
		f(west, gridColumns-1, false, true)
		f(0, east, true, false)
	}
}

// cells is how many the box has.
func cells(b *filter.Box) (n int) {
	columns(b, func(west, east int, _, _ bool) { n += east - west + 1 })
	return n * (line(b.North) - line(b.South) + 1)
}

// down restores the heap's order, the highest number first, below i.
func (w *walk) down(i int) {
	h := w.heap
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].n > h[child].n {
			child++
		}
		if h[i].n >= h[child].n {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
