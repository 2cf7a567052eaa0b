package track

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"cairn/event"
	"cairn/query/plan"
)

// list is a track in memory, which gives each fix in the same place, as the database
// does.
type list struct {
	fixes []plan.Fix
	now   plan.Fix
}

func (l *list) Next() (*plan.Fix, error) {
	if len(l.fixes) == 0 {
		return nil, nil
	}
	l.now, l.fixes = l.fixes[0], l.fixes[1:]
	return &l.now, nil
}

func of(fixes ...plan.Fix) Source {
	return func() (Fixes, error) { return &list{fixes: fixes}, nil }
}

// at is a fix so many seconds after 2026-01-01.
func at(seconds int, x, y float64) plan.Fix {
	return plan.Fix{ExternalID: fmt.Sprint("f", seconds), Position: event.Position(seconds + 1), X: x, Y: y, Altitude: math.NaN(), Time: 820_540_800_000_000 + int64(seconds)*1_000_000}
}

func high(f plan.Fix, metres float64) plan.Fix { f.Altitude = metres; return f }

func write(t *testing.T, format string, o Options, source Source) string {
	t.Helper()
	for _, f := range Formats {
		if f.Name == format {
			var out bytes.Buffer
			if err := f.Write(&out, o, source); err != nil {
				t.Fatal(err)
			}
			return out.String()
		}
	}
	t.Fatalf("no format %s", format)
	return ""
}

func TestFormats(t *testing.T) {
	trip := of(at(0, 1, 2), high(at(60, 1.5, 2.5), 10), at(60, 1.5, 2.25), at(1000, -3, 4), at(5000, 5, 6))
	o := Options{Name: `jane/"phone" <1>`}
	split := Options{Name: o.Name, Gap: 10 * time.Minute}
	const name = `"jane/\"phone\" <1>"`
	const crs = `{"type":"Feature","crs":{"type":"Name","properties":{"name":"urn:ogc:def:crs:OGC:1.3:CRS84"}},"trs":{"type":"Name","properties":{"name":"urn:ogc:data:time:iso8601"}},"temporalGeometry":`
	for _, c := range []struct {
		what, format string
		o            Options
		source       Source
		want         string
	}{
		{"a line", "geojson", o, trip, `{"type":"Feature","geometry":{"type":"LineString","coordinates":[[1,2],[1.5,2.5,10],[1.5,2.25],[-3,4],[5,6]]},"properties":{"name":` + name +
			`,"coordTimes":["2026-01-01T00:00:00Z","2026-01-01T00:01:00Z","2026-01-01T00:01:00Z","2026-01-01T00:16:40Z","2026-01-01T01:23:20Z"]}}`},
		{"parts, of which two are one fix", "geojson", split, trip, `{"type":"Feature","geometry":{"type":"MultiLineString","coordinates":[[[1,2],[1.5,2.5,10],[1.5,2.25]],[[-3,4],[-3,4]],[[5,6],[5,6]]]},"properties":{"name":` + name +
			`,"coordTimes":[["2026-01-01T00:00:00Z","2026-01-01T00:01:00Z","2026-01-01T00:01:00Z"],["2026-01-01T00:16:40Z","2026-01-01T00:16:40Z"],["2026-01-01T01:23:20Z","2026-01-01T01:23:20Z"]]}}`},
		{"one fix", "geojson", o, of(at(0, 1, 2)), `{"type":"Feature","geometry":{"type":"LineString","coordinates":[[1,2],[1,2]]},"properties":{"name":` + name + `,"coordTimes":["2026-01-01T00:00:00Z","2026-01-01T00:00:00Z"]}}`},
		{"nothing", "geojson", split, of(), `{"type":"Feature","geometry":null,"properties":{"name":` + name + `,"coordTimes":[]}}`},
		{"a moving point", "mfjson", o, trip, crs + `{"type":"MovingPoint","datetimes":["2026-01-01T00:00:00Z","2026-01-01T00:01:00Z","2026-01-01T00:16:40Z","2026-01-01T01:23:20Z"],"coordinates":[[1,2],[1.5,2.5,10],[-3,4],[5,6]],"interpolation":"Linear"},"properties":{"name":` + name + `}}`},
		{"moving points", "mfjson", split, trip, crs + `{"type":"MovingGeometryCollection","prisms":[{"type":"MovingPoint","datetimes":["2026-01-01T00:00:00Z","2026-01-01T00:01:00Z"],"coordinates":[[1,2],[1.5,2.5,10]],"interpolation":"Linear"},` +
			`{"type":"MovingPoint","datetimes":["2026-01-01T00:16:40Z"],"coordinates":[[-3,4]],"interpolation":"Linear"},{"type":"MovingPoint","datetimes":["2026-01-01T01:23:20Z"],"coordinates":[[5,6]],"interpolation":"Linear"}]},"properties":{"name":` + name + `}}`},
		{"nothing that moves", "mfjson", o, of(), crs + `{"type":"MovingPoint","datetimes":[],"coordinates":[],"interpolation":"Linear"},"properties":{"name":` + name + `}}`},
		{"nothing that moves, in parts", "mfjson", split, of(), crs + `{"type":"MovingGeometryCollection","prisms":[]},"properties":{"name":` + name + `}}`},
		{"rows", "csv", split, trip, "time,longitude,latitude,altitude,part,id,position\n2026-01-01T00:00:00Z,1,2,,1,f0,1\n2026-01-01T00:01:00Z,1.5,2.5,10,1,f60,61\n" +
			"2026-01-01T00:01:00Z,1.5,2.25,,1,f60,61\n2026-01-01T00:16:40Z,-3,4,,2,f1000,1001\n2026-01-01T01:23:20Z,5,6,,3,f5000,5001\n"},
	} {
		t.Run(c.format+" "+c.what, func(t *testing.T) {
			got := write(t, c.format, c.o, c.source)
			if got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
			if c.format != "csv" && !json.Valid([]byte(got)) {
				t.Error("it is not JSON")
			}
		})
	}
}

