package query

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/getkin/kin-openapi/openapi3"

	"cairn/query/ogc"
)

// with sends a request with header fields.
func (f *fixture) with(method, path string, header ...string) reply {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.base+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		f.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, body.Bytes()}
}

type linked struct{ Links []ogc.Link }

func linksOf(t *testing.T, body []byte) map[string][]ogc.Link {
	t.Helper()
	var d linked
	if err := json.Unmarshal(body, &d); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	out := map[string][]ogc.Link{}
	for _, l := range d.Links {
		out[l.Rel] = append(out[l.Rel], l)
	}
	return out
}

var documents = []string{"/", "/api", "/conformance", "/collections", "/collections/points", "/collections/points/schema", "/collections/points/queryables", "/collections/points/sortables"}

// OGC API Features, part 1, sections 7.2 to 7.4 and 7.13, 7.14.
func TestLandingPage(t *testing.T) {
	f := newFixture(t)
	r := f.get("/")
	links := linksOf(t, r.body)
	for rel, media := range map[string]string{"self": "application/json", "alternate": "text/html", "service-desc": "application/vnd.oai.openapi+json;version=3.0",
		"service-doc": "text/html", "conformance": "application/json", "data": "application/json"} {
		if len(links[rel]) == 0 || links[rel][0].Type != media || !strings.HasPrefix(links[rel][0].Href, f.base+"/") {
			t.Errorf("rel %s: %v", rel, links[rel])
			continue
		}
		u, err := url.Parse(links[rel][0].Href)
		if err != nil {
			t.Fatal(err)
		}
		if r := f.get(u.RequestURI()); r.status != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), media) {
			t.Errorf("rel %s: %d %s", rel, r.status, r.header.Get("Content-Type"))
		}
	}
	var conformance struct{ ConformsTo []string }
	if err := json.Unmarshal(f.get("/conformance").body, &conformance); err != nil || !slices.Contains(conformance.ConformsTo, "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core") {
		t.Error(err, conformance)
	}
}

func TestCollection(t *testing.T) {
	f := newFixture(t)
	var list struct{ Collections []json.RawMessage }
	if err := json.Unmarshal(f.get("/collections").body, &list); err != nil || len(list.Collections) != 1 {
		t.Fatal(err, list)
	}
	type collection struct {
		ID, Title, Description string
		Extent                 any
	}
	var listed, alone collection
	body := f.get("/collections/points").body
	if json.Unmarshal(list.Collections[0], &listed) != nil || json.Unmarshal(body, &alone) != nil || alone.ID != "points" ||
		listed.Title != alone.Title || listed.Description != alone.Description {
		t.Errorf("%v and %v", listed, alone)
	}
	for _, links := range []map[string][]ogc.Link{linksOf(t, list.Collections[0]), linksOf(t, body)} {
		items := links["items"]
		if len(items) == 0 || items[0].Href != f.base+"/collections/points/items" || items[0].Type != "application/geo+json" {
			t.Errorf("items: %v", items)
		}
		if l := links["http://www.opengis.net/def/rel/ogc/1.0/schema"]; len(l) != 1 || l[0].Href != f.base+"/collections/points/schema" {
			t.Errorf("schema: %v", l)
		}
	}
	if r := f.get("/collections/lines"); r.status != http.StatusNotFound {
		t.Errorf("a collection that is none: %d", r.status)
	}
}

// Parts 3 and 5: schemas with what Cairn knows, and its roles.
func TestSchemas(t *testing.T) {
	f := newFixture(t)
	for _, path := range documents[5:] {
		r := f.get(path)
		var schema struct {
			Schema     string `json:"$schema"`
			ID         string `json:"$id"`
			Type       string
			Properties map[string]map[string]any
		}
		if err := json.Unmarshal(r.body, &schema); err != nil {
			t.Fatal(err)
		}
		if r.header.Get("Content-Type") != "application/schema+json" || schema.ID != f.base+path || schema.Type != "object" || schema.Schema == "" {
			t.Errorf("%s: %s %+v", path, r.header.Get("Content-Type"), schema)
		}
		if schema.Properties["time"]["format"] != "date-time" {
			t.Errorf("%s: time is %v", path, schema.Properties["time"])
		}
		switch {
		case strings.HasSuffix(path, "/schema"):
			if schema.Properties["received"]["readOnly"] != true || schema.Properties["geometry"]["x-ogc-role"] != "primary-geometry" || schema.Properties["id"]["x-ogc-role"] != "id" {
				t.Errorf("%s: %v", path, schema.Properties)
			}
		case strings.HasSuffix(path, "/queryables"):
			if schema.Properties["geometry"]["format"] != "geometry-point" || schema.Properties["name"]["type"] != "string" {
				t.Errorf("%s: %v", path, schema.Properties)
			}
		}
	}
}

