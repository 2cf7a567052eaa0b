package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A requirement of OGC API Features or CQL2, by the identifier that its standard gives
// it, with what shows that it is met.
type requirement struct {
	id   string
	show func(t *testing.T, a *api)
}

// An api is the server whose conformance is shown.
type api struct{ base string }

const (
	crs84    = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
	points   = "/collections/points"
	items    = points + "/items"
	relation = "http://www.opengis.net/def/rel/ogc/1.0/"
)

// document gets a resource, which must be there and of the media type, as JSON.
func (a *api) document(t *testing.T, path, media string) object {
	t.Helper()
	r := write(t, http.MethodGet, a.base+path, "", "", "Accept", media)
	if r.Status != http.StatusOK || r.Header.Get("Content-Type") != media {
		t.Fatalf("%s: %d %s: %s", path, r.Status, r.Header.Get("Content-Type"), r.Body)
	}
	var d object
	testrig.Parse(t, r.Body, &d)
	return d
}

// page gets the items that a query matches; it is written as people read it.
func (a *api) page(t *testing.T, query string) object {
	t.Helper()
	u, err := url.Parse(items + "?" + strings.ReplaceAll(query, " ", "%20"))
	if err != nil {
		t.Fatal(err)
	}
	return a.document(t, u.Path+"?"+u.Query().Encode(), geoJSON)
}

// matches compares how many items queries match.
func matches(want map[string]int) func(t *testing.T, a *api) {
	return func(t *testing.T, a *api) {
		for query, n := range want {
			p := a.page(t, query)
			if fmt.Sprint(p["numberMatched"]) != fmt.Sprint(n) || len(p.list("features")) != n {
				t.Errorf("%s: %v match, %d are there, want %d", query, p["numberMatched"], len(p.list("features")), n)
			}
		}
	}
}

// refuses shows that requests for items are the client's mistake.
func refuses(queries ...string) func(t *testing.T, a *api) {
	return func(t *testing.T, a *api) {
		for _, query := range queries {
			r := write(t, http.MethodGet, a.base+items+"?"+query, "", "")
			if r.Status != http.StatusBadRequest || r.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %d %s", query, r.Status, r.Header.Get("Content-Type"))
			}
		}
	}
}

// An object is one of JSON.
type object map[string]any

func (o object) list(name string) []any { l, _ := o[name].([]any); return l }
func (o object) object(name string) object {
	m, _ := o[name].(map[string]any)
	return m
}

// link reports whether there is a link of the relation and type, which leads to a 200.
func (o object) link(t *testing.T, rel, media string) {
	t.Helper()
	var there []string
	for _, l := range o.list("links") {
		l := object(l.(map[string]any))
		there = append(there, fmt.Sprint(l["rel"], " ", l["type"]))
		if l["rel"] != rel || l["type"] != media {
			continue
		}
		if r := write(t, http.MethodGet, fmt.Sprint(l["href"]), "", ""); r.Status != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), media) {
			t.Errorf("%s leads to %d %s", l["href"], r.Status, r.Header.Get("Content-Type"))
		}
		return
	}
	t.Errorf("no link %s of type %s: %v", rel, media, there)
}

// Points of every kind: with and without a time, an altitude, a property.
const conformancePoints = `{"type":"Feature","id":"a","geometry":{"type":"Point","coordinates":[2.35,48.85]},"properties":{"name":"Paris","n":1,"kind":"city","size":1.5,"open":true,"founded":"2020-05-01","seen":"2020-05-01T12:00:00Z","until":"2020-05-02T12:00:00+02:00"},"time":"2020-01-01T12:00:00Z"}
{"type":"Feature","id":"b","geometry":{"type":"Point","coordinates":[7.44,46.95,540]},"properties":{"name":"Bern","n":2,"kind":"city","open":false,"founded":"2020-05-02","seen":"2020-05-02T12:00:00Z","until":"2020-05-04T00:00:00Z"},"time":"2020-01-02T12:00:00Z"}
{"type":"Feature","id":"c","geometry":{"type":"Point","coordinates":[179.5,-17]},"properties":{"name":"Fiji","n":3,"kind":"island"},"time":"2020-01-03T12:00:00Z"}
{"type":"Feature","id":"d","geometry":{"type":"Point","coordinates":[-171.8,-13.8]},"properties":{"name":"Apia","n":4},"time":"2020-01-04T12:00:00Z"}
`

