package filter

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"cairn/event"
)

// benchParameters is the filter of some parameters of a query string.
func benchParameters(b testing.TB, list ...string) Expr {
	b.Helper()
	var parts []Parameter
	for _, text := range list {
		name, value, _ := strings.Cut(text, "=")
		p, _, err := ParseParameter(name, value)
		if err != nil {
			b.Fatal(err)
		}
		parts = append(parts, p)
	}
	return Combine(parts)
}

// largeObject is of a quarter of a megabyte: as large as a point may be.
func largeObject() []byte {
	object := []byte(`{"p0": 0`)
	for i := 1; len(object) < 249<<10; i++ {
		object = fmt.Appendf(object, `, "p%d": %d`, i, i)
	}
	return append(object, '}')
}

// Filters as people write them, about a point as people have it, and the heaviest that
// there may be, about the largest.
func BenchmarkMatch(b *testing.B) {
	small := Row{X: 13.4, Y: 52.5, Altitude: math.NaN(), Time: 1, Received: 1, Position: event.At(1, 1), Revision: event.At(1, 1), Name: "Berlin",
		Properties: []byte(`{"name": "Berlin", "country": "DE", "modified": "2024-01-02", "geonameid": 2950159, "population": 3426354}`)}
	large := small
	large.Properties = largeObject()
	text := small
	text.Properties = bytes.Join([][]byte{[]byte(`{"note": "`), bytes.Repeat([]byte("a"), 249<<10), []byte(`"}`)}, nil)
	var many []Expr
	for i := range 50 {
		many = append(many, benchParameters(b, fmt.Sprintf("properties.q%d=%d", i, i)))
	}
	like, err := NewLike(Property("note"), "%ab%")
	if err != nil {
		b.Fatal(err)
	}
	for _, test := range []struct {
		title string
		e     Expr
		row   *Row
	}{
		{"box", benchParameters(b, "bbox=10,50,20,60"), &small},
		{"name", benchParameters(b, "name=Berlin"), &small},
		{"first property", benchParameters(b, "properties.name=Berlin"), &small},
		{"last property", benchParameters(b, "properties.population=3426354"), &small},
		{"no property", benchParameters(b, "properties.nothing=1"), &small},
		{"range", benchParameters(b, "properties.population=1000000.."), &small},
		{"three properties", benchParameters(b, "properties.country=DE", "properties.population=1000000..", "properties.name=Berlin"), &small},
		{"100 comparisons", Or(many), &small},
		{"large, last property", benchParameters(b, "properties.nothing=1"), &large},
		{"large, 100 comparisons", Or(many), &large},
		{"large, like", like, &text},
	} {
		b.Run(test.title, func(b *testing.B) {
			b.ReportAllocs()
			var s Subject
			cost := 0
			for b.Loop() {
				s.Set(test.row)
				left := math.MaxInt
				s.Match(test.e, &left)
				cost = math.MaxInt - left + s.Read()
			}
			b.ReportMetric(float64(cost), "charged-ns/op")
		})
	}
}
