package fence_test

import (
	"fmt"

	"cairn/fence"
)

// Which fences a bus is in at a place.
func ExampleSet_At() {
	home, err := fence.Parse("home", []byte(`{"longitude": 13.4, "latitude": 52.5, "radius": 200}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	depot, err := fence.Parse("depot", []byte(`{"type": "Feature", "geometry": {"type": "Polygon",
		"coordinates": [[[13.3, 52.4], [13.5, 52.4], [13.5, 52.6], [13.3, 52.6], [13.3, 52.4]]]}, "names": ["bus-*"]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	set := fence.NewSet([]*fence.Fence{home, depot})
	for _, name := range []string{"bus-7", "tram-1"} {
		for _, f := range set.At(nil, name, [2]float64{13.401, 52.5}) {
			fmt.Println(name, "is in", f.ID)
		}
	}
	// Output:
	// bus-7 is in depot
	// bus-7 is in home
	// tram-1 is in home
}
