package e2e

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// sample is a file of real data.
func sample(name string) string {
	path, err := filepath.Abs(filepath.Join("../ingest/testdata", name))
	if err != nil {
		panic(err) // no working directory: no test has a chance
	}
	return path
}

// A table is a CSV file, and its columns that are no properties.
type table struct{ name, longitude, latitude string }

var tables = []table{
	{"cities.csv", "longitude", "latitude"},
	{"navaids.csv", "longitude_deg", "latitude_deg"},
}

const collection = "earthquakes.geojson"

func serveOn(t testing.TB, database string, args ...string) *testrig.Server {
	t.Helper()
	return serve(t, testrig.DataFolder(t), append([]string{"--database-url", database}, args...)...)
}

// Real files come out as they went in: every position, property, id and digit.
func TestLoadRealFiles(t *testing.T) {
	s := serveOn(t, testkit.Postgres(t))
	names := []string{tables[0].name, tables[1].name, collection}
	load := []string{"load", "--url", s.Base}
	for _, name := range names {
		load = append(load, sample(name))
	}
	if p, code := run(t, load...); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.Stderr.Tail())
	}
	s.Settled()
	all := testrig.AllPoints(t, s.Base)
	rest := all
	for _, table := range tables {
		rest = table.compare(t, rest)
	}
	rest = compareCollection(t, rest)
	if len(rest) > 0 {
		t.Errorf("%d points more than rows, the first %+v", len(rest), rest[0])
	}

	// Loading all of it again changes nothing, though it is acknowledged again.
	if p, code := run(t, load...); code != 0 {
		t.Fatalf("exit code %d the second time: %s", code, p.Stderr.Tail())
	}
	if parked := s.Settled().Query.Parked; parked != 0 {
		t.Errorf("%d are parked", parked)
	}
	if again := testrig.AllPoints(t, s.Base); !reflect.DeepEqual(again, all) {
		t.Errorf("%d points became %d, or changed", len(all), len(again))
	}
}

