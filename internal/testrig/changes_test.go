package testrig

import (
	"strings"
	"testing"
)

// The model finds what it is for, and nothing else.
func TestChanges(t *testing.T) {
	one, two := NewPoint("one").Called("x", false), NewPoint("two").Called("x", false)
	found := func(p *Point, revision int64) Found {
		g := &Got{ID: p.ID, Longitude: p.longitude, Latitude: p.latitude, Revision: revision, Properties: map[string]any{"name": p.Name, "n": p.n}}
		if p.hasAltitude {
			g.Altitude = &p.altitude
		}
		return Found{Got: g, Revision: revision}
	}
	type step struct {
		point    *Point
		position int64
		late     bool
	}
	for _, tt := range []struct {
		name  string
		steps []step
		found Found
		want  string
	}{
		{"as acknowledged", []step{{one, 10, false}, {two, 20, false}}, found(two, 20), ""},
		{"a lost update", []step{{one, 10, false}, {two, 20, false}}, found(one, 10), "STALE"},
		{"one that may have come late", []step{{one, 10, true}, {two, 20, false}}, found(one, 30), ""},
		{"one that may be late, but came before", []step{{one, 10, true}, {two, 20, false}}, found(one, 10), "STALE"},
		{"deleted", []step{{one, 10, false}, {nil, 20, false}}, Found{Deleted: true, Revision: 20}, ""},
		{"deleted without a tombstone", []step{{one, 10, false}, {nil, 20, false}}, Found{Missing: true}, "LOST"},
		{"back from the dead", []step{{one, 10, false}, {nil, 20, false}}, found(one, 10), "RESURRECTED"},
		{"lost", []step{{one, 10, false}}, Found{Missing: true}, "LOST"},
		{"not acknowledged, and not there", []step{{one, 0, true}}, Found{Missing: true}, ""},
		{"not acknowledged, and there", []step{{one, 0, true}}, found(one, 10), ""},
		{"refused, and there", []step{{one, 0, false}}, found(one, 10), "UNKNOWN"},
		{"an older revision of the right content", []step{{one, 10, false}, {two, 20, false}, {one, 30, false}}, found(one, 10), "but at revision 10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewChanges()
			for _, s := range tt.steps {
				v := c.Begin("x", s.point)
				c.End("x", v, s.position, s.position, s.late)
			}
			changes, _ := c.Settled("x")
			got := c.Wrong("x", tt.found, changes)
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// What retention dropped is gone, unless it was changed from behind that on.
func TestChangesOfWhatWasDropped(t *testing.T) {
	one, two := NewPoint("one").Called("x", false), NewPoint("two").Called("x", false)
	is := func(p *Point, revision int64) Found {
		g := &Got{ID: p.ID, Longitude: p.longitude, Latitude: p.latitude, Revision: revision, Properties: map[string]any{"name": p.Name, "n": p.n}}
		if p.hasAltitude {
			g.Altitude = &p.altitude
		}
		return Found{Got: g, Revision: revision}
	}
	for _, tt := range []struct {
		name  string
		last  int64 // where its last change was acknowledged; it was created at 10
		at    int64 // up to there all was applied when it was dropped
		found Found
		want  string
	}{
		{"gone", 20, 30, Found{Missing: true}, ""},
		{"dropped, and there", 20, 30, is(two, 20), "UNKNOWN"},
		{"put again, and there", 40, 30, is(two, 40), ""},
		{"put again, and lost", 40, 30, Found{Missing: true}, "LOST"},
		{"put again, and as it was before", 40, 30, is(one, 10), "STALE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewChanges()
			c.End("x", c.Begin("x", one), 10, 10, false)
			c.End("x", c.Begin("x", two), tt.last, tt.last, false)
			c.Dropped("x", tt.at)
			changes, _ := c.Settled("x")
			if got := c.Wrong("x", tt.found, changes); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
