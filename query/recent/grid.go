package recent

import (
	"slices"
	"sort"
)

const (
	// cellDegrees is the side of a cell. A town is in one or two; a box of 20°
	// has 1,700, whose lists are looked at in a few microseconds.
	cellDegrees = 0.5
	gridColumns = 360 / cellDegrees
	gridRows    = 180 / cellDegrees
)

// A grid knows the rows in each cell by their numbers, the newest last.
type grid struct {
	cells []uint32 // which of lists is a cell's; 0 is none
	lists [][]uint32
}

func newGrid() grid {
	return grid{cells: make([]uint32, gridColumns*gridRows), lists: make([][]uint32, 1)}
}

func (g *grid) bytes() int { return 4 * len(g.cells) }

func column(x float64) int { return clamp(int((x+180)/cellDegrees), gridColumns) }
func line(y float64) int   { return clamp(int((y+90)/cellDegrees), gridRows) }

func clamp(i, n int) int { return min(max(i, 0), n-1) }

func cellOf(x, y float64) int { return line(y)*gridColumns + column(x) }

// listBytes is what a list costs beside its numbers.
const listBytes = 24

// list returns the cell's list, a new one where it had none.
func (g *grid) list(cell int) (_ *[]uint32, made int) {
	if g.cells[cell] == 0 {
		g.cells[cell] = uint32(len(g.lists)) //nolint:gosec // fewer than cells
		g.lists = append(g.lists, nil)
		made = listBytes
	}
	return &g.lists[g.cells[cell]], made
}

// push adds a number above all others. All that change a list return how many
// bytes more it has.
func (g *grid) push(x, y float64, n uint32) int {
	l, made := g.list(cellOf(x, y))
	before := cap(*l)
	*l = append(*l, n)
	return made + 4*(cap(*l)-before)
}

// insert adds a number at its place.
func (g *grid) insert(x, y float64, n uint32) int {
	l, made := g.list(cellOf(x, y))
	before := cap(*l)
	*l = slices.Insert(*l, below(*l, n), n)
	return made + 4*(cap(*l)-before)
}

// remove takes a number out.
func (g *grid) remove(x, y float64, n uint32) {
	l, _ := g.list(cellOf(x, y))
	if i := below(*l, n); i < len(*l) && (*l)[i] == n {
		*l = slices.Delete(*l, i, i+1)
	}
}

// shift takes the lowest number out, whose row is dropped.
func (g *grid) shift(x, y float64) int {
	l, _ := g.list(cellOf(x, y))
	before := cap(*l)
	if *l = (*l)[1:]; len(*l) == 0 {
		*l = nil
	}
	return 4 * (cap(*l) - before)
}

// fill adds rows that are older than all others, numbered from first on.
func (g *grid) fill(rows []entry, first uint32) (more int) {
	type place struct {
		cell int
		n    uint32
	}
	places := make([]place, 0, len(rows))
	for i := range rows {
		if rows[i].feature.n > 0 {
			places = append(places, place{cellOf(rows[i].x, rows[i].y), first + uint32(i)}) //nolint:gosec // below chunkRows
		}
	}
	slices.SortStableFunc(places, func(a, b place) int { return a.cell - b.cell })
	for len(places) > 0 {
		cell, k := places[0].cell, 1
		for k < len(places) && places[k].cell == cell {
			k++
		}
		l, made := g.list(cell)
		all := make([]uint32, 0, k+len(*l))
		for _, p := range places[:k] {
			all = append(all, p.n)
		}
		all = append(all, *l...)
		more += made + 4*(cap(all)-cap(*l))
		*l = all
		places = places[k:]
	}
	return more
}

// below is how many of the list are less than n.
func below(list []uint32, n uint32) int {
	return sort.Search(len(list), func(i int) bool { return list[i] >= n })
}
