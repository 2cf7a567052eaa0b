//go:build e2epython

package e2e

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cairn/internal/testrig"
)

// readParquet tells, as JSON, what three programs make of a file: row by row what
// pyarrow reads, and what geopandas and DuckDB find in it.
const readParquet = `
import json, sys
import duckdb, geopandas, pyarrow.parquet, shapely
path = sys.argv[1]
table = pyarrow.parquet.read_table(path)
rows = []
for r in table.to_pylist():
    p = shapely.from_wkb(r["geometry"])
    rows.append({"id": r["id"], "name": r["name"], "coordinates": [p.x, p.y] + ([p.z] if p.has_z else []), "altitude": r["altitude"],
        "time": None if r["time"] is None else int(r["time"].timestamp()) * 10**6 + r["time"].microsecond,
        "position": r["position"], "properties": None if r["properties"] is None else json.loads(r["properties"])})
frame = geopandas.read_parquet(path)
box = geopandas.read_parquet(path, bbox=(-125, 30, -110, 45))
strong = duckdb.sql(f"select count(*) from '{path}' where (properties->>'mag')::double >= 6").fetchall()[0][0]
print(json.dumps({"rows": rows, "frame": len(frame), "crs": str(frame.crs), "box": len(box), "strong": strong}))
`

// A parquetRead is what readParquet prints.
type parquetRead struct {
	Rows []struct {
		ID, Name    *string
		Coordinates []float64
		Altitude    *float64
		Time        *int64
		Position    int64
		Properties  json.RawMessage
	}
	Frame, Box, Strong int
	CRS                string
}

// readBack runs readParquet on a file.
func readBack(t *testing.T, program, file string) (got parquetRead) {
	t.Helper()
	c := exec.Command(program, "-c", readParquet, file) //nolint:gosec // ours
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// What pyarrow, geopandas and DuckDB read of a download is what GET /points has.
func TestPythonReadsGeoParquet(t *testing.T) {
	program, err := filepath.Abs("../bin/python/bin/python")
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Fatal("the Python libraries are missing: make e2e-python installs them: ", err)
	}
	s := serve(t, testrig.PreparedFolder(t))
	quakes, err := os.ReadFile(sample("earthquakes.geojson"))
	if err != nil {
		t.Fatal(err)
	}
	upload(t, s.Base, "application/x-ndjson", []byte(awkward))
	upload(t, s.Base, geoJSON, quakes)
	file := filepath.Join(t.TempDir(), "points.parquet")
	if err := os.WriteFile(file, download(t, s.Base+"/points.parquet").Body, 0o600); err != nil {
		t.Fatal(err)
	}
	got := readBack(t, program, file)
	want := map[int64]map[string]any{}
	for line := range bytes.Lines(download(t, s.Base+"/points.ndjson").Body) {
		var f map[string]any
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatal(err)
		}
		want[int64(f["position"].(float64))] = f
	}
	for _, r := range got.Rows {
		f := want[r.Position]
		if f == nil {
			t.Fatalf("there is no point at %d, or twice", r.Position)
		}
		delete(want, r.Position)
		coordinates, _ := json.Marshal(r.Coordinates)
		there, _ := json.Marshal(f["geometry"].(map[string]any)["coordinates"])
		if !bytes.Equal(coordinates, there) || (r.Altitude != nil) != (len(r.Coordinates) == 3) || (r.Time != nil) != (f["time"] != nil) {
			t.Errorf("%d: %s, want %s, %v", r.Position, coordinates, there, f)
		}
		var properties map[string]any
		if err := json.Unmarshal(r.Properties, &properties); err != nil {
			t.Fatalf("%s: %v", r.Properties, err)
		}
		for name, value := range properties {
			a, _ := json.Marshal(value)
			if b, _ := json.Marshal(f["properties"].(map[string]any)[name]); !bytes.Equal(a, b) {
				t.Errorf("%d: %s is %s, want %s", r.Position, name, a, b)
			}
		}
	}
	matched := func(query string) (n int) {
		t.Helper()
		var page struct{ NumberMatched int }
		testrig.MustGet(t, s.Base+"/points?limit=1&numberMatched=true&"+query, &page)
		return page.NumberMatched
	}
	if len(want) > 0 || got.Frame != len(got.Rows) || got.CRS != "OGC:CRS84" || got.Box != matched("bbox=-125,30,-110,45") || got.Strong != matched("properties.mag=6..") {
		t.Errorf("%d left; geopandas has %d of %d in %s, %d in the box; DuckDB finds %d", len(want), got.Frame, len(got.Rows), got.CRS, got.Box, got.Strong)
	}
}

// The example asks DuckDB, and newer versions of GDAL than Debian's find what older
// points have, and let the server filter by it.
func TestPythonExampleAndNewerGDAL(t *testing.T) {
	program := "../bin/python/bin/python"
	s := serve(t, testrig.PreparedFolder(t))
	upload(t, s.Base, "application/x-ndjson", []byte(strings.Repeat(`{"longitude":2,"latitude":48,"name":"old","properties":{"country":"FR","mag":4.5}}`+"\n", 3)))
	upload(t, s.Base, "application/x-ndjson", []byte(strings.Repeat(`{"longitude":7,"latitude":46,"name":"new"}`+"\n", 40)))
	out, err := exec.Command(program, "../examples/duck.py", s.Base, "bbox=0,40,5,50").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "old") || strings.Contains(string(out), "new") || !strings.Contains(string(out), "4.5") {
		t.Errorf("duck.py: %v\n%s", err, out)
	}
	asked, base := record(t, s.Base)
	const read = `
import sys, pyogrio
f = pyogrio.read_dataframe("OAPIF:" + sys.argv[1], layer="points", where="country = 'FR'")
print(len(f), sorted(set(f["country"])), sorted(set(f["mag"])), len(pyogrio.read_dataframe("OAPIF:" + sys.argv[1], layer="points")))
`
	out, err = exec.Command(program, "-W", "ignore", "-c", read, base).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "3 ['FR'] [4.5] 43" {
		t.Errorf("pyogrio: %v\n%s", err, out)
	}
	if asked.items(func(q url.Values) bool { return q.Get("country") == "FR" }) == 0 {
		t.Errorf("GDAL filtered by itself:\n%s", asked)
	}
}
