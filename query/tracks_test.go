package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cairn/event"
	"cairn/schema"
)

// fix adds a point that has a name to a segment, and what the table latest has of it.
func (f *fixture) fix(segment int, sequence uint64, name, observed string, x float64) {
	f.t.Helper()
	id := fmt.Sprint("fix", sequence)
	f.exec(fmt.Sprintf(`insert into points_%d (id, external_id, position, name, geom, altitude, observed_at, received_at, properties)
		values ($1, $2, $3, $4, ST_SetSRID(ST_MakePoint($5, 1), 4326), nullif($5, 5), $6::timestamptz, '2026-03-01', jsonb_build_object('name', $4::text, 'x', $5))`, segment),
		event.Key(id), id, int64(event.At(sequence, 0)), name, x, observed)
	f.exec(`insert into latest (id, external_id, position, name, geom, observed_at, received_at, properties, since)
		select id, external_id, position, name, geom, observed_at, received_at, properties, position from points where position = $1
		on conflict (name) do update set id = excluded.id, position = excluded.position, geom = excluded.geom, observed_at = excluded.observed_at
		where excluded.observed_at > latest.observed_at`, int64(event.At(sequence, 0)))
	f.exec(`update checkpoint set sequence = $1, latest = $1`, int64(sequence))
}

// twoSegments makes a sealed one, below sequence 100, beside the head.
func (f *fixture) twoSegments() {
	f.t.Helper()
	f.exec(`update segments set low = $1 where id = 1`, int64(event.At(100, 0)))
	f.exec(schema.CreateTable(2))
	f.exec(schema.GrantLike(2))
	for _, ddl := range append(schema.HeadIndexes(2), schema.SealedIndexes(2)...) {
		f.exec(ddl)
	}
	f.exec(`insert into segments (id, low, high, state, rows, revision, west, south, east, north, time_from, time_to, received_to, other_ids)
		values (2, 0, $1, 'sealed', 10, 0, -180, -90, 180, 90, '2026-01-01', '2026-02-01', '2026-03-01', 1)`, int64(event.At(100, 0)))
	f.exec(schema.View([]int{2, 1}))
}

type trackFeature struct {
	Type     string
	Geometry *struct {
		Type        string
		Coordinates json.RawMessage
	}
	Properties struct {
		Name       string
		CoordTimes json.RawMessage
	}
}

func (f *fixture) track(path string) trackFeature {
	f.t.Helper()
	r := f.get(path)
	var t trackFeature
	if err := json.Unmarshal(r.body, &t); r.status != http.StatusOK || err != nil || r.header.Get("Content-Type") != mediaGeoJSON {
		f.t.Fatalf("GET %s: %d %v %s", path, r.status, err, r.body)
	}
	return t
}

func TestTracks(t *testing.T) {
	f := newFixture(t)
	f.twoSegments()
	const jane = "jane/phone 100% Ünï"
	f.fix(2, 1, jane, "2026-01-05T10:00:00Z", 1)
	f.fix(2, 2, "other", "2026-01-05T10:00:10Z", 50)
	f.fix(2, 3, jane, "2026-01-05T12:00:00Z", 3)
	f.fix(1, 101, jane, "2026-01-05T11:00:00Z", 2) // late, in another segment
	f.fix(1, 102, jane, "2026-01-05T12:00:00Z", 4) // the same time again
	f.fix(1, 103, jane, "2026-01-05T12:00:20Z", 5)
	at := "/tracks/" + url.PathEscape(jane)
	for _, c := range []struct{ query, places, times string }{
		{"", "[[1,1,1],[2,1,2],[3,1,3],[4,1,4],[5,1]]", `["2026-01-05T10:00:00Z","2026-01-05T11:00:00Z","2026-01-05T12:00:00Z","2026-01-05T12:00:00Z","2026-01-05T12:00:20Z"]`},
		{"?gap=1800", "[[[1,1,1],[1,1,1]],[[2,1,2],[2,1,2]],[[3,1,3],[4,1,4],[5,1]]]", ""},
		{"?gap=90m", "[[[1,1,1],[2,1,2],[3,1,3],[4,1,4],[5,1]]]", ""},
		{"?datetime=2026-01-05T11:00:00Z/2026-01-05T12:00:00Z", "[[2,1,2],[3,1,3],[4,1,4]]", ""},
		{"?bbox=2.5,0,9,2", "[[3,1,3],[4,1,4],[5,1]]", ""},
		{"?properties.x=4..", "[[4,1,4],[5,1]]", ""},
		{"?filter=" + url.QueryEscape("x < 2"), "[[1,1,1],[1,1,1]]", ""},
		{"?filter=&filter-lang=cql2-json&tolerance=10", "[[1,1,1],[5,1]]", ""},
		{"?tolerance=10", "[[1,1,1],[5,1]]", `["2026-01-05T10:00:00Z","2026-01-05T12:00:20Z"]`},
	} {
		t.Run(c.query, func(t *testing.T) {
			got := f.track(at + c.query)
			kind := "LineString"
			if strings.Contains(c.query, "gap") {
				kind = "MultiLineString"
			}
			if got.Geometry == nil || got.Geometry.Type != kind || string(got.Geometry.Coordinates) != c.places || got.Properties.Name != jane || c.times != "" && string(got.Properties.CoordTimes) != c.times {
				t.Errorf("%+v", got)
			}
		})
	}
	if got := f.track(at + "?datetime=1999-01-01"); got.Geometry != nil || string(got.Properties.CoordTimes) != "[]" {
		t.Errorf("of a time before: %+v", got)
	}
	// A slash may come as it is, through proxies that decode it.
	if got := f.track("/tracks/jane/phone%20100%25%20%C3%9Cn%C3%AF"); got.Properties.Name != jane {
		t.Errorf("%q", got.Properties.Name)
	}
	r := f.get(at)
	if r.header.Get("Cairn-Position") != positionText(103) || !strings.Contains(r.header.Get("Vary"), "Accept") {
		t.Errorf("%v", r.header)
	}
}

