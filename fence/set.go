package fence

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"cairn/internal/earth"
)

// MaxAtOnce is how many fences one name can be in at once; of more, those are heeded
// whose ids come first. It bounds what one point can cost.
const MaxAtOnce = 64

// A box is in degrees, and west is never above east.
type box struct{ west, south, east, north float64 }

func (b *box) has(p earth.Place) bool {
	return b.west <= p[0] && p[0] <= b.east && b.south <= p[1] && p[1] <= b.north
}

func (b *box) widen(o box) {
	b.west, b.south = min(b.west, o.west), min(b.south, o.south)
	b.east, b.north = max(b.east, o.east), max(b.north, o.north)
}

// nowhere is widened to what is in it.
var nowhere = box{math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)}

// bound finds the boxes that the area is in: two where a circle crosses the
// antimeridian, one for each polygon.
func (f *Fence) bound() {
	if f.radius > 0 {
		west, south, east, north := earth.Around(f.center, f.radius)
		if west <= east {
			f.boxes = []box{{west, south, east, north}}
			return
		}
		f.boxes = []box{{west, south, 180, north}, {-180, south, east, north}}
		return
	}
	for _, polygon := range f.polygons {
		b := nowhere
		for _, p := range polygon[0] {
			b.widen(box{p[0], p[1], p[0], p[1]})
		}
		f.boxes = append(f.boxes, b)
	}
}

// width is how many boxes a node of the tree has.
const width = 16

// A Set tells in which of many fences a place is. It is made once, and read by many:
// a packed R-tree (sort-tile-recursive) of their boxes, a level a slice.
type Set struct {
	fences []*Fence // in the order of their ids
	of     []int32  // which fence each box of the lowest level is of
	levels [][]box  // the lowest first; box i of a level has boxes width·i to width·(i+1) of the one below
}

// NewSet makes the set.
func NewSet(fences []*Fence) *Set {
	s := &Set{fences: slices.Clone(fences)}
	slices.SortFunc(s.fences, func(a, b *Fence) int { return strings.Compare(a.ID, b.ID) })
	type leaf struct {
		box
		of int32
	}
	var leaves []leaf
	for i, f := range s.fences {
		for _, b := range f.boxes {
			leaves = append(leaves, leaf{b, int32(i)}) //nolint:gosec // MaxFences
		}
	}
	// Strips from west to east, each sorted from south to north.
	slices.SortFunc(leaves, func(a, b leaf) int { return cmp.Compare(a.west+a.east, b.west+b.east) })
	strip := max(width, width*int(math.Ceil(math.Sqrt(float64(len(leaves))/width))))
	for some := range slices.Chunk(leaves, strip) {
		slices.SortFunc(some, func(a, b leaf) int { return cmp.Compare(a.south+a.north, b.south+b.north) })
	}
	var level []box
	for _, l := range leaves {
		level, s.of = append(level, l.box), append(s.of, l.of)
	}
	for s.levels = [][]box{level}; len(level) > 1; s.levels = append(s.levels, level) {
		var above []box
		for some := range slices.Chunk(level, width) {
			b := nowhere
			for _, one := range some {
				b.widen(one)
			}
			above = append(above, b)
		}
		level = above
	}
	return s
}

// Len is how many fences there are.
func (s *Set) Len() int { return len(s.fences) }

// At appends the fences that are about the name and that the place is in, in the order
// of their ids, MaxAtOnce at most.
func (s *Set) At(dst []*Fence, name string, p earth.Place) []*Fence {
	var room [MaxAtOnce]int32
	found := s.search(room[:0], len(s.levels)-1, 0, len(s.levels[len(s.levels)-1]), p)
	slices.Sort(found)
	for _, i := range slices.Compact(found) {
		if f := s.fences[i]; f.About(name) && f.Has(p) {
			if dst = append(dst, f); len(dst) == MaxAtOnce {
				break
			}
		}
	}
	return dst
}

// search appends the fences that have a box with the place among some of a level.
func (s *Set) search(dst []int32, level, from, to int, p earth.Place) []int32 {
	boxes := s.levels[level]
	for i := from; i < min(to, len(boxes)); i++ {
		switch {
		case !boxes[i].has(p):
		case level == 0:
			dst = append(dst, s.of[i])
		default:
			dst = s.search(dst, level-1, width*i, width*(i+1), p)
		}
	}
	return dst
}
