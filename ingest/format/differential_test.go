package format

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn/event"
)

// readAll reads the points of a body whose rows are all good.
func readAll(t *testing.T, body []byte, k Kind, o Options) []event.Point {
	t.Helper()
	rows, err := Open(bufio.NewReader(bytes.NewReader(body)), k, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	var points []event.Point
	for {
		var p event.Point
		err := rows.Next(&p)
		if err == io.EOF {
			return points
		}
		if err != nil {
			t.Fatalf("row %d: %v\n%s", rows.Row(), err, body)
		}
		p.Properties = bytes.Clone(p.Properties)
		points = append(points, p)
	}
}

// Tables of random cells come out as the writer of encoding/csv put them in,
// whatever the delimiter and the ends of lines.
func TestTableAgainstEncodingCSV(t *testing.T) {
	const seed = 16
	random := rand.New(rand.NewPCG(seed, seed))
	alphabet := []rune("ab \"',;\t|\né°#=1.-")
	cell := func() string {
		var b strings.Builder
		for range random.IntN(8) {
			b.WriteRune(alphabet[random.IntN(len(alphabet))])
		}
		return b.String()
	}
	for n := range 500 {
		var text bytes.Buffer
		w := csv.NewWriter(&text)
		w.Comma = []rune(delimiters)[n%len(delimiters)]
		w.UseCRLF = n%3 == 0
		_ = w.Write([]string{"lon", "a", "lat", "b"}) // into memory
		var want [][2]string
		for row := range random.IntN(20) + 1 {
			a, b := "x"+cell(), cell()
			want = append(want, [2]string{a, b})
			_ = w.Write([]string{fmt.Sprint(row), a, fmt.Sprint(-row), b})
		}
		w.Flush()
		points := readAll(t, text.Bytes(), Table, Options{strings: []string{"a", "b"}})
		if len(points) != len(want) {
			t.Fatalf("%d points of %d rows: %q", len(points), len(want), text.String())
		}
		for i, p := range points {
			var got map[string]string
			if err := json.Unmarshal(p.Properties, &got); err != nil {
				t.Fatal(err)
			}
			if got["a"] != want[i][0] || got["b"] != want[i][1] || p.Position != [2]float64{float64(i), float64(-i)} {
				t.Fatalf("row %d is %v %v, want %q: %q", i, p.Position, got, want[i], text.String())
			}
		}
	}
}

// gdalFeature is what GDAL makes of a point.
type gdalFeature struct {
	Geometry struct {
		Coordinates []float64 `json:"coordinates"`
	} `json:"geometry"`
	Properties map[string]any `json:"properties"`
}

// gdal reads the layers of a file with ogr2ogr.
func gdal(t *testing.T, file string, layers ...string) (features []gdalFeature) {
	t.Helper()
	program, err := exec.LookPath("ogr2ogr")
	if err != nil {
		t.Fatal("ogr2ogr is missing: make test installs it (gdal-bin)")
	}
	for _, layer := range layers {
		c := exec.Command(program, "-f", "GeoJSONSeq", "-lco", "COORDINATE_PRECISION=9", "/vsistdout/", file)
		if layer != "" {
			c.Args = append(c.Args, layer)
		}
		var stderr bytes.Buffer
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		for line := range bytes.Lines(out) {
			var f gdalFeature
			if err := json.Unmarshal(line, &f); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			features = append(features, f)
		}
	}
	return features
}

// Way points, tracks and Placemarks are where GDAL sees them, at the same times
// and under the same names.
func TestXMLAgainstGDAL(t *testing.T) {
	for _, test := range []struct {
		file   string
		kind   Kind
		layers []string
		named  bool // GDAL gives points of tracks no name
	}{
		{"way.gpx", GPX, []string{"waypoints"}, true},
		{"way.gpx", GPX, []string{"track_points"}, false},
		{"places.kml", KML, []string{""}, true},
	} {
		t.Run(test.file+" "+test.layers[0], func(t *testing.T) {
			body := made(test.file)
			path := filepath.Join(t.TempDir(), test.file)
			if err := os.WriteFile(path, body, 0o600); err != nil {
				t.Fatal(err)
			}
			want := gdal(t, path, test.layers...)
			var points []event.Point
			for _, p := range readAll(t, body, test.kind, Options{}) {
				if test.kind == KML || strings.Contains(string(p.Properties), `"gpx":"wpt"`) == test.named {
					points = append(points, p)
				}
			}
			if len(points) != len(want) || len(want) < 10 {
				t.Fatalf("%d points, GDAL has %d", len(points), len(want))
			}
			for i := range points {
				compare(t, &points[i], &want[i], test.named)
			}
		})
	}
}

func compare(t *testing.T, p *event.Point, f *gdalFeature, named bool) {
	t.Helper()
	got := []float64{p.Position[0], p.Position[1], p.Altitude}
	coordinates := f.Geometry.Coordinates
	if ele, ok := f.Properties["ele"].(float64); ok { // of GPX
		coordinates = append(coordinates[:2:2], ele)
	}
	if len(coordinates) != 3 {
		t.Fatalf("GDAL has %v", coordinates)
	}
	for i, want := range coordinates {
		if math.Abs(got[i]-want) > 1e-8 {
			t.Errorf("at %v, GDAL %v", got, coordinates)
		}
	}
	var properties map[string]any
	if err := json.Unmarshal(p.Properties, &properties); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"name", "Name"} {
		if want, ok := f.Properties[name]; named && ok && want != nil && fmt.Sprint(properties["name"]) != want {
			t.Errorf("called %v, GDAL %v", properties["name"], want)
		}
	}
	for _, name := range []string{"time", "timestamp"} {
		text, _ := f.Properties[name].(string)
		if text == "" {
			continue
		}
		want, _, err := new(clock).parse(text)
		if err != nil || !p.Time.Equal(want) {
			t.Errorf("at %v, GDAL %q (%v)", p.Time, text, err)
		}
	}
}