// compare checks the first features against the rows of the file and returns
// the features that are left. Rows come out in the order of the file.
func (table table) compare(t *testing.T, features []testrig.Feature) []testrig.Feature {
	t.Helper()
	f, err := os.Open(sample(table.name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	header, rows := records[0], records[1:]
	if len(features) < len(rows) {
		t.Fatalf("%s: %d features for %d rows", table.name, len(features), len(rows))
	}
	for i, row := range rows {
		table.compareRow(t, header, row, features[i])
	}
	return features[len(rows):]
}

func (table table) compareRow(t *testing.T, header, row []string, f testrig.Feature) {
	t.Helper()
	want := map[string]string{}
	var position [2]string
	for i, column := range header {
		switch {
		case column == table.longitude:
			position[0] = row[i]
		case column == table.latitude:
			position[1] = row[i]
		case row[i] != "": // an empty cell is no property
			want[column] = row[i]
		}
	}
	got := map[string]string{}
	for name, value := range f.Properties {
		got[name] = fmt.Sprint(value) // a string, or the digits of a number
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: the row\n%v came out as\n%v", table.name, want, got)
	}
	c := f.Geometry.Coordinates
	if len(c) != 2 || !sameDouble(c[0], json.Number(position[0])) || !sameDouble(c[1], json.Number(position[1])) {
		t.Errorf("%s: %v is at %v", table.name, row, c)
	}
}

func compareCollection(t *testing.T, features []testrig.Feature) []testrig.Feature {
	t.Helper()
	raw, err := os.ReadFile(sample(collection))
	if err != nil {
		t.Fatal(err)
	}
	var want struct{ Features []testrig.Feature }
	// The "time" of these Features is a property, not RFC 3339.
	testrig.Parse(t, raw, &want)
	if len(features) < len(want.Features) {
		t.Fatalf("%d features of %d came out", len(features), len(want.Features))
	}
	const properties = 26
	for i, w := range want.Features {
		f := features[i]
		if f.ID != w.ID {
			t.Errorf("the id %v became %v", w.ID, f.ID)
		}
		if !sameJSON(f.Properties, w.Properties) || len(f.Properties) != properties {
			t.Errorf("%v: the properties\n%v became\n%v", w.ID, w.Properties, f.Properties)
		}
		if len(f.Geometry.Coordinates) != 3 || !sameJSON(anys(f.Geometry.Coordinates), anys(w.Geometry.Coordinates)) {
			t.Errorf("%v: %v became %v", w.ID, w.Geometry.Coordinates, f.Geometry.Coordinates)
		}
	}
	return features[len(want.Features):]
}

func anys(numbers []json.Number) []any {
	var out []any
	for _, n := range numbers {
		out = append(out, n)
	}
	return out
}

// sameDouble compares what a coordinate is: a double, whatever its spelling.
func sameDouble(a, b json.Number) bool {
	x, err := a.Float64()
	y, err2 := b.Float64()
	return err == nil && err2 == nil && x == y
}

// sameJSON compares parsed JSON to the last digit.
func sameJSON(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name := range a {
			if other, ok := b[name]; !ok || !sameJSON(a[name], other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameJSON(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		x, ok2 := new(big.Rat).SetString(a.String())
		y, ok3 := new(big.Rat).SetString(b.String())
		return ok && ok2 && ok3 && x.Cmp(y) == 0
	}
	return a == b
}

// Names in every script, and numbers that a double cannot hold.
func TestLoadKeepsTextAndNumbers(t *testing.T) {
	s := serveOn(t, testkit.Postgres(t))
	names := []string{"東京", "Москва", "القاهرة", "ירושלים", "नई दिल्ली", "서울", "Αθήνα", "กรุงเทพฯ", "თბილისი", "Երևան",
		"አዲስ አበባ", "ཁྲི་སེ", "Nuku‘alofa", "Z̸a̷l̶g̵o", "🏔️👩‍👩‍👧", "a\"b\\c\td", "<script>&amp;", "ﷺ", "\u202eright-to-left"}
	var lines bytes.Buffer
	var want []map[string]any
	for i, name := range names {
		properties := map[string]any{"name": name, "big": json.Number("123456789012345678901234567890"), "fine": json.Number("0.1234567890123456789"),
			"zeros": json.Number("1.500"), "nested": map[string]any{"a": []any{json.Number("1"), nil, true, name}}}
		want = append(want, properties)
		raw := map[string]any{"type": "Feature", "id": i, "geometry": map[string]any{"type": "Point", "coordinates": []any{i, -i, json.Number("8848.86")}}, "properties": properties}
		line, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	file := writeFile(t, "names.ndjson", lines.String())
	if p, code := run(t, "load", "--url", s.Base, file); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.Stderr.Tail())
	}
	s.Settled()
	all := testrig.AllPoints(t, s.Base)
	if len(all) != len(names) {
		t.Fatalf("%d points, want %d", len(all), len(names))
	}
	for i, f := range all {
		if !sameJSON(f.Properties, want[i]) {
			t.Errorf("%v\nbecame\n%v", want[i], f.Properties)
		}
		if f.ID != json.Number(fmt.Sprint(i)) || f.Geometry.Coordinates[2] != "8848.86" {
			t.Errorf("id %v, coordinates %v", f.ID, f.Geometry.Coordinates)
		}
		var one testrig.Feature
		testrig.MustGet(t, fmt.Sprintf("%s/points/%d", s.Base, i), &one)
		if !reflect.DeepEqual(one, f) {
			t.Errorf("alone it is %+v, on a page %+v", one, f)
		}
	}
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Bad rows are told by number and reason, and the good ones are in.
func TestLoadBadRows(t *testing.T) {
	s := serveOn(t, testkit.Postgres(t))
	file := writeFile(t, "some.csv", "lon,lat,name\n1,2,good\n181,2,east of east\n3,x,not a number\n4,5,good\n")
	p, code := run(t, "load", "--url", s.Base, file)
	if code != 3 { // which tells it from a load that failed
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"2 accepted, 2 rejected", "2 created", "row 2: ", "row 3: ", "180", "some.rejected.csv"} {
		if !strings.Contains(p.Stdout.String(), want) {
			t.Errorf("it does not say %q but\n%s", want, p.Stdout.Tail())
		}
	}
	p.Complains("2 of 4 rows rejected")
	s.Settled()
	if all := testrig.AllPoints(t, s.Base); len(all) != 2 || all[0].Properties["name"] != "good" || all[1].Properties["name"] != "good" {
		t.Errorf("%+v", all)
	}

	// Corrected, one way or the other, the good rows are in already.
	fixed := writeFile(t, "fixed.csv", "lon,lat,name\n1,2,good\n-179,2,east of east\n4,5,good\n")
	p, code = run(t, "load", "--url", s.Base, fixed)
	if code != 0 || !strings.Contains(p.Stdout.String(), "1 created, 2 unchanged") {
		t.Errorf("exit code %d: %s", code, p.Stdout.Tail())
	}
	s.Settled()
	if all := testrig.AllPoints(t, s.Base); len(all) != 3 {
		t.Errorf("%+v", all)
	}
}

// A file whose points were deleted since is not in, and says so.
func TestLoadDeletedPoints(t *testing.T) {
	s := serveOn(t, testkit.Postgres(t))
	file := writeFile(t, "some.csv", "id,lon,lat\nx1,1,2\nx2,3,4\nx3,5,6\n")
	load := func(code int, told string, flags ...string) {
		t.Helper()
		p, got := run(t, append([]string{"load", "--url", s.Base, "--id", "id", file}, flags...)...)
		if got != code || !strings.Contains(p.Stdout.String(), told) {
			t.Errorf("exit code %d, want %d and %q: %s%s", got, code, told, p.Stdout.Tail(), p.Stderr.Tail())
		}
	}
	load(0, "3 created, 0 unchanged")
	for _, id := range []string{"x1", "x3"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.Base+"/point/"+id, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if _ = response.Body.Close(); response.StatusCode != http.StatusAccepted {
			t.Fatal(response.Status)
		}
	}
	load(3, "0 created, 1 unchanged, 2 deleted before")
	load(3, "2 rows of points that were deleted (row 1, 3), which stay so: --replace")
	load(0, "2 created, 1 unchanged\n", "--replace")
	s.Settled()
	if all := testrig.AllPoints(t, s.Base); len(all) != 3 {
		t.Errorf("%+v", all)
	}
}

// Ctrl-C in the middle of a file, then the same command again: every row once.
func TestLoadInterrupted(t *testing.T) {
	const rows = 40_000
	s := serveOn(t, testkit.Postgres(t))
	var lines strings.Builder
	for i := range rows {
		fmt.Fprintf(&lines, `{"longitude":%d,"latitude":%d,"name":"row %d"}`+"\n", i%180, i%90, i)
	}
	file := writeFile(t, "many.ndjson", lines.String())
	g := gateTo(t, strings.TrimPrefix(s.Base, "http://"), lines.Len()/2)
	load := []string{"load", "--url", "http://" + g.address, file}

	p := start(t, load...)
	testkit.Eventually(t, testrig.Patience, "a part of the file is there", func() bool {
		var page struct{ Features []testrig.Feature }
		testrig.MustGet(t, s.Base+"/points?limit=1", &page)
		return len(page.Features) > 0
	})
	p.Interrupt()
	if code := p.Wait(testrig.StopBound); code != 1 {
		t.Errorf("exit code %d after Ctrl-C", code)
	}
	p.Complains("interrupted", "Running the same command again")
	if n := len(testrig.AllPoints(t, s.Base)); n == 0 || n >= rows {
		t.Fatalf("%d of %d rows are in after the interruption", n, rows)
	}

	g.open()
	if p, code := run(t, load...); code != 0 {
		t.Fatalf("exit code %d the second time: %s", code, p.Stderr.Tail())
	}
	if st := s.Settled(); st.Query.Parked != 0 {
		t.Errorf("%d are parked", st.Query.Parked)
	}
	seen := map[any]int{}
	for _, f := range testrig.AllPoints(t, s.Base) {
		seen[f.Properties["name"]]++
	}
	if len(seen) != rows {
		t.Errorf("%d of %d rows are in", len(seen), rows)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%v is there %d times", name, n)
		}
	}
}

// A server that is not there is told with its address and what to do.
func TestStatusCommand(t *testing.T) {
	s := serveOn(t, testkit.Postgres(t))
	p, code := run(t, "status", "--url", s.Base)
	if code != 0 || !strings.Contains(p.Stdout.String(), "role     serve") || !strings.Contains(p.Stdout.String(), testVersion) {
		t.Errorf("code %d: %s%s", code, p.Stdout.Tail(), p.Stderr.Tail())
	}
	s.Leave()
	p, code = run(t, "status", "--url", s.Base)
	if code != 1 {
		t.Errorf("exit code %d without a server", code)
	}
	p.Complains(s.Base, "cairn serve")
	if a, err := testrig.Get(t.Context(), s.Base+"/livez"); err == nil && a.Status == http.StatusOK {
		t.Error("it still answers")
	}
}
