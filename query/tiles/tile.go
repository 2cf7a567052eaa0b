// Package tiles makes Mapbox Vector Tiles (version 2.1) of points, in the tile
// matrix set WebMercatorQuad (OGC 17-083r4, annex D.1): single points where a tile
// has few, clusters with counts where it has many, so that no tile is larger than
// MaxBytes.
package tiles

import (
	"fmt"
	"math"

	"github.com/paulmach/orb"
)

const (
	// MaxZoom is the deepest zoom level that tiles are made for: 9.5 m a cell of
	// the 256 that a tile is wide. Maps enlarge these.
	MaxZoom = 22
	// MaxBytes bounds a tile, uncompressed: what a phone parses within a frame.
	MaxBytes = 500_000
	// MaxPoints is how many points a tile shows one by one, each with its id.
	MaxPoints = 3_000
	// gridBits: clusters stand in a grid of 64 × 64 cells a tile, 8 pixels of a
	// tile drawn 512 wide.
	gridBits = 6
	// extent is the width of a tile in the units of its coordinates.
	extent = 4096
)

// A Tile is one square of the map: X from the west, Y from the north.
type Tile struct{ Z, X, Y uint32 }

// Valid says what is wrong with the tile's place, if anything is.
func (t Tile) Valid() error {
	if t.Z > MaxZoom {
		return fmt.Errorf("the zoom level must be from 0 to %d", MaxZoom)
	}
	if n := uint32(1) << t.Z; t.X >= n || t.Y >= n {
		return fmt.Errorf("at zoom level %d, rows and columns go from 0 to %d", t.Z, n-1)
	}
	return nil
}

// slack is what bounds are wider than a tile, in degrees, 0.1 mm: they are rounded,
// and a point that they leave out would be in no tile at all.
const slack = 1e-9

// Bounds are the tile's edges in degrees, or a little more: which points are in it
// is for [Layer.Add] to say. Tiles at the edge of the map take in the poles beyond
// it, which Web Mercator cannot show: no point is in no tile.
func (t Tile) Bounds() (west, south, east, north float64) {
	n := float64(uint32(1) << t.Z)
	west, east = max(-180, float64(t.X)/n*360-180-slack), min(180, float64(t.X+1)/n*360-180+slack)
	north, south = latitude(float64(t.Y)/n)+slack, latitude(float64(t.Y+1)/n)-slack
	if t.Y == 0 {
		north = 90
	}
	if t.Y == uint32(n)-1 {
		south = -90
	}
	return west, south, east, north
}

func latitude(y float64) float64 { return math.Atan(math.Sinh(math.Pi*(1-2*y))) * 180 / math.Pi }

// project gives a point's place on the map, both from 0 to 1, from the north-west.
func project(p orb.Point) (x, y float64) {
	x = (p[0] + 180) / 360 // as schema.CellColumn has it
	sin := math.Sin(p[1] * math.Pi / 180)
	y = 0.5 - 0.25*math.Log((1+sin)/(1-sin))/math.Pi
	const last = 1 - 1e-12
	return min(max(x, 0), last), min(max(y, 0), last) // NaN and ∞ only beyond the poles
}

// A Point is what a tile shows of one.
type Point struct {
	ID   string
	Name string
	Time string // RFC 3339; "" where it has none
	At   orb.Point
	// Order is what points are drawn by: the newest last, on top of the others.
	Order int64
}

// A cluster is a number of points, with the sum of their places.
type cluster struct {
	n    uint64
	x, y float64
	one  *Point // where n is 1 and the point is known
}

// A Layer gathers what a tile shows.
type Layer struct {
	tile   Tile
	points []Point
	// clusters by cell of the grid, row by row; nil while there are few points.
	clusters []cluster
}

// NewLayer is an empty layer of the tile.
func NewLayer(t Tile) *Layer { return &Layer{tile: t} }

// Add adds a point, if it is in the tile: one on an edge is in one of the tiles that
// share it. Beyond MaxPoints they become clusters. What the point is called is asked
// for only where that is shown.
func (l *Layer) Add(at orb.Point, point func() Point) {
	x, y := project(at)
	cell, ok := l.cell(x, y)
	if !ok {
		return
	}
	if l.clusters == nil {
		l.points = append(l.points, point())
		if len(l.points) > MaxPoints {
			l.gather()
		}
		return
	}
	c := &l.clusters[cell]
	if c.n == 0 {
		p := point()
		c.one = &p
	}
	c.add(x, y, 1)
}

// gather turns the points into clusters.
func (l *Layer) gather() {
	if l.clusters != nil {
		return
	}
	l.clusters = make([]cluster, 1<<(2*gridBits))
	for i := range l.points {
		x, y := project(l.points[i].At)
		if cell, ok := l.cell(x, y); ok {
			l.join(cell, cluster{1, x, y, &l.points[i]})
		}
	}
	l.points = nil
}

// join adds a cluster to that of a cell.
func (l *Layer) join(cell int, more cluster) {
	c := &l.clusters[cell]
	if c.n == 0 {
		c.one = more.one
	}
	c.n += more.n
	c.x += more.x
	c.y += more.y
}

func (c *cluster) add(x, y float64, n uint64) {
	c.n += n
	c.x += x * float64(n)
	c.y += y * float64(n)
}

// cell is the cell of the tile's grid that holds a place on the map; ok is false
// where that is another tile's.
func (l *Layer) cell(x, y float64) (cell int, ok bool) {
	scale := float64(uint64(1) << (l.tile.Z + gridBits))
	column := int64(x*scale) - int64(l.tile.X)<<gridBits
	row := int64(y*scale) - int64(l.tile.Y)<<gridBits
	const side = 1 << gridBits
	return int(row<<gridBits | column), column >= 0 && column < side && row >= 0 && row < side
}
