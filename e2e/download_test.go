package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"cairn/internal/testrig"
)

// awkward are points whose values a table or a program may take for others.
const awkward = `{"type":"Feature","id":"a b, \"c\"","geometry":{"type":"Point","coordinates":[-180,90,-12.5]},"properties":{"name":"=1+1","zip":"75001","n":1.50,"big":12345678901234567890,"none":null,"empty":""},"time":"2026-01-02T03:04:05.678901Z"}
{"type":"Feature","id":42,"geometry":{"type":"Point","coordinates":[180,-90]},"properties":{"name":"two\r\nlines","id":"mine","position":"front","time":"noon","flag":false,"list":[1,{"a":"}, "}],"other_properties":"x"}}
{"type":"Feature","id":"01a21556-4ae1-759d-b2a4-8e94db34aebd","geometry":{"type":"Point","coordinates":[0,0,0]},"properties":{"name":" spaces ","true":"true","json":"{\"a\":1}","é\"ü":"ж"}}
{"type":"Feature","geometry":{"type":"Point","coordinates":[1e-7,-1e-7]},"properties":null}
{"type":"Feature","id":"last","geometry":{"type":"Point","coordinates":[12.123456789012345,1.5]},"properties":{"properties.id":1,"e":1e-3,"null":"null","late":{"deep":[null]}}}
`

type outcome struct{ Accepted, Rejected, Created, Unchanged, Replaced, Conflicts int }

func upload(t *testing.T, base, media string, body []byte) (o outcome) {
	t.Helper()
	a := write(t, http.MethodPost, base+"/points", media, string(body), "Prefer", "wait=30")
	if err := json.Unmarshal(a.Body, &o); err != nil || a.Status != http.StatusOK {
		t.Fatalf("%s: %d %s", media, a.Status, a.Body)
	}
	return o
}

func download(t *testing.T, url string) testrig.Answer {
	t.Helper()
	a, err := testrig.Get(t.Context(), url)
	if err != nil || a.Status != http.StatusOK {
		t.Fatalf("%s: %d %s %v", url, a.Status, a.Body, err)
	}
	return a
}

// What was downloaded and is sent back changes nothing: ids, places, altitudes, times
// and properties are what they were, in each format that can tell all of them.
func TestDownloadsComeBack(t *testing.T) {
	s := serve(t, testrig.PreparedFolder(t))
	quakes, err := os.ReadFile(sample("earthquakes.geojson"))
	if err != nil {
		t.Fatal(err)
	}
	rows := upload(t, s.Base, "application/x-ndjson", []byte(awkward)).Created + upload(t, s.Base, geoJSON, quakes).Created
	for name, media := range map[string]string{"csv": "text/csv", "geojson": geoJSON, "geojsonseq": "application/geo+json-seq", "ndjson": "application/x-ndjson"} {
		t.Run(name, func(t *testing.T) {
			got := upload(t, s.Base, media, download(t, s.Base+"/points."+name).Body)
			if got != (outcome{Accepted: rows, Unchanged: rows}) {
				t.Errorf("%+v of %d rows", got, rows)
			}
		})
	}
	for _, name := range []string{"gpx", "kml"} {
		t.Run(name, func(t *testing.T) { readByGDAL(t, s.Base, name, rows) })
	}
}

// readByGDAL has ogr2ogr read the format, and compares places, altitudes and names with
// those of the table.
func readByGDAL(t *testing.T, base, name string, rows int) {
	program, err := exec.LookPath("ogr2ogr")
	if err != nil {
		t.Fatal("ogr2ogr is missing: make test installs it (gdal-bin)")
	}
	file := filepath.Join(t.TempDir(), "points."+name)
	if err := os.WriteFile(file, download(t, base+"/points."+name).Body, 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "-f", "GeoJSONSeq", "-lco", "COORDINATE_PRECISION=9", "--config", "GPX_ELE_AS_25D", "YES", "/vsistdout/", file) //nolint:gosec // ours
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	table, err := csv.NewReader(bytes.NewReader(download(t, base+"/points.csv?properties=name,title").Body)).ReadAll()
	if err != nil || len(table) != rows+1 {
		t.Fatalf("%d lines of the table: %v", len(table), err)
	}
	places, named := map[string]int{}, 0
	place := func(coordinates []float64) string {
		text := make([]string, 0, 3)
		for i, f := range coordinates {
			if i < 2 || f != 0 { // KML has an altitude always
				text = append(text, fmt.Sprintf("%.7f", f))
			}
		}
		return strings.Join(text, " ")
	}
	for _, row := range table[1:] {
		var c [3]float64
		for i := range c {
			if row[i+1] != "" {
				if _, err := fmt.Sscan(row[i+1], &c[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
		places[place(c[:])]++
		if name == "gpx" || row[len(row)-1] != "" || row[len(row)-2] != "" { // a waypoint without a name has its id
			named++
		}
	}
	n := 0
	for line := range bytes.Lines(out) {
		var f struct {
			Geometry   struct{ Coordinates []float64 }
			Properties map[string]any
		}
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		n++
		places[place(f.Geometry.Coordinates)]--
		if f.Properties["name"] != nil || f.Properties["Name"] != nil {
			named--
		}
	}
	for p, left := range places {
		if left != 0 {
			t.Errorf("%d points too few or many at %s", left, p)
		}
	}
	if n != rows || named != 0 {
		t.Errorf("%d of %d points, %d names too few or many", n, rows, named)
	}
}

// A download is of one position, whatever is replaced, deleted and created meanwhile:
// what was written together is seen together.
func TestDownloadsAreOfOnePosition(t *testing.T) {
	const points = 400 // of one message of the queue: all or none are visible
	s := serve(t, testrig.PreparedFolder(t))
	body := func(round int) string {
		var b strings.Builder
		for i := range points {
			fmt.Fprintf(&b, `{"id":"p%d","longitude":%d,"latitude":%d,"properties":{"round":%d,"pad":%q}}`+"\n", i, i%360-180, (i+round)%180-90, round, strings.Repeat("x", 200))
		}
		return b.String()
	}
	write(t, http.MethodPost, s.Base+"/points", "application/x-ndjson", body(0), "Prefer", "wait=30")
	var rounds atomic.Int64
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for round := 1; ; round++ {
			select {
			case <-done:
				return
			default:
			}
			if a, err := testrig.Do(t.Context(), http.MethodPost, s.Base+"/points?on-conflict=replace", "application/x-ndjson", strings.NewReader(body(round))); err != nil || a.Status >= 300 {
				t.Errorf("round %d: %d %s %v", round, a.Status, a.Body, err)
				return
			}
			rounds.Add(1)
		}
	}()
	for i := 0; i < 20 || rounds.Load() < 20; i++ {
		a := download(t, s.Base+"/points."+[]string{"csv?properties=round", "ndjson?properties=round"}[i%2])
		seen := map[string]int{}
		if i%2 == 0 {
			rows, err := csv.NewReader(bytes.NewReader(a.Body)).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range rows[1:] {
				seen[row[len(row)-1]]++
			}
		} else {
			for line := range bytes.Lines(a.Body) {
				var f struct{ Properties struct{ Round json.Number } }
				if err := json.Unmarshal(line, &f); err != nil {
					t.Fatal(err)
				}
				seen[f.Properties.Round.String()]++
			}
		}
		if len(seen) != 1 {
			t.Fatalf("a download has points of several rounds: %v", seen)
		}
		for round, n := range seen {
			if n != points {
				t.Fatalf("%d points of round %s, want %d", n, round, points)
			}
		}
	}
	close(done)
	<-stopped
}
