package fence_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"cairn/event"
	"cairn/fence"
	"cairn/internal/earth"
)

func parse(t *testing.T, id, body string) *fence.Fence {
	t.Helper()
	f, err := fence.Parse(id, []byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return f
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"a circle in short", `{"longitude":13.4,"latitude":52.5,"radius":200}`,
			`{"type":"Feature","id":"home","geometry":{"type":"Point","coordinates":[13.4,52.5]},"properties":null,"radius":200}`},
		{"a circle as a Feature", `{"type":"Feature","id":"home","geometry":{"type":"Point","coordinates":[13.4,52.5,30]},"properties":{ "name" : "Home" },"radius":1e2}`,
			`{"type":"Feature","id":"home","geometry":{"type":"Point","coordinates":[13.4,52.5]},"properties":{"name":"Home"},"radius":100}`},
		{"a polygon, its coordinates before its type", `{"geometry":{"coordinates":[[[0,0],[1,0],[1,1],[0,0]]],"type":"Polygon"},"names":["bus-*","tram \"7\""]}`,
			`{"type":"Feature","id":"home","geometry":{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]},"properties":null,"names":["bus-*","tram \"7\""]}`},
		{"polygons", `{"geometry":{"type":"MultiPolygon","coordinates":[[[[170,0],[180,0],[180,1],[170,0]]],[[[-180,0],[-170,0],[-180,1],[-180,0]]]]}}`,
			`{"type":"Feature","id":"home","geometry":{"type":"MultiPolygon","coordinates":[[[[170,0],[180,0],[180,1],[170,0]]],[[[-180,0],[-170,0],[-180,1],[-180,0]]]]},"properties":null}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := string(parse(t, "home", c.body).Append(nil))
			if got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
			if again := string(parse(t, "home", got).Append(nil)); again != got {
				t.Errorf("read again it is %s", again)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const ring = `[[0,0],[1,0],[1,1],[0,0]]`
	many := "[" + strings.Repeat("[0,0],", fence.MaxVertices) + "[0,0]]"
	for _, c := range []struct{ name, id, body, pointer, reason string }{
		{"no id", "", `{}`, "/id", "letters"},
		{"an id that is no part of a path", "a/b", `{}`, "/id", "letters"},
		{"a long id", strings.Repeat("a", 65), `{}`, "/id", "64"},
		{"another id", "home", `{"id":"work"}`, "/id", `"home"`},
		{"no object", "home", `[]`, "", "object"},
		{"not JSON", "home", `{"radius":`, "", "ends too early"},
		{"twice", "home", `{"radius":1,"radius":1}`, "/radius", "twice"},
		{"a misspelling", "home", `{"radious":1}`, "/radious", "no such member"},
		{"nothing", "home", `{}`, "", "no area"},
		{"a half", "home", `{"longitude":1,"radius":5}`, "", "longitude and latitude"},
		{"both", "home", `{"longitude":1,"latitude":1,"radius":5,"geometry":{"type":"Point","coordinates":[1,1]}}`, "", "longitude and latitude"},
		{"no radius", "home", `{"longitude":1,"latitude":1}`, "/radius", "metres"},
		{"radius 0", "home", `{"longitude":1,"latitude":1,"radius":0}`, "/radius", "metres"},
		{"a radius beyond the globe", "home", `{"longitude":1,"latitude":1,"radius":10000001}`, "/radius", "10000000"},
		{"a radius of a polygon", "home", `{"geometry":{"type":"Polygon","coordinates":[` + ring + `]},"radius":5}`, "/radius", "Point"},
		{"a longitude beyond", "home", `{"longitude":181,"latitude":1,"radius":5}`, "/longitude", "180"},
		{"a latitude beyond", "home", `{"geometry":{"type":"Polygon","coordinates":[[[0,0],[1,91]]]}}`, "/geometry/coordinates/0/1/1", "90"},
		{"a line", "home", `{"geometry":{"type":"LineString","coordinates":[[0,0],[1,1]]}}`, "/geometry", "Polygon"},
		{"an open ring", "home", `{"geometry":{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,1]]]}}`, "/geometry/coordinates/0", "first again"},
		{"three positions", "home", `{"geometry":{"type":"Polygon","coordinates":[[[0,0],[1,0],[0,0]]]}}`, "/geometry/coordinates/0", "four"},
		{"no ring", "home", `{"geometry":{"type":"Polygon","coordinates":[]}}`, "/geometry/coordinates", "ring"},
		{"no polygon", "home", `{"geometry":{"type":"MultiPolygon","coordinates":[]}}`, "/geometry/coordinates", "no polygon"},
		{"half a position", "home", `{"geometry":{"type":"Polygon","coordinates":[[[0]]]}}`, "/geometry/coordinates/0/0", "longitude, latitude"},
		{"too many vertices", "home", `{"geometry":{"type":"Polygon","coordinates":[` + many + `]}}`, "/geometry/coordinates/0/10000", "simplify"},
		{"metres of a projection", "home", `{"geometry":{"type":"Polygon","coordinates":[` + ring + `],"crs":{"type":"name","properties":{"name":"EPSG:3857"}}}}`, "/geometry/crs", "WGS 84"},
		{"names that are none", "home", `{"longitude":1,"latitude":1,"radius":5,"names":[""]}`, "/names/0", "characters"},
		{"a star in the middle", "home", `{"longitude":1,"latitude":1,"radius":5,"names":["a*b"]}`, "/names/0", "at the end"},
		{"too many names", "home", `{"names":[` + strings.TrimSuffix(strings.Repeat(`"a",`, 101), ",") + `]}`, "/names/100", "100"},
		{"large properties", "home", `{"properties":{"a":"` + strings.Repeat("a", fence.MaxPropertyBytes) + `"}}`, "/properties", "bytes"},
		{"something behind", "home", `{"longitude":1,"latitude":1,"radius":5} 1`, "", "follows"},
		{"too large", "home", strings.Repeat(" ", fence.MaxBytes+1), "", "bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := fence.Parse(c.id, []byte(c.body))
			var f *event.FieldError
			if !errors.As(err, &f) || f.Pointer != c.pointer || !strings.Contains(f.Reason, c.reason) {
				t.Errorf("%v, want %q at %q", err, c.reason, c.pointer)
			}
		})
	}
}

func TestWhatIsInside(t *testing.T) {
	const pacific = `{"geometry":{"type":"MultiPolygon","coordinates":[[[[170,-10],[180,-10],[180,10],[170,10],[170,-10]]],[[[-180,-10],[-170,-10],[-170,10],[-180,10],[-180,-10]]]]}}`
	for _, c := range []struct {
		name, body string
		inside     []earth.Place
		outside    []earth.Place
	}{
		{"a circle", `{"longitude":13.4,"latitude":52.5,"radius":1000}`, []earth.Place{{13.4, 52.5}, {13.4, 52.5089}, {13.4147, 52.5}}, []earth.Place{{13.4, 52.5091}, {13.4149, 52.5}}},
		{"a circle over the antimeridian", `{"longitude":179.99,"latitude":0,"radius":5000}`, []earth.Place{{180, 0}, {-180, 0}, {-179.97, 0}, {179.95, 0}}, []earth.Place{{-179.95, 0}, {179.94, 0}}},
		{"a circle over the pole", `{"longitude":0,"latitude":89.99,"radius":5000}`, []earth.Place{{180, 89.99}, {-90, 89.98}, {77, 90}}, []earth.Place{{180, 89.96}}},
		{"polygons over the antimeridian", pacific, []earth.Place{{180, 0}, {-180, 0}, {175, 5}, {-175, 5}, {170, 10}}, []earth.Place{{0, 0}, {169.9, 0}, {-169.9, 0}}},
		{"a hole", `{"geometry":{"type":"Polygon","coordinates":[[[0,0],[9,0],[9,9],[0,9],[0,0]],[[3,3],[6,3],[6,6],[3,6],[3,3]]]}}`,
			[]earth.Place{{1, 1}, {3, 4}, {9, 9}}, []earth.Place{{4, 4}, {10, 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := fence.NewSet([]*fence.Fence{parse(t, "f", c.body)})
			for _, p := range c.inside {
				if len(set.At(nil, "bus", p)) != 1 {
					t.Errorf("%v is outside", p)
				}
			}
			for _, p := range c.outside {
				if len(set.At(nil, "bus", p)) != 0 {
					t.Errorf("%v is inside", p)
				}
			}
		})
	}
}

func TestWhomAFenceIsAbout(t *testing.T) {
	f := parse(t, "f", `{"longitude":0,"latitude":0,"radius":5,"names":["bus-*","owntracks/jane/phone"]}`)
	for name, want := range map[string]bool{"bus-7": true, "bus-": true, "bus": false, "owntracks/jane/phone": true, "owntracks/jane/phone2": false, "": false} {
		if f.About(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	if !parse(t, "f", `{"longitude":0,"latitude":0,"radius":5}`).About("anybody") {
		t.Error("without names it is about all")
	}
}

// The tree finds what a look at every fence finds.
func TestSetIsAllOfThem(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	for _, n := range []int{0, 1, 2, 16, 17, 300, 3000} {
		var all []*fence.Fence
		for i := range n {
			metres := 1 + math.Pow(10, r.Float64()*7)
			body := fmt.Sprintf(`{"longitude":%v,"latitude":%v,"radius":%v}`, r.Float64()*360-180, r.Float64()*180-90, min(metres, fence.MaxMetres))
			if i%3 == 0 {
				x, y, w := r.Float64()*300-180, r.Float64()*120-90, r.Float64()*5
				body = fmt.Sprintf(`{"geometry":{"type":"Polygon","coordinates":[[[%[1]v,%[2]v],[%[3]v,%[2]v],[%[3]v,%[4]v],[%[1]v,%[2]v]]]}}`, x, y, x+w, y+w)
			}
			all = append(all, parse(t, fmt.Sprintf("f%05d", i), body))
		}
		set := fence.NewSet(all)
		if set.Len() != n {
			t.Errorf("%d of %d", set.Len(), n)
		}
		for range 300 {
			p := earth.Place{r.Float64()*360 - 180, r.Float64()*180 - 90}
			var want []string
			for _, f := range all {
				if f.Has(p) && len(want) < fence.MaxAtOnce {
					want = append(want, f.ID)
				}
			}
			var got []string
			for _, f := range set.At(nil, "bus", p) {
				got = append(got, f.ID)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("of %d at %v: %v, want %v", n, p, got, want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type":"Feature","id":"f","geometry":{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]},"properties":{"a":1},"names":["a*"]}`))
	f.Add([]byte(`{"longitude":1,"latitude":2e0,"radius":10}`))
	f.Add([]byte(`{"geometry":{"type":"MultiPolygon","coordinates":[[[[0,0],[1,0],[1,1],[0,0]]]]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		one, err := fence.Parse("f", body)
		if err != nil {
			var field *event.FieldError
			if !errors.As(err, &field) {
				t.Fatalf("%v is no FieldError", err)
			}
			return
		}
		text := one.Append(nil)
		again, err := fence.Parse("f", text)
		if err != nil || string(again.Append(nil)) != string(text) {
			t.Fatalf("%s: %v", text, err)
		}
		fence.NewSet([]*fence.Fence{one}).At(nil, "bus", earth.Place{1, 1})
	})
}

func BenchmarkAt(b *testing.B) {
	for _, n := range []int{100, fence.MaxFences} {
		b.Run(fmt.Sprint(n, " fences in a town"), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			var all []*fence.Fence
			for i := range n {
				f, err := fence.Parse(fmt.Sprint("f", i), fmt.Appendf(nil, `{"longitude":%v,"latitude":%v,"radius":%d}`, r.Float64()*2, r.Float64()*2-1, 100+r.IntN(2000)))
				if err != nil {
					b.Fatal(err)
				}
				all = append(all, f)
			}
			set := fence.NewSet(all)
			var room [8]*fence.Fence
			for b.Loop() {
				set.At(room[:0], "device 7", earth.Place{r.Float64() * 2, r.Float64()*2 - 1})
			}
		})
	}
}
