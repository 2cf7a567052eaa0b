package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"cairn/query/ogc"
)

// itemsRows are some points, the oldest first, with their properties.
const itemsRows = `insert into points_1 (id, external_id, external_id_number, position, name, geom, altitude, observed_at, received_at, properties)
	select ('00000000-0000-5000-8000-' || lpad(i::text, 12, '0'))::uuid, case when i % 3 = 0 then i::text else 'p' || i end, i % 3 = 0, 4096 + i, 'Point ' || i,
		ST_SetSRID(ST_MakePoint(i - 50, (i - 50) / 2.0), 4326), case when i % 2 = 0 then i end,
		'2026-11-01T00:00:00Z'::timestamptz + make_interval(hours => case when i = 7 then 999 else i end), '2026-11-21 22:43:01.5Z',
		jsonb_build_object('name', 'Point ' || i, 'n', i, 'kind', case when i % 2 = 0 then 'even' else 'odd' end)
	from generate_series(1, 100) i`

func newItems(t *testing.T) *fixture {
	f := newFixture(t)
	f.exec(itemsRows)
	// A test's ids are those that the path gives.
	f.exec("update checkpoint set sequence = 1")
	return f
}

type itemsPage struct {
	Type           string
	Features       []struct{ Properties map[string]any }
	NumberMatched  int
	NumberReturned int
	Links          []ogc.Link
}

func (f *fixture) items(query string) (itemsPage, reply) {
	f.t.Helper()
	r := f.get("/collections/points/items" + query)
	var p itemsPage
	if r.status == http.StatusOK {
		if err := json.Unmarshal(r.body, &p); err != nil {
			f.t.Fatal(err)
		}
		if p.NumberReturned != len(p.Features) {
			f.t.Errorf("numberReturned is %d of %d", p.NumberReturned, len(p.Features))
		}
	}
	return p, r
}

func (p *itemsPage) link(rel string) (found ogc.Link) {
	for _, l := range p.Links {
		if l.Rel == rel {
			found = l
		}
	}
	return found
}

// Every restriction, with how many of the 100 points pass it. numberMatched is that,
// whatever the page holds (part 1, section 7.16).
func TestItemsMatched(t *testing.T) {
	f := newItems(t)
	for query, want := range map[string]int{
		"": 100, "filter=": 100, "filter-lang=cql2-text": 100, "filter=&filter-lang=cql2-json": 100, "filter=&name=Point 5": 1, "limit=7": 100, "bbox=0,0,10,10": 11, "bbox=0,0,-100,10,10,8": 5, "bbox=360,0,370,10": 11, "bbox=-540,-90,540,90": 100, "bbox=40,-90,-40,90": 21,
		"datetime=2026-11-01T05:00:00Z": 1, "datetime=2026-11-02": 24, "datetime=../2026-11-01T03:00:00Z": 3, "datetime=2026-12-01/..": 1,
		"name=Point 5": 1, "properties.kind=even": 50, "properties.n=10..19": 10, "near=0,0,200000": 3,
		"filter=n > 90": 10, "filter=kind = 'odd' AND n < 10": 5, "filter=n > 90&bbox=0,-90,45,90": 5, "filter=S_INTERSECTS(geometry, POLYGON((0 0, 10 0, 10 10, 0 10, 0 0)))": 11,
		"filter=CASEI(name) LIKE CASEI('POINT 1_')": 10, "filter=T_AFTER(time, DATE('2026-12-01'))": 1, "filter=n IS NULL": 0, "filter=altitude IS NULL": 50,
		`filter={"op":"=","args":[{"property":"n"},5]}&filter-lang=cql2-json`: 1,
	} {
		t.Run(query, func(t *testing.T) {
			for _, more := range [...]string{"", "&limit=1"} {
				if more != "" && strings.Contains(query, "limit") {
					continue
				}
				p, r := f.items("?" + escapeQuery(query+more))
				if r.status != http.StatusOK || p.NumberMatched != want || more == "" && !strings.Contains(query, "limit") && len(p.Features) != want {
					t.Errorf("%s%s: %d, %d matched, %d returned %s", query, more, r.status, p.NumberMatched, p.NumberReturned, clipped(r.body))
				}
			}
		})
	}
}

func clipped(b []byte) []byte { return b[:min(len(b), 300)] }

