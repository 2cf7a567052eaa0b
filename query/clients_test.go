package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cairn/event"
)

// clashRows are points whose properties have names of Cairn's, in types of their own.
const clashRows = `insert into points_1 (id, external_id, position, name, geom, observed_at, received_at, properties)
	select ('00000000-0000-5000-8000-' || lpad(i::text, 12, '0'))::uuid, case when i % 2 = 0 then 'q' || i end, 4096 + i, null,
		ST_SetSRID(ST_MakePoint(i % 90, i % 45), 4326), '2018-02-07T01:26:13.84Z', '2026-11-21 22:43:01Z',
		case when i % 2 = 0 then jsonb_build_object('time', 1517966773840 + i, 'mag', i / 10.0, 'kind', 'a..b', 'day', '2026-01-02')
			else jsonb_build_object('id', i, 'kind', 'plain', 'n', i, 'on', true, 'seen', '2026-01-02T03:04:05Z') end
	from generate_series(1, 60) i`

func newClash(t *testing.T) *fixture {
	f := newFixture(t)
	f.exec(clashRows)
	f.exec("update checkpoint set sequence = 1")
	return f
}

// The user's property keeps its name and its type; Cairn's stands beside it under a
// name of its own, and in every point under one of the two.
func TestNamesThatClash(t *testing.T) {
	f := newClash(t)
	p, r := f.items("?limit=60")
	if len(p.Features) != 60 {
		t.Fatalf("%d points: %s", len(p.Features), clipped(r.body))
	}
	for _, feature := range p.Features {
		q := feature.Properties
		if _, users := q["mag"]; users {
			if q["time"].(float64) < 1517966773840 || q["cairn_time"] != "2018-02-07T01:26:13.84Z" || !strings.HasPrefix(q["id"].(string), "q") || q["cairn_id"] != nil {
				t.Errorf("a time of its own: %v", q)
			}
		} else if _, number := q["id"].(float64); !number || len(q["cairn_id"].(string)) != 36 || q["time"] != "2018-02-07T01:26:13.84Z" || q["cairn_time"] != nil {
			t.Errorf("an id of its own: %v", q)
		}
	}
	// GDAL takes a first field "id" with the type of the first page.
	for feature := range strings.SplitSeq(string(r.body), `"properties":{`) {
		if strings.HasPrefix(feature, `"id"`) {
			t.Errorf("the id comes first: %.60s", feature)
		}
	}
	if p, _ := f.items("?limit=1&properties=cairn_time,mag"); len(p.Features) != 1 || fmt.Sprint(p.Features[0].Properties) != "map[cairn_time:2018-02-07T01:26:13.84Z mag:6]" {
		t.Errorf("%v", p.Features)
	}
}

func (f *fixture) properties(path string, at ...string) map[string]map[string]any {
	f.t.Helper()
	r := f.get(path)
	var d map[string]any
	if err := json.Unmarshal(r.body, &d); err != nil || r.status != http.StatusOK {
		f.t.Fatalf("%s: %d %v", path, r.status, err)
	}
	for _, name := range append(at, "properties") {
		d = d[name].(map[string]any)
	}
	out := map[string]map[string]any{}
	for name, v := range d {
		out[name] = v.(map[string]any)
	}
	return out
}

