package query

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"cairn/event"
)

// latest puts what the projector would into the table, as of a sequence.
func (f *fixture) latest(sequence uint64, name, observed string, x, y float64, properties string) {
	f.t.Helper()
	f.exec(`with placed as (insert into latest (id, external_id, position, name, geom, observed_at, received_at, properties, since)
		values ($1, $2, $3, $4, ST_SetSRID(ST_MakePoint($5, $6), 4326), $7::timestamptz, '2026-11-21 22:43:01.5Z', $8, $3)
		on conflict (name) do update set id = excluded.id, external_id = excluded.external_id, position = excluded.position, geom = excluded.geom,
			observed_at = excluded.observed_at, properties = excluded.properties, since = excluded.since)
		update checkpoint set sequence = $9, latest = $9`,
		event.Key(fmt.Sprint(name, sequence)), fmt.Sprint(name, sequence), int64(event.At(sequence, 0)), name, x, y, observed, properties, int64(sequence))
}

// names follows the pages and returns the names, in their order.
func (f *fixture) names(path string) (names []string, pages int) {
	f.t.Helper()
	for path != "" {
		c, _ := f.pageAt(path)
		pages++
		path = ""
		for _, p := range c.Features {
			_, rest, _ := strings.Cut(string(p.Properties), `"name": "`)
			name, _, _ := strings.Cut(rest, `"`)
			names = append(names, name)
		}
		if len(c.Links) == 1 {
			path = c.Links[0].Href
		}
	}
	return names, pages
}

func TestLatestPages(t *testing.T) {
	f := newFixture(t)
	if c, _ := f.pageAt("/latest?limit=5"); len(c.Features) != 0 {
		t.Fatalf("%d Features of nothing", len(c.Features))
	}
	for i, d := range []struct{ name, observed, properties string }{
		{"bus 1", "2026-01-01T10:00:00Z", `{"name": "bus 1", "speed": 10}`},
		{"Bus 2", "2026-01-02T10:00:00Z", `{"name": "Bus 2", "speed": 20, "line": "M4"}`},
		{"jane/phone", "2026-01-03T10:00:00Z", `{"name": "jane/phone", "speed": 30}`},
		{"Трамвай 平和", "2026-01-04T10:00:00Z", `{"name": "Трамвай 平和"}`},
	} {
		f.latest(uint64(i+1), d.name, d.observed, float64(10*i), float64(i), d.properties)
	}
	const all = "Bus 2|bus 1|jane/phone|Трамвай 平和"
	for _, c := range []struct{ query, want string }{
		{"", all}, {"?limit=1", all}, {"?limit=3", all},
		{"?bbox=5,-1,25,5", "Bus 2|jane/phone"}, {"?bbox=5,-1,25,5&limit=1", "Bus 2|jane/phone"},
		{"?datetime=2026-01-02/2026-01-03", "Bus 2|jane/phone"},
		{"?name=jane/phone", "jane/phone"}, {"?name=" + url.QueryEscape("Трамвай 平和"), "Трамвай 平和"}, {"?name=nobody", ""},
		{"?properties.speed=15..", "Bus 2|jane/phone"}, {"?properties.line=M4&bbox=-1,-1,50,50", "Bus 2"},
		{"?filter=" + url.QueryEscape("speed < 30 AND name LIKE '%us%'"), "Bus 2|bus 1"},
		{"?near=30,3,5000000", "Трамвай 平和|jane/phone|Bus 2|bus 1"}, {"?near=30,3,5000000&limit=1", "Трамвай 平和|jane/phone|Bus 2|bus 1"}, {"?near=30,3,2000", "Трамвай 平和"},
		{"?near=30,3,5000000&bbox=-1,-1,15,5", "Bus 2|bus 1"},
	} {
		t.Run(c.query, func(t *testing.T) {
			got, pages := f.names("/latest" + c.query)
			if strings.Join(got, "|") != c.want {
				t.Errorf("%q, want %q", strings.Join(got, "|"), c.want)
			}
			if strings.Contains(c.query, "limit=1") && pages != max(1, len(got)) {
				t.Errorf("%d pages for %d names", pages, len(got))
			}
		})
	}
}