// made is a file of random points.
func made(name string) []byte {
	random := rand.New(rand.NewPCG(1, uint64(len(name))))
	var b strings.Builder
	at := func() (lon, lat, ele float64) {
		return math.Round(random.Float64()*360e6-180e6) / 1e6, math.Round(random.Float64()*180e6-90e6) / 1e6, math.Round(random.Float64()*1000) / 10
	}
	when := func(i int) string { return time.Unix(1790000000+int64(i)*61, 0).UTC().Format(time.RFC3339) }
	if strings.HasSuffix(name, ".gpx") {
		b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">`)
		for i := range 50 {
			lon, lat, ele := at()
			fmt.Fprintf(&b, `<wpt lat="%v" lon="%v"><ele>%v</ele><time>%s</time><name>place &amp; %d é</name></wpt>`, lat, lon, ele, when(i), i)
		}
		b.WriteString(`<trk><name>tour</name>`)
		for segment := range 3 {
			b.WriteString(`<trkseg>`)
			for i := range 20 {
				lon, lat, ele := at()
				fmt.Fprintf(&b, `<trkpt lat="%v" lon="%v"><ele>%v</ele><time>%s</time></trkpt>`, lat, lon, ele, when(segment*20+i))
			}
			b.WriteString(`</trkseg>`)
		}
		b.WriteString(`</trk></gpx>`)
		return []byte(b.String())
	}
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Folder><name>all</name>`)
	for i := range 50 {
		lon, lat, ele := at()
		fmt.Fprintf(&b, `<Placemark><name>place &lt; %d</name><TimeStamp><when>%s</when></TimeStamp><Point><coordinates>%v,%v,%v</coordinates></Point></Placemark>`, i, when(i), lon, lat, ele)
	}
	b.WriteString(`</Folder></Document></kml>`)
	return []byte(b.String())
}
