package ogc

import (
	"strings"

	"cairn/query/filter"
	"cairn/query/ogc/cql2"
)

// spatial makes the filter of an S_ function, whose arguments are the geometry of
// the points and a literal.
func spatial(n *cql2.Node) (filter.Expr, error) {
	left, right, name := n.Args[0], n.Args[1], n.Text
	if left.Kind != cql2.Property && right.Kind == cql2.Property {
		left, right = right, left
		// Of a point, "the literal contains it" is "it is within".
		switch name {
		case "s_contains":
			name = "s_within"
		case "s_within":
			name = "s_contains"
		}
	}
	switch {
	case left.Kind != cql2.Property || !geometryNames[left.Text]:
		return nil, left.Fail("the geometry of the points is expected here: geometry")
	case right.Kind != cql2.Geometry:
		return nil, right.Fail("a geometry is expected here, such as BBOX(2,48,3,49) or a POLYGON, not %s", right.What())
	}
	switch kind := right.Shape.Type; kind {
	case "Point", "MultiPoint":
		return toPoints(n, name, right.Shape)
	case "Polygon", "MultiPolygon":
		return toArea(n, name, right.Shape.Polygons)
	case "BBOX":
		if name == "s_intersects" {
			return boxOf(right.Shape.Box), nil
		}
		return toArea(n, name, rectangles(boxOf(right.Shape.Box)))
	default:
		return nil, right.Fail("a %s has no inside for a point to be in; use a polygon or a box", kind)
	}
}

// boxOf wraps longitudes as parameters are.
func boxOf(b [4]float64) filter.Box {
	wrap := func(lon float64) float64 {
		for lon > 180 {
			lon -= 360
		}
		for lon < -180 {
			lon += 360
		}
		return lon
	}
	if b[2]-b[0] >= 360 {
		return filter.Box{West: -180, South: b[1], East: 180, North: b[3]}
	}
	return filter.Box{West: wrap(b[0]), South: b[1], East: wrap(b[2]), North: b[3]}
}

// rectangles are a box as polygons: two where it crosses the antimeridian.
func rectangles(b filter.Box) [][][]filter.Place {
	rectangle := func(west, east float64) [][]filter.Place {
		return [][]filter.Place{{{west, b.South}, {east, b.South}, {east, b.North}, {west, b.North}, {west, b.South}}}
	}
	if b.West > b.East {
		return [][][]filter.Place{rectangle(b.West, 180), rectangle(-180, b.East)}
	}
	return [][][]filter.Place{rectangle(b.West, b.East)}
}

func toArea(n *cql2.Node, name string, polygons [][][]filter.Place) (filter.Expr, error) {
	touching, within := filter.NewArea(true, polygons), filter.NewArea(false, polygons)
	switch name {
	case "s_intersects":
		return touching, nil
	case "s_disjoint":
		return filter.Not{Expr: touching}, nil
	case "s_within":
		return within, nil
	case "s_touches":
		return filter.And{touching, filter.Not{Expr: within}}, nil
	case "s_contains", "s_equals":
		return filter.Or{}, nil // no point contains an area or is one
	}
	return nil, never(n, name)
}

func toPoints(n *cql2.Node, name string, s *cql2.Shape) (filter.Expr, error) {
	places := s.Polygons[0][0]
	var any filter.Or
	for _, p := range places {
		any = append(any, filter.Box{West: p[0], South: p[1], East: p[0], North: p[1]})
	}
	switch name {
	case "s_intersects", "s_within":
		return any, nil
	case "s_disjoint":
		return filter.Not{Expr: any}, nil
	case "s_equals", "s_contains":
		for _, p := range places {
			if p != places[0] {
				return filter.Or{}, nil
			}
		}
		return any, nil
	case "s_touches":
		return filter.Or{}, nil // points have no edge
	}
	return nil, never(n, name)
}

func never(n *cql2.Node, name string) error {
	return n.Fail("%s is never true of a point; there are S_INTERSECTS, S_WITHIN, S_CONTAINS, S_DISJOINT, S_EQUALS and S_TOUCHES", strings.ToUpper(name))
}