func TestTrackForms(t *testing.T) {
	f := newFixture(t)
	f.fix(1, 1, "bus", "2026-01-05T10:00:00Z", 1)
	f.fix(1, 2, "bus", "2026-01-05T10:00:10Z", 2)
	for _, c := range []struct{ query, accept, media, begins string }{
		{"", "", "application/geo+json", `{"type":"Feature","geometry"`},
		{"?f=json", "text/csv", "application/geo+json", `{"type":"Feature","geometry"`},
		{"?f=gpx", "", "application/gpx+xml", "<?xml"},
		{"?f=csv", "", "text/csv; charset=utf-8", "time,longitude"},
		{"?f=mfjson", "", "application/mf+json", `{"type":"Feature","crs"`},
		{"", "application/gpx+xml", "application/gpx+xml", "<?xml"},
		{"", "text/csv, application/geo+json;q=0.5", "text/csv; charset=utf-8", "time,longitude"},
		{"", "application/mf+json", "application/mf+json", `{"type":"Feature","crs"`},
		{"", "text/html,*/*;q=0.8", "application/geo+json", `{"type":"Feature","geometry"`},
	} {
		t.Run(c.query+" "+c.accept, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				r := f.do(method, "/tracks/bus"+c.query, "Accept", c.accept)
				if r.status != http.StatusOK || r.header.Get("Content-Type") != c.media {
					t.Errorf("%s: %d %v", method, r.status, r.header)
				}
				if method == http.MethodGet && !strings.HasPrefix(string(r.body), c.begins) {
					t.Errorf("%s", r.body)
				}
			}
		})
	}
	for path, status := range map[string]int{
		"/tracks/nobody": http.StatusNotFound, "/tracks/%00": http.StatusNotFound, "/tracks/" + strings.Repeat("x", 300): http.StatusNotFound,
		"/tracks/bus?f=shp": http.StatusBadRequest, "/tracks/bus?gap=-1": http.StatusBadRequest, "/tracks/bus?gap=soon": http.StatusBadRequest,
		"/tracks/bus?tolerance=0": http.StatusBadRequest, "/tracks/bus?tolerance=NaN": http.StatusBadRequest, "/tracks/bus?name=x": http.StatusBadRequest,
		"/tracks/bus?filter=)": http.StatusBadRequest, "/tracks/bus?filter-lang=": http.StatusBadRequest, "/tracks?filter-lang=": http.StatusBadRequest,
	} {
		if r := f.get(path); r.status != status {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if r := f.do(http.MethodOptions, "/tracks/bus"); r.status != http.StatusNoContent || !strings.Contains(r.header.Get("Allow"), "HEAD") {
		t.Errorf("OPTIONS: %d %v", r.status, r.header)
	}
	// While the newest of each name are gathered, tracks are there.
	f.exec(`update segments set latest_done = false`)
	if r := f.get("/tracks/bus"); r.status != http.StatusOK {
		t.Errorf("while gathering: %d %s", r.status, r.body)
	}
	if r := f.get("/tracks/nobody"); r.status != http.StatusNotFound {
		t.Errorf("while gathering: %d %s", r.status, r.body)
	}
}

func TestListOfTracks(t *testing.T) {
	f := newFixture(t)
	f.twoSegments()
	sequence := uint64(0)
	for i := range 7 {
		for j := range i + 1 {
			sequence++
			f.fix(2, sequence, fmt.Sprintf("van/%d", i), fmt.Sprintf("2026-01-05T1%d:0%d:00Z", i, j), float64(10*i))
		}
	}
	f.fix(1, 150, "van/3", "2026-01-04T00:00:00Z", 1) // late, in another segment
	f.fix(1, 151, "van/4", "2026-01-06T00:00:00Z", 40)
	type entry struct {
		Name        string
		First, Last time.Time
		Count       int
		Href        string
	}
	var all []entry
	pages := 0
	for path := "/tracks?limit=3"; path != ""; pages++ {
		r := f.get(path)
		var page struct {
			Tracks         []entry
			NumberReturned int
			Links          []struct{ Rel, Href string }
		}
		if err := json.Unmarshal(r.body, &page); r.status != http.StatusOK || err != nil || page.NumberReturned != len(page.Tracks) || r.header.Get("Cairn-Position") != positionText(151) {
			t.Fatalf("GET %s: %d %v %s", path, r.status, err, r.body)
		}
		all = append(all, page.Tracks...)
		path = ""
		if len(page.Links) == 1 {
			path = page.Links[0].Href
		}
	}
	if len(all) != 7 || pages != 3 {
		t.Fatalf("%d names on %d pages", len(all), pages)
	}
	for i, e := range all {
		count, first, last := i+1, fmt.Sprintf("2026-01-05T1%d:00:00Z", i), fmt.Sprintf("2026-01-05T1%d:0%d:00Z", i, i)
		switch i {
		case 3:
			count, first = count+1, "2026-01-04T00:00:00Z"
		case 4:
			count, last = count+1, "2026-01-06T00:00:00Z"
		}
		if e.Name != fmt.Sprintf("van/%d", i) || e.Count != count || e.First.Format(time.RFC3339) != first || e.Last.Format(time.RFC3339) != last {
			t.Errorf("%+v, want %d from %s to %s", e, count, first, last)
		}
		if got := f.track(strings.TrimPrefix(e.Href, f.base)); got.Properties.Name != e.Name {
			t.Errorf("%s is the track of %q", e.Href, got.Properties.Name)
		}
	}
	if r := f.get("/tracks?bbox=35,-1,65,5"); strings.Count(string(r.body), `"href":"http`) != 3 {
		t.Errorf("in a box: %s", r.body)
	}
	if r := f.get("/tracks?near=1,1,5"); r.status != http.StatusBadRequest {
		t.Errorf("near: %d", r.status)
	}
}

// The order of time comes from the index of a sealed segment, so that a long track
// begins at once; what else matches does not cost.
func TestTrackIsReadAlongTheIndex(t *testing.T) {
	f := newFixture(t)
	f.twoSegments()
	f.exec(`insert into points_2 (id, position, name, geom, observed_at, received_at)
		select gen_random_uuid(), 4096 + i, 'van ' || i % 5, ST_SetSRID(ST_MakePoint(i % 90, 1), 4326), '2026-01-05'::timestamptz + i * interval '1 s', now() from generate_series(1, 20000) i`)
	f.exec(`analyze points_2`)
	f.exec(`insert into latest (id, position, name, geom, received_at, since) select id, position, name, geom, received_at, position from points_2 where position > 4096 + 19995`)
	f.exec(`update checkpoint set sequence = 20, latest = 20`)
	r := f.get("/tracks/van%203?f=csv")
	if n := strings.Count(string(r.body), "\n"); n != 4001 {
		t.Fatalf("%d lines", n)
	}
	f.exec(`begin; set local enable_bitmapscan = off`)
	rows, err := f.db.Query(t.Context(), `explain (costs off) declare c cursor for select id, coalesce(observed_at, received_at) as at, position from points_2
		where name collate "C" = 'van 3' and geom is not null order by at, position`)
	if err != nil {
		t.Fatal(err)
	}
	plan := ""
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan += line + "\n"
	}
	f.exec(`rollback`)
	if strings.Contains(plan, "Sort") || !strings.Contains(plan, "Index Scan using points_2_track") {
		t.Errorf("the plan is\n%s", plan)
	}
}
