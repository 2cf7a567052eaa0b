package filter_test

import (
	"fmt"

	"cairn/query/filter"
)

// A request's filter, as streams apply it to each point.
func ExampleMatch() {
	var parts []filter.Parameter
	for _, q := range [][2]string{{"bbox", "-5,42,9,51"}, {"properties.mag", "4..5"}} {
		p, known, err := filter.ParseParameter(q[0], q[1])
		if err != nil || !known {
			fmt.Println(q[0], err)
			return
		}
		parts = append(parts, p)
	}
	expr := filter.Combine(parts)
	for _, row := range []filter.Row{
		{X: 2.35, Y: 48.85, Properties: []byte(`{"mag": 4.5}`)},
		{X: 2.35, Y: 48.85, Properties: []byte(`{"mag": 6}`)},
		{X: 13.4, Y: 52.52, Properties: []byte(`{"mag": 4.5}`)},
	} {
		fmt.Println(filter.Match(expr, &row))
	}
	// Output:
	// true
	// false
	// false
}
