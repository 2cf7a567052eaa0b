package tiles

import (
	"math"
	"slices"
	"sort"

	"cairn/schema"
)

// countBits is how fine counts are: tiles of zoom levels up to CountZoom have their
// grid's cells.
const countBits = schema.CellBits

// CountZoom is the deepest zoom level that counts are fine enough for.
const CountZoom = countBits - gridBits

// CellSize is the width of a cell of counts, in the units of Web Mercator's plane
// from 0 to 1.
const CellSize = 1.0 / (1 << countBits)

// Counts are how many points are in each cell of a grid over the map: what is
// known of a segment without looking at its rows. Cells that lie together in a
// tile lie together in the list, because it is in Morton order: a tile of any zoom
// level is one run of it.
type Counts struct {
	cells []uint32
	n     []uint32
	// shift is how often cells were merged: one is 2^shift wide.
	shift uint
}

// AddCell adds n points to the cell of this column and row (from the north-west).
func (c *Counts) AddCell(column, row, n uint32) {
	c.cells = append(c.cells, morton(column, row))
	c.n = append(c.n, n)
}

// Cell is the column and row of a place on earth, in degrees.
func Cell(longitude, lat float64) (column, row uint32) {
	x, y := project([2]float64{longitude, lat})
	const side = 1 << countBits
	return uint32(math.Min(x*side, side-1)), uint32(math.Min(y*side, side-1))
}

// SetCoarse says that the cells that were added are 2^bits wide.
func (c *Counts) SetCoarse(bits uint) { c.shift = bits }

// Sort must be called when all cells are there, and before Add.
func (c *Counts) Sort() { sort.Sort((*byCell)(c)) }

type byCell Counts

func (b *byCell) Len() int           { return len(b.cells) }
func (b *byCell) Less(i, j int) bool { return b.cells[i] < b.cells[j] }
func (b *byCell) Swap(i, j int) {
	b.cells[i], b.cells[j] = b.cells[j], b.cells[i]
	b.n[i], b.n[j] = b.n[j], b.n[i]
}

// Points is how many points are counted.
func (c *Counts) Points() (n uint64) {
	for _, k := range c.n {
		n += uint64(k)
	}
	return n
}

// Within is how many points are in the tile, which must not be deeper than
// CountZoom + gridBits.
func (c *Counts) Within(t Tile) (n uint64) {
	from, to := c.run(t)
	for _, k := range c.n[from:to] {
		n += uint64(k)
	}
	return n
}

func (c *Counts) run(t Tile) (from, to int) {
	shift := countBits - t.Z
	first := morton(t.X<<shift, t.Y<<shift)
	from, _ = slices.BinarySearch(c.cells, first)
	if t.Z == 0 {
		return from, len(c.cells)
	}
	to, _ = slices.BinarySearch(c.cells, first+1<<(2*shift))
	return from, to
}

// AddCounts adds clusters for all points of the counts that are in the tile, whose
// zoom level is at most CountZoom.
func (l *Layer) AddCounts(c *Counts) {
	l.gather()
	from, to := c.run(l.tile)
	middle := float64(uint(1)<<c.shift) / 2
	for i := from; i < to; i++ {
		column, row := unmorton(c.cells[i])
		x, y := (float64(column)+middle)*CellSize, (float64(row)+middle)*CellSize
		if cell, ok := l.cell(x, y); ok {
			l.clusters[cell].one = nil
			l.clusters[cell].add(x, y, uint64(c.n[i]))
		}
	}
}

// Sum is the counts of all of these together, in cells as coarse as the coarsest's.
func Sum(list ...*Counts) *Counts {
	out := &Counts{}
	for _, c := range list {
		out.shift = max(out.shift, c.shift)
	}
	for _, c := range list {
		out.cells = append(out.cells, c.cells...)
		out.n = append(out.n, c.n...)
	}
	out.Sort()
	out.unite()
	out.Coarsen()
	return out
}

// unite makes one of the cells that are one at this coarseness.
func (c *Counts) unite() {
	kept := 0
	for i, cell := range c.cells {
		cell = cell >> (2 * c.shift) << (2 * c.shift)
		if kept > 0 && c.cells[kept-1] == cell {
			c.n[kept-1] += c.n[i]
			continue
		}
		c.cells[kept], c.n[kept] = cell, c.n[i]
		kept++
	}
	c.cells, c.n = c.cells[:kept], c.n[:kept]
}

// morton interleaves the bits of column and row.
func morton(column, row uint32) uint32 { return spread(column) | spread(row)<<1 }

func unmorton(m uint32) (column, row uint32) { return squeeze(m), squeeze(m >> 1) }

func spread(v uint32) uint32 {
	v &= 0xffff
	v = (v | v<<8) & 0x00ff00ff
	v = (v | v<<4) & 0x0f0f0f0f
	v = (v | v<<2) & 0x33333333
	return (v | v<<1) & 0x55555555
}

func squeeze(v uint32) uint32 {
	v &= 0x55555555
	v = (v | v>>1) & 0x33333333
	v = (v | v>>2) & 0x0f0f0f0f
	v = (v | v>>4) & 0x00ff00ff
	return (v | v>>8) & 0xffff
}

// maxCells bounds the counts of one segment, 8 bytes each.
const maxCells = schema.MaxCells

// Coarsen merges cells, four into one, until there are few enough to keep. Call it
// after Sort.
func (c *Counts) Coarsen() {
	for len(c.cells) > maxCells && c.shift < schema.MaxCoarse {
		c.shift++
		c.unite()
	}
	c.cells, c.n = append([]uint32(nil), c.cells...), append([]uint32(nil), c.n...)
}
