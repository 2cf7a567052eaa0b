package ogc

import (
	"encoding/json"
	"slices"
	"testing"
)

// What people look for stands first, however few of the points have it; what most have
// comes before what few have.
func TestViewColumns(t *testing.T) {
	features := make([]feature, 20)
	for i := range features {
		p := map[string]json.RawMessage{"id": nil, "cairn_id": nil, "received": nil, "position": nil, "revision": nil}
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
			p[name] = nil
		}
		if i == 0 {
			p["name"], p["time"], p["aa"] = nil, nil, nil
		}
		features[i].Properties = p
	}
	want := []string{"name", "time", "a", "b", "c", "d", "e", "f", "g", "received", "position", "revision"}
	if got := viewColumns(features); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