// escapeQuery escapes the values of a query that is written as people read it.
func escapeQuery(s string) string {
	var parts []string
	for part := range strings.SplitSeq(s, "&") {
		name, value, _ := strings.Cut(part, "=")
		if part != "" {
			parts = append(parts, name+"="+strings.ReplaceAll(url.QueryEscape(value), "+", "%20"))
		}
	}
	return strings.Join(parts, "&")
}

// Whoever follows next sees each point once, in the order asked for, whatever the
// limit becomes on the way.
func TestItemsPages(t *testing.T) {
	f := newItems(t)
	for _, tt := range [...]struct {
		name, query string
		ordered     func(a, b map[string]any) bool
	}{
		{"newest first", "limit=9", func(a, b map[string]any) bool { return a["position"].(float64) > b["position"].(float64) }},
		{"oldest first", "limit=9&sortby=position", func(a, b map[string]any) bool { return a["position"].(float64) < b["position"].(float64) }},
		{"by time", "limit=9&sortby=time", func(a, b map[string]any) bool { return a["time"].(string) < b["time"].(string) }},
		{"latest", "limit=9&sortby=-time", func(a, b map[string]any) bool { return a["time"].(string) > b["time"].(string) }},
		{"nearest", "limit=9&near=0,0,10000000", func(a, b map[string]any) bool { return from(50, a) <= from(50, b) }},
		{"filtered", "limit=9&filter=n > 0 AND name <> 'a+b; c'", func(a, b map[string]any) bool { return a["position"].(float64) > b["position"].(float64) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := map[string]bool{}
			var last map[string]any
			next := "?" + escapeQuery(tt.query)
			for pages := 0; next != ""; pages++ {
				p, r := f.items(next)
				if r.status != http.StatusOK || pages > 20 {
					t.Fatalf("%s: %d %s", next, r.status, clipped(r.body))
				}
				for _, feature := range p.Features {
					if last != nil && !tt.ordered(last, feature.Properties) {
						t.Errorf("%v follows %v", feature.Properties, last)
					}
					last = feature.Properties
					id := last["id"].(string)
					if seen[id] {
						t.Errorf("%s is there twice", id)
					}
					seen[id] = true
				}
				link := p.link("next").Href
				if link != "" && (!strings.HasPrefix(link, f.base+"/collections/points/items?") || strings.Contains(link, "+") || !strings.Contains(r.header.Get("Link"), link)) {
					t.Errorf("next is %s, Link is %s", link, r.header.Get("Link"))
				}
				_, next, _ = strings.Cut(link, "?")
				if next != "" {
					next = "?" + strings.Replace(next, "limit=9", "limit=30", 1)
				}
			}
			if len(seen) != 100 {
				t.Errorf("%d points of 100", len(seen))
			}
		})
	}
}

// from is how far a point of itemsRows is from the n-th.
func from(n float64, properties map[string]any) float64 {
	d := properties["n"].(float64) - n
	return max(d, -d)
}

func TestItemsLinksAndForms(t *testing.T) {
	f := newItems(t)
	p, r := f.items("?limit=2")
	if r.header.Get("Content-Type") != "application/geo+json" || r.header.Get("Cairn-Position") == "" || p.Type != "FeatureCollection" {
		t.Errorf("%v", r.header)
	}
	for rel, media := range map[string]string{"self": "application/geo+json", "alternate": "text/html", "next": "application/geo+json"} {
		if l := p.link(rel); l.Type != media || !strings.HasPrefix(l.Href, f.base) {
			t.Errorf("rel %s: %v", rel, l)
		}
	}
	html := f.get(strings.TrimPrefix(p.link("alternate").Href, f.base))
	if html.status != http.StatusOK || !strings.HasPrefix(html.header.Get("Content-Type"), "text/html") || !bytes.Contains(html.body, []byte("Point 100")) || !bytes.Contains(html.body, []byte(`rel="next"`)) {
		t.Errorf("%d %s", html.status, html.body)
	}
	behind := f.with(http.MethodGet, "/collections/points/items?limit=2", "X-Forwarded-Host", "maps.example.org", "X-Forwarded-Prefix", "/geo")
	if bytes.Contains(behind.body, []byte(f.base)) || !bytes.Contains(behind.body, []byte(`"http://maps.example.org/geo/collections/points/items?limit=2`)) {
		t.Errorf("%s", behind.body)
	}
	if again := f.with(http.MethodGet, "/collections/points/items?limit=2", "If-None-Match", r.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("%d", again.status)
	}
	if head := f.with(http.MethodHead, "/collections/points/items?limit=2"); head.status != http.StatusOK || len(head.body) > 0 {
		t.Errorf("%d", head.status)
	}
}