// gpxFile is what of GPX 1.1 is written.
type gpxFile struct {
	XMLName xml.Name `xml:"http://www.topografix.com/GPX/1/1 gpx"`
	Version string   `xml:"version,attr"`
	Track   struct {
		Name     string `xml:"name"`
		Segments []struct {
			Points []struct {
				Latitude  float64   `xml:"lat,attr"`
				Longitude float64   `xml:"lon,attr"`
				Elevation *float64  `xml:"ele"`
				Time      time.Time `xml:"time"`
			} `xml:"trkpt"`
		} `xml:"trkseg"`
	} `xml:"trk"`
}

func TestGPX(t *testing.T) {
	out := write(t, "gpx", Options{Name: "A & B\x01", Gap: time.Minute}, of(high(at(0, 1, 2), 5), at(30, 3, 4), at(300, -5, -6)))
	var g gpxFile
	if err := xml.Unmarshal([]byte(out), &g); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	s := g.Track.Segments
	if g.Version != "1.1" || g.Track.Name != "A & B\uFFFD" || len(s) != 2 || len(s[0].Points) != 2 || len(s[1].Points) != 1 {
		t.Fatalf("%+v", g)
	}
	if p := s[0].Points[0]; p.Latitude != 2 || p.Longitude != 1 || *p.Elevation != 5 || !p.Time.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", p)
	}
	if p := s[1].Points[0]; p.Latitude != -6 || p.Elevation != nil {
		t.Errorf("%+v", p)
	}
	if err := xml.Unmarshal([]byte(write(t, "gpx", Options{Name: "x"}, of())), &g); err != nil {
		t.Error(err)
	}
}

func walk(n int, seed uint64) (fixes []plan.Fix) {
	r := rand.New(rand.NewPCG(seed, 1))
	x, y := 179.99, 60.0
	for i := range n {
		x, y = math.Remainder(x+r.NormFloat64()*2e-4+1e-5, 360), y+r.NormFloat64()*1e-4
		fixes = append(fixes, at(i, x, y))
	}
	return fixes
}

// What a long track has is all there, in order, in every format, however it is cut.
func TestLongTracks(t *testing.T) {
	fixes := walk(3*windowFixes+17, 1)
	for i := range fixes {
		if i >= 5000 {
			fixes[i].Time += 3600e6
		}
	}
	o := Options{Name: "x", Gap: time.Minute}
	rows, err := csv.NewReader(strings.NewReader(write(t, "csv", o, of(fixes...)))).ReadAll()
	if err != nil || len(rows) != len(fixes)+1 || rows[5000][4] != "1" || rows[5001][4] != "2" {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	var f struct {
		Geometry   struct{ Coordinates [][][]float64 }
		Properties struct{ CoordTimes [][]time.Time }
	}
	if err := json.Unmarshal([]byte(write(t, "geojson", o, of(fixes...))), &f); err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, part := range f.Geometry.Coordinates {
		for j, p := range part {
			if p[0] != fixes[n].X || p[1] != fixes[n].Y || f.Properties.CoordTimes[i][j].UnixMicro()-946_684_800_000_000 != fixes[n].Time {
				t.Fatalf("fix %d is %v at %v", n, p, f.Properties.CoordTimes[i][j])
			}
			n++
		}
	}
	if n != len(fixes) || len(f.Geometry.Coordinates) != 2 {
		t.Errorf("%d of %d fixes in %d parts", n, len(fixes), len(f.Geometry.Coordinates))
	}
}

// A simplified line is never further than the tolerance from a fix that was left out,
// keeps the ends of its parts, and is shorter.
func TestSimplify(t *testing.T) {
	for _, n := range []int{1, 2, 3, windowFixes - 1, windowFixes, windowFixes + 1, 2*windowFixes - 1, 2 * windowFixes, 10_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			fixes := walk(n, uint64(n))
			for i := range fixes {
				if i >= n/3 {
					fixes[i].Time += 7200e6
				}
			}
			const tolerance = 50
			o := Options{Gap: time.Hour, Tolerance: tolerance}
			v, err := o.read(of(fixes...))
			if err != nil {
				t.Fatal(err)
			}
			var kept []vertex
			for {
				next, err := v.next()
				if err != nil {
					t.Fatal(err)
				}
				if next == nil {
					break
				}
				kept = append(kept, *next)
			}
			begins := 0
			i := 0
			for k, end := range kept {
				if end.begins {
					begins++
					i = int(end.Position) - 1
					continue
				}
				for ; i < int(end.Position)-1; i++ {
					if d := distance(&vertex{Fix: fixes[i]}, &kept[k-1], &end); d > tolerance*1.001 {
						t.Fatalf("fix %d is %.1f m away", i, d)
					}
				}
			}
			wantBegins := 2
			if n/3 == 0 {
				wantBegins = 1
			}
			if begins != wantBegins || !reflect.DeepEqual(kept[0].Fix.Position, fixes[0].Position) || kept[len(kept)-1].Position != fixes[n-1].Position {
				t.Errorf("%d parts, from %d to %d", begins, kept[0].Position, kept[len(kept)-1].Position)
			}
			if n > 1000 && len(kept) > n/2 {
				t.Errorf("%d of %d stay", len(kept), n)
			}
		})
	}
}

func BenchmarkGeoJSON(b *testing.B) {
	fixes := walk(100_000, 1)
	for b.Loop() {
		if err := Formats[0].Write(&bytes.Buffer{}, Options{Name: "x"}, of(fixes...)); err != nil {
			b.Fatal(err)
		}
	}
}