// Schemas list the users' properties with their types, as far as a sample sees them.
func TestSchemasListProperties(t *testing.T) {
	f := newClash(t)
	schema := f.properties("/collections/points/schema")
	for name, want := range map[string]string{"mag": "number ", "n": "integer ", "kind": "string ", "on": "boolean ", "day": "string date", "seen": "string date-time",
		"time": "integer ", "cairn_time": "string date-time", "id": "integer ", "cairn_id": "string ", "received": "string date-time"} {
		format, _ := schema[name]["format"].(string)
		if got := fmt.Sprint(schema[name]["type"], " ", format); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if schema["cairn_id"]["x-ogc-role"] != "id" || schema["cairn_time"]["x-ogc-role"] != "primary-instant" || schema["cairn_time"]["readOnly"] != true {
		t.Errorf("roles: %v %v", schema["cairn_id"], schema["cairn_time"])
	}
	queryables := f.properties("/collections/points/queryables")
	if queryables["time"]["format"] != "date-time" || queryables["properties.time"]["type"] != "integer" || queryables["mag"] == nil ||
		queryables["day"]["format"] != "date" || queryables["seen"]["type"] != "string" || queryables["seen"]["format"] != "date-time" {
		t.Errorf("queryables: %v", queryables)
	}
	feature := f.properties("/collections/points/schema?f=geojson", "properties", "properties")
	for name, want := range map[string]string{"n": "number", "time": "string", "id": "string", "cairn_time": "string", "day": "string", "on": "boolean"} {
		if feature[name]["type"] != want {
			t.Errorf("of a Feature, %s is %v, want %s", name, feature[name], want)
		}
	}
	links := linksOf(t, f.get("/collections/points").body)
	if l := links["describedBy"]; len(l) != 1 || l[0].Href != f.base+"/collections/points/schema?f=geojson" || l[0].Type != "application/schema+json" {
		t.Errorf("GDAL finds no schema: %v", l)
	}
}

// A sample sees what makes up some per cent of all, wherever it lies.
func TestSampleSeesAll(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into points_1 (id, position, geom, received_at, properties)
		select gen_random_uuid(), 4096 + i, ST_SetSRID(ST_MakePoint(1, 2), 4326), now(), jsonb_build_object('part' || i / 1000, i)
		from generate_series(0, 49999) i`)
	f.exec("update checkpoint set sequence = 13")
	schema := f.properties("/collections/points/schema")
	for part := range 50 {
		if schema[fmt.Sprintf("part%d", part)]["type"] != "integer" {
			t.Errorf("part %d of 50 was not seen", part)
		}
	}
}

// A layer that was opened while it was empty has its first points' properties at once.
func TestSampleOfFew(t *testing.T) {
	f := newFixture(t)
	for sequence, name := range []string{"", "first", "second"} {
		if sequence > 0 {
			f.exec(`insert into points_1 (id, position, geom, received_at, properties)
				values (gen_random_uuid(), $1, ST_SetSRID(ST_MakePoint(1, 2), 4326), now(), jsonb_build_object($2::text, 1))`, 4096*sequence, name)
			f.exec("update checkpoint set sequence = $1", sequence)
			f.tracker.Saw(uint64(sequence))
		}
		schema := f.properties("/collections/points/schema")
		if _, ok := schema[name]; ok != (name != "") {
			t.Errorf("after %d points: %v", sequence, schema)
		}
		if name != "" {
			if p, r := f.items("?" + name + "=1"); r.status != http.StatusOK || p.NumberMatched != 1 {
				t.Errorf("%s: %d %s", name, r.status, clipped(r.body))
			}
		}
	}
}

// What the points of a new segment have is in the next sample, though the service has
// read the list of segments before.
func TestSampleOfNewSegment(t *testing.T) {
	f := newFixture(t)
	add := func(sequence uint64, table, property string) {
		f.exec(`insert into `+table+` (id, position, geom, received_at, properties)
			values (gen_random_uuid(), $1, ST_SetSRID(ST_MakePoint(1, 2), 4326), now(), jsonb_build_object($2::text, 1))`, int64(event.At(sequence, 0)), property)
		f.exec("update checkpoint set sequence = $1", int64(sequence))
		f.tracker.Saw(sequence)
	}
	add(1, "points_1", "before")
	f.get("/points")
	f.seal(2, 1)
	add(2, "points_2", "after")
	schema := f.properties("/collections/points/schema")
	for _, name := range []string{"before", "after"} {
		if schema[name]["type"] != "integer" {
			t.Errorf("%s was not seen: %v", name, schema)
		}
	}
}

// OGC API Features, part 3, requirements class "queryables as query parameters":
// each is a parameter, which the API's definition has.
func TestQueryablesAsParameters(t *testing.T) {
	f := newClash(t)
	for query, want := range map[string]int{
		"kind=plain": 30, "kind=a..b": 30, "mag=0.4": 1, "n=7": 1, "on=true": 30, "kind=plain&n=7&bbox=0,0,90,90": 1, "position=4101": 1,
		"position=4101&kind=plain": 1, "position=4101&filter=n = 4": 0, "position=4101&filter=": 1, "filter=n = 4 OR n = 5&position=4101": 1, "received=2026-11-21T22:43:01Z": 60, "day=2026-01-02": 30,
	} {
		if p, r := f.items("?" + escapeQuery(query)); r.status != http.StatusOK || p.NumberMatched != want {
			t.Errorf("%s: %d, %d matched, want %d: %s", query, r.status, p.NumberMatched, want, clipped(r.body))
		}
	}
	for query, parameter := range map[string]string{"nobody=1": "nobody", "position=x": "filter", "kind=a&kind=b": "properties.kind", `position=1&filter-lang=cql2-json&filter={"op":"=","args":[{"property":"n"},5]}`: "filter-lang"} {
		_, r := f.items("?" + escapeQuery(query))
		var p struct{ Parameter string }
		if err := json.Unmarshal(r.body, &p); err != nil || r.status != http.StatusBadRequest || p.Parameter != parameter {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
	var d struct {
		Paths map[string]map[string]struct {
			Parameters []struct {
				Name   string
				Schema struct{ Type string }
			}
		}
	}
	if err := json.Unmarshal(f.get("/api").body, &d); err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, p := range d.Paths["/collections/points/items"]["get"].Parameters {
		types[p.Name] = p.Schema.Type
	}
	if types["mag"] != "string" || types["kind"] != "string" || types["position"] != "number" { // 1.5 is that of no point, and no mistake; points may have mag as text
		t.Errorf("parameters: %v", types)
	}
}

// Who asks for points and knows nothing of pages is told in the way that GDAL knows
// that there are more, and what to do instead.
func TestMoreThanAPage(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into points_1 (id, position, geom, received_at)
		select gen_random_uuid(), 4096 + i, ST_SetSRID(ST_MakePoint(1, 2), 4326), now() from generate_series(1, 1001) i`)
	const marker = `"exceededTransferLimit":true`
	for query, want := range map[string]bool{"": true, "?bbox=0,0,9,9": true, "?limit=1000": false, "?limit=5": false, "?bbox=5,5,9,9": false} {
		if r := f.get("/points" + query); strings.Contains(string(r.body), marker) != want {
			t.Errorf("%s: %s", query, r.body[max(0, len(r.body)-400):])
		}
	}
	if got := f.detail(f.get("/points?resultRecordCount=1000&resultOffset=1000"), http.StatusBadRequest); !strings.Contains(got, "OAPIF:") || !strings.Contains(got, "/points.geojson") {
		t.Errorf("detail: %s", got)
	}
}