func TestItemsProperties(t *testing.T) {
	f := newItems(t)
	for query, want := range map[string]string{"properties=n": "map[n:100]", "properties=n,id": "map[id:p100 n:100]", "properties=": "map[]", "properties=missing,kind": "map[kind:even]"} {
		p, r := f.items("?limit=1&" + query)
		if r.status != http.StatusOK || fmt.Sprint(p.Features[0].Properties) != want {
			t.Errorf("%s: %v", query, p.Features)
		}
	}
	p, _ := f.items("?limit=1")
	for _, name := range [...]string{"id", "time", "received", "position", "revision", "name", "n", "kind"} {
		if _, ok := p.Features[0].Properties[name]; !ok {
			t.Errorf("no %s in %v", name, p.Features[0].Properties)
		}
	}
}

func TestItemsRefuses(t *testing.T) {
	f := newItems(t)
	for _, query := range [...]string{"limit=0", "limit=-1", "limit=unlimited", "limt=5", "bbox=1,2,3", "bbox=a,b,c,d", "bbox=1,50,2,40", "datetime=yesterday", "filter=n >", "filter=n > 5&filter-lang=sql",
		"filter-lang=sql", "filter-lang=", "filter=&filter-lang=sql", "sortby=name", "sortby=--time", "cursor=abc", "crs=http://example.org", "bbox-crs=http://www.opengis.net/def/crs/EPSG/0/3857", "f=xml", "near=1,2", "limit=5&limit=6"} {
		if _, r := f.items("?" + escapeQuery(query)); r.status != http.StatusBadRequest || r.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
	p, _ := f.items("?limit=5&sortby=time")
	cursor := p.link("next").Href[strings.Index(p.link("next").Href, "cursor="):]
	if _, r := f.items("?" + cursor); r.status != http.StatusBadRequest {
		t.Errorf("the cursor of another order: %d", r.status)
	}
	if _, r := f.items("?limit=100000&crs=http%3A%2F%2Fwww.opengis.net%2Fdef%2Fcrs%2FOGC%2F1.3%2FCRS84"); r.status != http.StatusOK {
		t.Errorf("a limit above the greatest: %d", r.status)
	}
}

func TestItem(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 2})
	r := f.get("/collections/points/items/p1.0")
	links := linksOf(t, r.body)
	if r.status != http.StatusOK || r.header.Get("Content-Type") != "application/geo+json" || r.header.Get("ETag") != `"4096"` {
		t.Errorf("%d %v", r.status, r.header)
	}
	for rel, want := range map[string]ogc.Link{"self": {Href: f.base + "/collections/points/items/p1.0", Type: "application/geo+json"}, "collection": {Href: f.base + "/collections/points", Type: "application/json"}} {
		if l := links[rel]; len(l) != 1 || l[0].Href != want.Href || l[0].Type != want.Type {
			t.Errorf("rel %s: %v", rel, l)
		}
	}
	if again := f.with(http.MethodGet, "/collections/points/items/p1.0", "If-None-Match", `"4096"`); again.status != http.StatusNotModified {
		t.Errorf("%d", again.status)
	}
	if html := f.get("/collections/points/items/p1.0?f=html"); html.status != http.StatusOK || !bytes.Contains(html.body, []byte("received")) {
		t.Errorf("%d %s", html.status, html.body)
	}
	if missing := f.get("/collections/points/items/none"); missing.status != http.StatusNotFound {
		t.Errorf("%d", missing.status)
	}
}

// QGIS offers to edit where OPTIONS lists the methods.
func TestItemsOptions(t *testing.T) {
	f := newFixture(t)
	for path, want := range map[string]string{"/collections/points/items": "GET, HEAD, OPTIONS", "/collections/points/items/unknown_id": "GET, HEAD, OPTIONS"} {
		if r := f.with(http.MethodOptions, path); r.status != http.StatusNoContent || r.header.Get("Allow") != want {
			t.Errorf("%s: %d %s", path, r.status, r.header.Get("Allow"))
		}
	}
}
