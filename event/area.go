package event

import (
	"encoding/json"
	"fmt"
)

// An Area is a box in degrees: west, south, east, north. West is above east where it
// crosses the antimeridian (RFC 7946, section 5.2).
type Area [4]float64

// Has reports whether a place is in it, its edge included.
func (a *Area) Has(longitude, latitude float64) bool {
	if !(latitude >= a[1] && latitude <= a[3]) {
		return false
	}
	if a[0] <= a[2] {
		return longitude >= a[0] && longitude <= a[2]
	}
	return longitude >= a[0] || longitude <= a[2]
}

// Check says what is wrong with it.
func (a *Area) Check() error {
	for i, degrees := range a {
		bound := 180.0
		if i%2 == 1 {
			bound = 90
		}
		if !(degrees >= -bound && degrees <= bound) {
			return fmt.Errorf("an area is WEST,SOUTH,EAST,NORTH, in degrees: %v is out of range", degrees)
		}
	}
	if a[1] > a[3] {
		return fmt.Errorf("the area's south, %v, is north of its north, %v", a[1], a[3])
	}
	return nil
}

// append appends it as JSON.
func (a *Area) append(dst []byte) []byte {
	open := byte('[')
	for _, degrees := range a {
		dst = AppendFloat(append(dst, open), degrees)
		open = ','
	}
	return append(dst, ']')
}

// readArea reads what append wrote.
func readArea(raw []byte) (*Area, error) {
	var list []float64
	if err := json.Unmarshal(raw, &list); err != nil || len(list) != len(Area{}) {
		return nil, fmt.Errorf("%.100s is no area", raw)
	}
	a := Area(list)
	return &a, a.Check()
}
