package earth

// A Side is where a place lies of a ring or polygon.
type Side int

// The sides.
const (
	Outside Side = iota
	Edge
	Inside
)

// SideOf tells where the place lies of a polygon, whose rings are closed, the outer one
// first. Edges are straight in degrees, as GeoJSON has them (RFC 7946, section 3.1.1).
func SideOf(polygon [][]Place, p Place) Side {
	if len(polygon) == 0 {
		return Outside
	}
	if s := ringSide(polygon[0], p); s != Inside {
		return s
	}
	for _, hole := range polygon[1:] {
		switch ringSide(hole, p) {
		case Inside:
			return Outside
		case Edge:
			return Edge
		}
	}
	return Inside
}

// ringSide counts how often the ring winds around the place.
func ringSide(ring []Place, p Place) Side {
	winds := 0
	for i := 1; i < len(ring); i++ {
		a, b := ring[i-1], ring[i]
		if a == b {
			continue
		}
		turn := (b[0]-a[0])*(p[1]-a[1]) - (p[0]-a[0])*(b[1]-a[1])
		if turn == 0 && min(a[0], b[0]) <= p[0] && p[0] <= max(a[0], b[0]) && min(a[1], b[1]) <= p[1] && p[1] <= max(a[1], b[1]) {
			return Edge
		}
		switch {
		case a[1] <= p[1] && p[1] < b[1] && turn > 0:
			winds++
		case b[1] <= p[1] && p[1] < a[1] && turn < 0:
			winds--
		}
	}
	if winds == 0 {
		return Outside
	}
	return Inside
}