// TestConformance shows requirements of OGC API Features, parts 1 (17-069r4), 2
// (18-058r1), 3 (19-079r2), 4 (20-002r1) and 5 (23-058r1), OGC API Tiles,
// part 1 (20-057), and of CQL2 (21-065r2), against the
// real server. Those of writing come last: they change what is there.
func TestConformance(t *testing.T) {
	s := serve(t, testrig.DataFolder(t), "--database-url", testkit.Postgres(t))
	a := &api{s.Base}
	a.document(t, points+"/schema", "application/schema+json") // an empty layer has one, and a fuller one later
	if r := write(t, http.MethodPost, s.Base+"/point", "application/x-ndjson", conformancePoints, "Prefer", "wait=20"); !bytes.Contains(r.Body, []byte(`"created":4`)) {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	seen, classes := map[string]bool{}, map[string]bool{}
	for _, r := range slices.Concat(coreRequirements(), itemsRequirements(), crsRequirements(), definitionRequirements(), encodingRequirements(), filterRequirements(), schemaRequirements(), tileRequirements(), writeRequirements(), lockRequirements()) {
		if seen[r.id] {
			t.Errorf("%s is there twice", r.id)
		}
		seen[r.id], classes[strings.Split(r.id, "/")[2]] = true, true
		t.Run(strings.TrimPrefix(r.id, "/"), func(t *testing.T) { r.show(t, a) })
	}
	classes["optimistic-locking"] = classes["optimistic-locking-etags"] // which is how it is done
	for _, class := range a.document(t, "/conformance", "application/json").list("conformsTo") {
		if _, name, _ := strings.Cut(fmt.Sprint(class), "/conf/"); !classes[name] {
			t.Errorf("%s is declared, and nothing shows it", class)
		}
	}
}

func coreRequirements() []requirement {
	return []requirement{
		{"/req/core/root-success", func(t *testing.T, a *api) {
			d := a.document(t, "/", "application/json")
			for rel, media := range map[string]string{"service-desc": "application/vnd.oai.openapi+json;version=3.0", "conformance": "application/json", "data": "application/json"} {
				d.link(t, rel, media)
			}
		}},
		{"/req/core/api-definition-success", func(t *testing.T, a *api) { a.definition(t) }},
		{"/req/core/conformance-success", func(t *testing.T, a *api) {
			classes := a.document(t, "/conformance", "application/json").list("conformsTo")
			for _, class := range [...]string{"ogcapi-features-1/1.0/conf/core", "ogcapi-features-1/1.0/conf/geojson", "ogcapi-features-1/1.0/conf/html", "ogcapi-features-1/1.0/conf/oas30",
				"ogcapi-features-3/1.0/conf/filter", "ogcapi-features-3/1.0/conf/features-filter", "ogcapi-features-4/1.0/conf/create-replace-delete", "ogcapi-features-5/1.0/conf/schemas", "cql2/1.0/conf/basic-cql2"} {
				if !slices.Contains(classes, any("http://www.opengis.net/spec/"+class)) {
					t.Errorf("%s is not declared", class)
				}
			}
		}},
		{"/req/core/query-param-unknown", refuses("limt=1", "nobody.knows=1")},
		{"/req/core/query-param-invalid", refuses("limit=0", "limit=-1", "limit=many", "bbox=1,2,3", "bbox=1,2,3,x", "bbox=1,9,2,8", "datetime=yesterday", "datetime=2020-01-02T00:00:00Z/2020-01-01T00:00:00Z")},
		{"/req/core/crs84", func(t *testing.T, a *api) {
			p := object(a.page(t, "name=Paris").list("features")[0].(map[string]any))
			if c := p.object("geometry").list("coordinates"); fmt.Sprint(c) != "[2.35 48.85]" {
				t.Errorf("longitude and latitude are %v", c)
			}
		}},
		{"/req/core/fc-md-links", func(t *testing.T, a *api) {
			d := a.document(t, "/collections", "application/json")
			d.link(t, "self", "application/json")
			d.link(t, "alternate", "text/html")
		}},
		{"/req/core/fc-md-items-links", func(t *testing.T, a *api) {
			for _, c := range a.document(t, "/collections", "application/json").list("collections") {
				object(c.(map[string]any)).link(t, "items", geoJSON)
			}
		}},
		{"/req/core/fc-md-extent", func(t *testing.T, a *api) {
			e := a.document(t, points, "application/json").object("extent")
			if fmt.Sprint(e.object("spatial")["bbox"]) != "[[-180 -90 180 90]]" || len(e.object("temporal").list("interval")) != 1 {
				t.Errorf("extent: %v", e)
			}
		}},
		{"/req/core/sfc-md-success", func(t *testing.T, a *api) {
			one, listed := a.document(t, points, "application/json"), object(a.document(t, "/collections", "application/json").list("collections")[0].(map[string]any))
			for _, name := range [...]string{"id", "title", "description", "extent", "itemType", "crs"} {
				if one[name] == nil || fmt.Sprint(one[name]) != fmt.Sprint(listed[name]) {
					t.Errorf("%s is %v, in the list %v", name, one[name], listed[name])
				}
			}
		}},
	}
}

func itemsRequirements() []requirement {
	return []requirement{
		{"/req/core/fc-limit-response-1", func(t *testing.T, a *api) {
			for limit := 1; limit <= 3; limit++ {
				if n := len(a.page(t, fmt.Sprint("limit=", limit)).list("features")); n != limit {
					t.Errorf("limit %d gives %d", limit, n)
				}
			}
		}},
		{"/req/core/fc-bbox-response", matches(map[string]int{"bbox=2,48,3,49": 1, "bbox=2.35,48.85,2.35,48.85": 1, "bbox=-180,-90,180,90": 4, "bbox=170,-20,-170,-10": 2, "bbox=170,-20,190,-10": 2, "bbox=0,40,500,10,50,600": 2, "bbox=-10,-90,10,-80": 0})},
		{"/req/core/fc-time-response", matches(map[string]int{"datetime=2020-01-02T12:00:00Z": 1, "datetime=2020-01-02": 1, "datetime=2020-01-02T00:00:00Z/..": 3, "datetime=../2020-01-02T12:00:00Z": 2, "datetime=/2020-01-01T12:00:00Z": 1, "datetime=2020-01-02T14:00:00%2B02:00": 1})},
		{"/req/core/fc-response", matches(map[string]int{"": 4, "bbox=0,40,10,50&datetime=2020-01-02T00:00:00Z/..": 1, "kind=city&bbox=7,46,8,47": 1})},
		{"/req/core/fc-links", func(t *testing.T, a *api) {
			p := a.page(t, "limit=2")
			p.link(t, "self", geoJSON)
			p.link(t, "alternate", "text/html")
			p.link(t, "next", geoJSON)
		}},
		{"/req/core/fc-numberMatched", func(t *testing.T, a *api) {
			if p := a.page(t, "limit=1"); fmt.Sprint(p["numberMatched"]) != "4" {
				t.Errorf("numberMatched of a page is %v", p["numberMatched"])
			}
		}},
		{"/req/core/fc-numberReturned", func(t *testing.T, a *api) {
			if p := a.page(t, "limit=3"); fmt.Sprint(p["numberReturned"]) != "3" {
				t.Errorf("numberReturned is %v", p["numberReturned"])
			}
		}},
		{"/req/core/f-success", func(t *testing.T, a *api) {
			if f := a.document(t, items+"/a", geoJSON); f["type"] != "Feature" || f["id"] != "a" {
				t.Errorf("%v", f)
			}
			if r := write(t, http.MethodGet, a.base+items+"/nobody", "", ""); r.Status != http.StatusNotFound {
				t.Errorf("what is not there is %d", r.Status)
			}
		}},
		{"/req/core/f-links", func(t *testing.T, a *api) {
			f := a.document(t, items+"/a", geoJSON)
			f.link(t, "self", geoJSON)
			f.link(t, "alternate", "text/html")
			f.link(t, "collection", "application/json")
		}},
		{"/rec/core/etag", func(t *testing.T, a *api) {
			r := write(t, http.MethodGet, a.base+items, "", "")
			if again := write(t, http.MethodGet, a.base+items, "", "", "If-None-Match", r.Header.Get("ETag")); again.Status != http.StatusNotModified {
				t.Errorf("what is known is sent again: %d", again.Status)
			}
		}},
	}
}

// definition is the API's, which must be valid.
func (a *api) definition(t *testing.T) *openapi3.T {
	t.Helper()
	r := write(t, http.MethodGet, a.base+"/api", "", "", "Accept", "application/vnd.oai.openapi+json;version=3.0")
	d, err := openapi3.NewLoader().LoadFromData(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// parameter is one of the items'.
func (a *api) parameter(t *testing.T, name string) *openapi3.Parameter {
	t.Helper()
	p := a.definition(t).Paths.Value(items).Get.Parameters.GetByInAndName("query", name)
	if p == nil || p.Required {
		t.Fatalf("%s is no optional parameter of the items", name)
	}
	return p
}

func crsRequirements() []requirement {
	const other = "http://www.opengis.net/def/crs/EPSG/0/3857"
	return []requirement{
		{"/req/crs/crs-uri", func(t *testing.T, a *api) {
			if list := a.document(t, points, "application/json").list("crs"); len(list) != 1 || list[0] != crs84 {
				t.Errorf("crs is %v", list)
			}
		}},
		{"/req/crs/fc-md-storageCrs-valid-value", func(t *testing.T, a *api) {
			if c := a.document(t, points, "application/json"); c["storageCrs"] != crs84 {
				t.Errorf("storageCrs is %v", c["storageCrs"])
			}
		}},
		{"/req/crs/fc-crs-valid-value", refuses("crs="+other, "crs=CRS84")},
		{"/req/crs/fc-bbox-crs-valid-value", refuses("bbox=1,2,3,4&bbox-crs="+other, "bbox-crs=4326")},
		{"/req/crs/fc-bbox-crs-action", matches(map[string]int{"bbox=2,48,3,49&bbox-crs=" + crs84: 1, "crs=" + crs84: 4})},
		{"/req/crs/ogc-crs-header", func(t *testing.T, a *api) {
			for _, path := range [...]string{items, items + "?crs=" + crs84, items + "/a", items + "/a?crs=" + crs84} {
				if r := write(t, http.MethodGet, a.base+path, "", ""); r.Status != http.StatusOK || r.Header.Get("Content-Crs") != "<"+crs84+">" {
					t.Errorf("%s: %d, Content-Crs is %q", path, r.Status, r.Header.Get("Content-Crs"))
				}
			}
		}},
	}
}

func definitionRequirements() []requirement {
	return []requirement{
		{"/req/core/fc-limit-definition", func(t *testing.T, a *api) {
			if s := a.parameter(t, "limit").Schema.Value; !s.Type.Is("integer") || s.Min == nil || s.Max == nil || s.Default == nil {
				t.Errorf("%+v", s)
			}
		}},
		{"/req/core/fc-bbox-definition", func(t *testing.T, a *api) {
			p := a.parameter(t, "bbox")
			if s := p.Schema.Value; p.Style != "form" || p.Explode == nil || *p.Explode || !s.Type.Is("array") || !s.Items.Value.Type.Is("number") || s.MinItems != 4 || s.MaxItems == nil || *s.MaxItems != 6 {
				t.Errorf("%+v %+v", p, s)
			}
		}},
		{"/req/core/fc-time-definition", func(t *testing.T, a *api) {
			if p := a.parameter(t, "datetime"); p.Style != "form" || p.Explode == nil || *p.Explode || !p.Schema.Value.Type.Is("string") {
				t.Errorf("%+v", p)
			}
		}},
		{"/req/oas30/oas-definition-2", func(t *testing.T, a *api) {
			if d := a.definition(t); !strings.HasPrefix(d.OpenAPI, "3.0.") || len(d.Servers) != 1 || d.Servers[0].URL != a.base {
				t.Errorf("OpenAPI %s at %v", d.OpenAPI, d.Servers)
			}
		}},
		{"/req/oas30/completeness", func(t *testing.T, a *api) {
			d := a.definition(t)
			for _, path := range [...]string{"/", "/conformance", "/collections", points, items, items + "/{id}"} {
				if o := d.Paths.Value(path); o == nil || o.Get == nil || o.Get.Responses.Status(http.StatusOK) == nil {
					t.Errorf("GET %s is not described", path)
				}
			}
		}},
		{"/req/oas30/exception-codes", func(t *testing.T, a *api) {
			d := a.definition(t)
			for path, status := range map[string]int{items: http.StatusBadRequest, items + "/{id}": http.StatusNotFound} {
				if d.Paths.Value(path).Get.Responses.Status(status) == nil {
					t.Errorf("%s does not say that it may answer %d", path, status)
				}
			}
		}},
	}
}

func encodingRequirements() []requirement {
	return []requirement{
		{"/req/geojson/definition", func(t *testing.T, a *api) {
			for _, path := range [...]string{items, items + "/a", items + "?f=json"} {
				if r := write(t, http.MethodGet, a.base+path, "", ""); r.Header.Get("Content-Type") != geoJSON {
					t.Errorf("%s is %s", path, r.Header.Get("Content-Type"))
				}
			}
		}},
		{"/req/geojson/content", func(t *testing.T, a *api) {
			p := a.page(t, "")
			for _, f := range p.list("features") {
				if f := object(f.(map[string]any)); p["type"] != "FeatureCollection" || f["type"] != "Feature" || f["id"] == nil || f.object("geometry")["type"] != "Point" || f.object("properties") == nil {
					t.Errorf("%v", f)
				}
			}
		}},
		{"/req/html/definition", func(t *testing.T, a *api) {
			for _, path := range [...]string{"/conformance", "/collections", points, items, items + "/a"} {
				for _, r := range [...]testrig.Answer{write(t, http.MethodGet, a.base+path, "", "", "Accept", "text/html"), write(t, http.MethodGet, a.base+path+"?f=html", "", "")} {
					if r.Status != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
						t.Errorf("%s: %d %s", path, r.Status, r.Header.Get("Content-Type"))
					}
				}
			}
		}},
		{"/req/html/content", func(t *testing.T, a *api) {
			for path, parts := range map[string][]string{items: {"Paris", "Bern", "Fiji", "Apia"}, items + "/b": {"Bern", "540", "city"}, points: {items, "Points"}} {
				r := write(t, http.MethodGet, a.base+path+"?f=html", "", "")
				for _, part := range parts {
					if !bytes.Contains(r.Body, []byte(part)) {
						t.Errorf("%s does not show %s", path, part)
					}
				}
			}
		}},
	}
}

// create sends a point, and returns where it is and its tag.
func (a *api) create(t *testing.T) (location, tag string) {
	t.Helper()
	r := write(t, http.MethodPost, a.base+items, geoJSON, feature("new"))
	if location = r.Header.Get("Location"); r.Status != http.StatusCreated || !strings.HasPrefix(location, a.base+items+"/") {
		t.Fatalf("%d %s %s", r.Status, location, r.Body)
	}
	return location, testTag(t, location)
}

func feature(name string) string {
	return fmt.Sprintf(`{"type":"Feature","geometry":{"type":"Point","coordinates":[5,45]},"properties":{"name":%q}}`, name)
}