func TestDocumentForms(t *testing.T) {
	f := newFixture(t)
	for _, path := range documents {
		t.Run(path, func(t *testing.T) {
			for _, tt := range [...]struct{ query, accept, media string }{
				{"", "", "json"}, {"", "*/*", "json"}, {"", "text/html,application/xhtml+xml,*/*;q=0.8", "html"},
				{"?f=json", "text/html", "json"}, {"?f=html", "application/json", "html"},
			} {
				r := f.with(http.MethodGet, path+tt.query, "Accept", tt.accept)
				if r.status != http.StatusOK || !strings.Contains(r.header.Get("Content-Type"), tt.media) || !strings.Contains(r.header.Get("Vary"), "Accept") {
					t.Errorf("%s with Accept %q: %d %s", tt.query, tt.accept, r.status, r.header)
				}
				if tt.media == "html" && (!bytes.Contains(r.body, []byte(`<html lang="en">`)) || bytes.Contains(r.body, []byte("ZgotmplZ"))) {
					t.Errorf("%s", r.body)
				}
			}
			if r := f.get(path + "?f=xml"); r.status != http.StatusBadRequest {
				t.Errorf("f=xml: %d", r.status)
			}
			if r := f.get(path + "?limit=5"); r.status != http.StatusBadRequest {
				t.Errorf("an unknown parameter: %d", r.status)
			}
			if r := f.with(http.MethodHead, path); r.status != http.StatusOK || len(r.body) > 0 {
				t.Errorf("HEAD: %d", r.status)
			}
			if r := f.with(http.MethodOptions, path); r.status != http.StatusNoContent || !strings.Contains(r.header.Get("Allow"), "GET") {
				t.Errorf("OPTIONS: %d %s", r.status, r.header.Get("Allow"))
			}
		})
	}
}

// Links are those under which the client sees the server.
func TestLinksBehindAProxy(t *testing.T) {
	f := newFixture(t)
	for _, path := range documents[:5] {
		r := f.with(http.MethodGet, path, "X-Forwarded-Proto", "https", "X-Forwarded-Host", "maps.example.org", "X-Forwarded-Prefix", "/geo")
		if bytes.Contains(r.body, []byte(f.base)) || !bytes.Contains(r.body, []byte("https://maps.example.org/geo")) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	f := newFixture(t)
	r := f.get("/api")
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = false // whole in itself
	d, err := loader.LoadFromData(r.body)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	if len(d.Servers) != 1 || d.Servers[0].URL != f.base {
		t.Errorf("servers: %v", d.Servers)
	}
	described, err := ogc.Described()
	if err != nil {
		t.Fatal(err)
	}
	// Programs read it as YAML, which has no control characters, quoted or not (1.2, section 5.1).
	if i := bytes.IndexFunc(r.body, func(c rune) bool { return unicode.IsControl(c) }); i >= 0 {
		t.Errorf("%q is no text of YAML", r.body[i:i+10])
	}
	for _, o := range f.server.Operations() {
		if !slices.Contains(described, ogc.Operation(o).String()) {
			t.Errorf("%s is served and not described in query/ogc/openapi.json", ogc.Operation(o))
		}
		item := d.Paths.Value(o.Path)
		if item == nil || item.GetOperation(o.Method) == nil {
			t.Errorf("%s is not in the definition", ogc.Operation(o))
		} else if o := item.GetOperation(o.Method); len(o.Parameters) > 0 && o.Responses.Value("400") == nil {
			t.Errorf("%s takes parameters and refuses none", o.OperationID)
		}
	}
}
