package filter

import (
	"cairn/event"
	"cairn/internal/earth"
)

// A Place is a longitude and a latitude, in degrees.
type Place = earth.Place

// Area is true inside polygons, in degrees: on their edges too where Touching is
// set (CQL2's S_INTERSECTS), not so where it is not (S_WITHIN). Edges are straight
// in degrees, as GeoJSON has them (RFC 7946, section 3.1.1). Make it with
// [NewArea].
type Area struct {
	Touching bool
	polygons [][][]Place // the outer ring of each first; every ring is closed
	text     string      // WKT
	bounds   Box
	vertices int
}

func (Area) expr() {}

// NewArea is the area of one polygon or more, each of which has closed rings, the
// outer one first.
func NewArea(touching bool, polygons [][][]Place) Area {
	a := Area{Touching: touching, polygons: polygons, bounds: Box{West: 180, South: 90, East: -180, North: -90}}
	text := []byte("MULTIPOLYGON")
	for i, polygon := range polygons {
		text = append(text, separator(i)...)
		for j, ring := range polygon {
			text = append(text, separator(j)...)
			a.vertices += len(ring)
			for k, p := range ring {
				text = append(text, separator(k)...)
				text = append(event.AppendFloat(text, p[0]), ' ')
				text = event.AppendFloat(text, p[1])
				a.bounds.West, a.bounds.East = min(a.bounds.West, p[0]), max(a.bounds.East, p[0])
				a.bounds.South, a.bounds.North = min(a.bounds.South, p[1]), max(a.bounds.North, p[1])
			}
			text = append(text, ')')
		}
		text = append(text, ')')
	}
	a.text = string(append(text, ')'))
	return a
}

// separator opens a list or continues with it.
func separator(i int) string {
	if i == 0 {
		return "("
	}
	return ","
}

func (a *Area) has(x, y float64) bool {
	switch s := a.side(Place{x, y}); s {
	case earth.Edge:
		return a.Touching
	default:
		return s == earth.Inside
	}
}

// side decides as PostGIS does: the first polygon that has the place, or its edge.
func (a *Area) side(p Place) earth.Side {
	for _, polygon := range a.polygons {
		if s := earth.SideOf(polygon, p); s != earth.Outside {
			return s
		}
	}
	return earth.Outside
}

// area compares with what PostGIS has: with a point it decides on its own, without
// asking whether the polygon is valid.
func (b *Builder) area(e Area) string {
	function := "ST_Within"
	if e.Touching {
		function = "ST_Intersects"
	}
	return function + "(geom, ST_GeomFromText(" + b.Arg(e.text, "text") + ", 4326))"
}