// A name keeps its place among the pages however it moves.
func TestLatestPagesWhileNamesMove(t *testing.T) {
	f := newFixture(t)
	for i := range 20 {
		f.latest(uint64(i+1), fmt.Sprintf("van %02d", i), "2026-01-01T10:00:00Z", 1, 1, fmt.Sprintf(`{"name": "van %02d"}`, i))
	}
	path, seen := "/latest?limit=3", map[string]int{}
	for round := 0; path != ""; round++ {
		c, _ := f.pageAt(path)
		for _, p := range c.Features {
			name := p.Properties[bytes.Index(p.Properties, []byte(`"van `)):]
			seen[string(name[:len(`"van 00"`)])]++
		}
		for i := range 20 {
			f.latest(uint64(100+20*round+i), fmt.Sprintf("van %02d", i), "2026-01-02T10:00:00Z", 2, 2, fmt.Sprintf(`{"name": "van %02d"}`, i))
		}
		path = ""
		if len(c.Links) == 1 {
			path = c.Links[0].Href
		}
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s was seen %d times", name, n)
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d of 20 were seen", len(seen))
	}
}

func TestLatestAnswers(t *testing.T) {
	f := newFixture(t)
	f.latest(7, "bus", "2026-01-01T10:00:00Z", 1, 2, `{"name": "bus"}`)
	one := f.get("/latest")
	tag := one.header.Get("ETag")
	if one.header.Get("Cairn-Position") != positionText(7) || tag == "" {
		t.Fatalf("%v", one.header)
	}
	if r := f.do(http.MethodGet, "/latest", "If-None-Match", tag); r.status != http.StatusNotModified || len(r.body) > 0 {
		t.Errorf("with the tag: %d", r.status)
	}
	if r := f.do(http.MethodHead, "/latest"); r.status != http.StatusOK || len(r.body) > 0 || r.header.Get("ETag") != tag {
		t.Errorf("HEAD: %d %v", r.status, r.header)
	}
	if r := f.do(http.MethodOptions, "/latest"); r.status != http.StatusNoContent || !strings.Contains(r.header.Get("Allow"), "GET") {
		t.Errorf("OPTIONS: %d %v", r.status, r.header)
	}
	f.latest(8, "bus", "2026-01-01T11:00:00Z", 3, 4, `{"name": "bus"}`)
	if r := f.get("/latest?min_position=" + positionText(8)); !strings.Contains(string(r.body), "[3,4]") || r.header.Get("ETag") == tag {
		t.Errorf("after it moved: %s", r.body)
	}
	for _, bad := range []string{"sortby=time", "since=1", "cursor=x", "limit=0", "bbox=1", "filter=nonsense("} {
		if r := f.get("/latest?" + bad); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, r.status, r.body)
		}
	}
	// The cursor of another order.
	f.put(9, [2]float64{1, 1}, [2]float64{2, 2})
	c, _ := f.pageAt("/points?limit=1")
	_, cursor, _ := strings.Cut(c.Links[0].Href, "cursor=")
	if r := f.get("/latest?cursor=" + cursor); r.status != http.StatusBadRequest {
		t.Errorf("a cursor of /points: %d", r.status)
	}
}

// Until it is complete it says so; what retention has dropped it does not show, and
// what a bulk load left for later it does not claim.
func TestLatestIsHonest(t *testing.T) {
	f := newFixture(t)
	f.latest(5, "old", "2026-01-01T10:00:00Z", 1, 2, `{"name": "old"}`)
	f.latest(9, "new", "2026-01-01T10:00:00Z", 1, 2, `{"name": "new"}`)
	f.exec(`update segments set latest_done = false`)
	r := f.get("/latest?limit=7")
	if f.detail(r, http.StatusServiceUnavailable); r.header.Get("Retry-After") != "10" {
		t.Errorf("%v", r.header)
	}
	f.exec(`update segments set latest_done = true; `)
	f.exec(`update checkpoint set floor = $1`, int64(event.At(6, 0)))
	if got, _ := f.names("/latest?limit=8"); strings.Join(got, "|") != "new" {
		t.Errorf("after retention: %q", got)
	}
	f.exec(`update latest set geom = null where name = 'new'`)
	if got, _ := f.names("/latest?limit=9"); len(got) != 0 {
		t.Errorf("what was deleted: %q", got)
	}
	f.exec(`update checkpoint set sequence = 20`)
	f.pageAt("/points?min_position=" + positionText(20)) // so that the role knows
	for range 3 {
		if r := f.get("/latest?limit=10"); r.status != http.StatusOK || r.header.Get("Cairn-Position") != positionText(9) {
			t.Errorf("behind the database: %d %v", r.status, r.header)
		}
	}
	// It was no sign of a database that has gone back.
	if r := f.get("/points"); r.header.Get("Cairn-Position") != positionText(20) {
		t.Errorf("the position of the points: %v", r.header)
	}
}
