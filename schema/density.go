package schema

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
)

// A Density says about how the points of a segment lie: the step of a grid, and its
// cells that have points, each with how many. Cells of 5° are too coarse for that where
// points are around towns: a box of 2° may have one part in six of them, or all.
type Density []byte

const (
	// densityColumns and densityRows are of the finest grid, of 0.25°; a coarser one
	// has cells of twice the step.
	densityColumns, densityRows = 1440, 720
	densitySteps                = 4
	// maxDensity bounds the cells that are kept, to 16 KiB.
	maxDensity = 4096
	// densityBytes are an entry's: 20 bits of a cell, and 12 of 64 times the binary
	// logarithm of how many points it has.
	densityBytes, countBits = 4, 12
	// maxLookUps bounds the cells that are looked up for a box: a larger one is
	// estimated by cells of 5°.
	maxLookUps = 1024
)

// DensityCell is the number of a row's cell in the finest grid, as SQL.
const DensityCell = `least(719, greatest(0, floor((st_y(geom) + 90) * 4)))::int * 1440 + least(1439, greatest(0, floor((st_x(geom) + 180) * 4)))::int`

// PackDensity packs counts by cells of the finest grid, or of one so coarse that there
// are few.
func PackDensity(counts map[int]float64) Density {
	step := 0
	for ; len(counts) > maxDensity && step < densitySteps; step++ {
		columns, coarser := densityColumns>>step, make(map[int]float64, len(counts)/2)
		for cell, n := range counts {
			coarser[cell/columns/2*(columns/2)+cell%columns/2] += n
		}
		counts = coarser
	}
	entries := make([]uint32, 0, len(counts))
	for cell, n := range counts {
		magnitude := min(1<<countBits-1, int(math.Round(64*math.Log2(max(1, n)))))
		entries = append(entries, uint32(cell<<countBits|magnitude)) //nolint:gosec // 20 bits and 12
	}
	slices.Sort(entries)
	d := append(make(Density, 0, 1+len(entries)*densityBytes), byte(step))
	for _, e := range entries {
		d = binary.BigEndian.AppendUint32(d, e)
	}
	return d
}

// InBox is about how many points lie in a box that does not cross the antimeridian; ok
// is false where that is not known, or the box is large.
func (d Density) InBox(west, south, east, north float64) (points float64, ok bool) {
	if len(d) == 0 {
		return 0, false
	}
	columns, rows := densityColumns>>d[0], densityRows>>d[0]
	step := 360 / float64(columns)
	c0, c1 := gridCell(west+180, step, columns), gridCell(east+180, step, columns)
	r0, r1 := gridCell(south+90, step, rows), gridCell(north+90, step, rows)
	if (c1-c0+1)*(r1-r0+1) > maxLookUps {
		return 0, false
	}
	for r := r0; r <= r1; r++ {
		height := gridShare(south+90, north+90, r, step)
		for i := d.search(r*columns + c0); i < d.len(); i++ {
			cell, n := d.entry(i)
			if cell > r*columns+c1 {
				break
			}
			points += n * height * gridShare(west+180, east+180, cell-r*columns, step)
		}
	}
	return points, true
}

func (d Density) len() int { return (len(d) - 1) / densityBytes }

func (d Density) entry(i int) (cell int, n float64) {
	e := binary.BigEndian.Uint32(d[1+i*densityBytes:])
	return int(e >> countBits), math.Exp2(float64(e&(1<<countBits-1)) / 64)
}

// search is the first entry of this cell or one behind it.
func (d Density) search(cell int) int {
	return sort.Search(d.len(), func(i int) bool { c, _ := d.entry(i); return c >= cell })
}

func gridCell(at, step float64, count int) int {
	return max(0, min(count-1, int(math.Floor(at/step))))
}

// gridShare is which part of a cell lies between two coordinates.
func gridShare(from, to float64, cell int, step float64) float64 {
	return max(0, min(to, float64(cell+1)*step)-max(from, float64(cell)*step)) / step
}
