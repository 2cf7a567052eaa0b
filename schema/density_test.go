package schema

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestDensity(t *testing.T) {
	counts := map[int]float64{}
	add := func(longitude, latitude, n float64) {
		counts[int((latitude+90)*4)*densityColumns+int((longitude+180)*4)] += n
	}
	add(10.1, 50.1, 1000)
	add(10.6, 50.6, 300)
	add(-179.9, -89.9, 7)
	add(179.9, 89.9, 5)
	d := PackDensity(counts)
	tests := []struct {
		name                     string
		west, south, east, north float64
		want                     float64
		known                    bool
	}{
		{"around both", 9, 49, 11, 51, 1300, true},
		{"one", 10, 50, 10.25, 50.25, 1000, true},
		{"a quarter of one", 10, 50, 10.125, 50.125, 250, true},
		{"none", 0, 0, 2, 2, 0, true},
		{"the south-west corner", -180, -90, -179, -89, 7, true},
		{"the north-east corner", 179, 89, 180, 90, 5, true},
		{"a large box", -180, -90, 180, 90, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, known := d.InBox(test.west, test.south, test.east, test.north)
			if known != test.known || math.Abs(got-test.want) > 0.02*test.want {
				t.Errorf("%g, %t; want %g, %t", got, known, test.want, test.known)
			}
		})
	}
	if _, known := Density(nil).InBox(0, 0, 1, 1); known {
		t.Error("what is not known is")
	}
}

// Where points are everywhere, the grid is coarser, and the sum the same.
func TestDensityIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	counts := map[int]float64{}
	for range 200_000 {
		counts[r.IntN(densityRows*densityColumns)]++
	}
	d := PackDensity(counts)
	if d[0] == 0 || d.len() > maxDensity {
		t.Errorf("step %d, %d cells", d[0], d.len())
	}
	got, known := d.InBox(-60, -30, 60, 30)
	if want := 200_000.0 / 9; !known || math.Abs(got-want) > 0.05*want {
		t.Errorf("%g, %t; want about %g", got, known, want)
	}
}