// GDAL's pages of 10 become larger; nobody else's do.
func TestPagesOfGDAL(t *testing.T) {
	f := newItems(t)
	for accept, want := range map[string]string{"application/geo+json, application/json": "limit=1000", "application/geo+json": "limit=10&"} {
		r := f.with(http.MethodGet, "/collections/points/items?limit=10", "Accept", accept)
		var p itemsPage
		if err := json.Unmarshal(r.body, &p); err != nil || len(p.Features) != 10 || !strings.Contains(p.link("next").Href, want) {
			t.Errorf("%s: %d points, next is %s (%v)", accept, len(p.Features), p.link("next").Href, err)
		}
	}
}

// Some points with as many properties as fit make neither a sample large, nor what was
// seen before vanish from the schema: 12 such points once took 5 GB.
func TestSampleOfManyProperties(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into points_1 (id, position, geom, received_at, properties)
		select gen_random_uuid(), 4096 + i, ST_SetSRID(ST_MakePoint(1, 2), 4326), now(), case when i < 300 then jsonb_build_object('common', i, '', i)
			else (select jsonb_object_agg('p' || i || '.' || j, 1) from generate_series(0, 700) j) || jsonb_build_object('common', 1, repeat('x', 300), 1) end
		from generate_series(0, 339) i`)
	f.exec(`insert into points_1 (id, position, geom, received_at, properties)
		select gen_random_uuid(), 8192, ST_SetSRID(ST_MakePoint(1, 2), 4326), now(), jsonb_object_agg('large' || md5(j::text), j) from generate_series(0, 8000) j`)
	f.exec("update checkpoint set sequence = 2")
	schema := f.properties("/collections/points/schema")
	if schema["common"]["type"] != "integer" {
		t.Errorf("the common property is %v", schema["common"])
	}
	if p, listed := schema[""]; listed {
		t.Errorf("what has no name is listed as %v", p)
	}
	if n := len(schema); n > maxSeen+20 {
		t.Errorf("%d properties are listed", n)
	}
	f.sample.mu.Lock()
	defer f.sample.mu.Unlock()
	if n := len(f.sample.rows); n < 200 || n > 341 { // each once
		t.Errorf("of 341 points %d are sampled", n)
	}
	for _, r := range f.sample.rows {
		if len(r.properties) > maxSeen {
			t.Fatalf("of a point %d properties are kept", len(r.properties))
		}
	}
	for _, name := range f.sample.names {
		if len(name) > maxSeenName || strings.HasPrefix(name, "large") {
			t.Fatalf("%.20q is kept", name)
		}
	}
	if len(f.sample.names) > maxSeenNames {
		t.Errorf("%d names are kept", len(f.sample.names))
	}
}
