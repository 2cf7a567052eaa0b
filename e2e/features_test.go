package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// write sends a request as a program that edits does.
func write(t testing.TB, method, url, media, body string, header ...string) testrig.Answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if media != "" {
		request.Header.Set("Content-Type", media)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	a, err := testrig.Send(request)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const (
	geoJSON    = "application/geo+json"
	mergePatch = "application/merge-patch+json"
)

// edit does what QGIS does to a layer: it looks at what is allowed, adds a point, reads
// it at once by the id at the end of Location, moves it, changes an attribute, replaces
// and deletes it. The paths are those that are read from.
func edit(t *testing.T, base string) {
	t.Helper()
	items := base + "/collections/points/items"
	editAllowed(t, items)
	location := editAdd(t, items)
	editChange(t, location)
	editReplace(t, location, strings.TrimPrefix(location, items+"/"))
	editRefused(t, items)
	if a := write(t, http.MethodDelete, location, "", ""); a.Status != http.StatusNoContent {
		t.Errorf("DELETE: %d %s", a.Status, a.Body)
	}
	if a := write(t, http.MethodGet, location, "", ""); a.Status != http.StatusGone {
		t.Errorf("deleted: %d %s", a.Status, a.Body)
	}
}

// editAllowed asks what may be done.
func editAllowed(t *testing.T, items string) {
	t.Helper()
	for path, methods := range map[string][]string{items: {"POST"}, items + "/unknown_id": {"PUT", "PATCH", "DELETE"}} {
		allow := strings.Split(write(t, http.MethodOptions, path, "", "").Header.Get("Allow"), ", ")
		for _, m := range methods {
			if !slices.Contains(allow, m) {
				t.Errorf("OPTIONS %s allows %v", path, allow)
			}
		}
	}
}

// editAdd adds a point and says where it is.
func editAdd(t *testing.T, items string) (location string) {
	t.Helper()
	a := write(t, http.MethodPost, items, geoJSON, `{"type":"Feature","geometry":{"type":"Point","coordinates":[2.35,48.85]},
		"properties":{"name":"Paris","n":1,"id":null,"time":"2026-01-02T03:04:05Z","received":null,"position":null,"revision":null}}`)
	location = a.Header.Get("Location")
	if a.Status != http.StatusCreated || !strings.HasPrefix(location, items+"/") || strings.Contains(location, "?") {
		t.Fatalf("POST: %d %s %s", a.Status, location, a.Body)
	}
	var f testrig.Feature
	testrig.MustGet(t, location, &f)
	if f.Properties["name"] != "Paris" || len(f.Properties) != 2 || f.Time == nil || f.Position == 0 {
		t.Errorf("created: %+v", f)
	}
	return location
}

// editChange moves the point and changes an attribute of it, also under a stale tag.
func editChange(t *testing.T, location string) {
	t.Helper()
	tag := testTag(t, location)
	if a := write(t, http.MethodPatch, location, mergePatch, `{"geometry":{"type":"Point","coordinates":[3,49]}}`, "If-Match", tag); a.Status != http.StatusOK {
		t.Errorf("PATCH: %d %s", a.Status, a.Body)
	}
	if a := write(t, http.MethodPatch, location, mergePatch, `{"properties":{"n":2}}`, "If-Match", tag); a.Status != http.StatusPreconditionFailed {
		t.Errorf("PATCH with a stale tag: %d %s", a.Status, a.Body)
	}
	if a := write(t, http.MethodPatch, location, mergePatch, `{"properties":{"n":2}}`); a.Status != http.StatusOK {
		t.Errorf("PATCH: %d %s", a.Status, a.Body)
	}
	var f testrig.Feature
	testrig.MustGet(t, location, &f)
	if f.Geometry.Coordinates[0] != "3" || f.Properties["n"].(interface{ String() string }).String() != "2" || f.Properties["name"] != "Paris" || f.Revision <= f.Position {
		t.Errorf("changed: %+v", f)
	}
	for n := range 25 { // whoever was told that it is done sees it at once
		a := write(t, http.MethodPatch, location, mergePatch, fmt.Sprintf(`{"properties":{"n":%d}}`, n))
		if tag := testTag(t, location); a.Status != http.StatusOK || a.Header.Get("ETag") != tag {
			t.Fatalf("PATCH %d: %d, the tag is %s, and then %s", n, a.Status, a.Header.Get("ETag"), tag)
		}
	}
}

// editReplace replaces and changes the point in reference systems that are taken and
// that are not.
func editReplace(t *testing.T, location, id string) {
	t.Helper()
	const replacement = `{"type":"Feature","geometry":{"type":"Point","coordinates":[4,50]},"properties":{"name":"Elsewhere","id":"%[1]s","position":1,"received":"2020-01-01T00:00:00Z"},"id":"%[1]s"}`
	for crs, want := range map[string]int{"http://www.opengis.net/def/crs/EPSG/0/4326": http.StatusBadRequest, "<http://www.opengis.net/def/crs/EPSG/0/3857>": http.StatusBadRequest, "<" + crs84 + ">": http.StatusOK, crs84: http.StatusOK} {
		for method, media := range map[string]string{http.MethodPut: geoJSON, http.MethodPatch: mergePatch} {
			body := fmt.Sprintf(replacement, id)
			if method == http.MethodPatch {
				body = `{"properties":{"name":"Elsewhere"}}`
			}
			if a := write(t, method, location, media, body, "Content-Crs", crs); a.Status != want {
				t.Errorf("%s in %s: %d %s", method, crs, a.Status, a.Body)
			}
		}
	}
	var f testrig.Feature
	if testrig.MustGet(t, location, &f); f.Properties["name"] != "Elsewhere" || len(f.Properties) != 1 {
		t.Errorf("replaced: %+v", f)
	}
}

// editRefused tries what is no edit.
func editRefused(t *testing.T, items string) {
	t.Helper()
	if a := write(t, http.MethodPut, items+"/nobody", geoJSON, `{"type":"Feature","geometry":{"type":"Point","coordinates":[4,50]},"properties":{}}`); a.Status != http.StatusNotFound {
		t.Errorf("PUT of what is not there: %d %s", a.Status, a.Body)
	}
	if a := write(t, http.MethodPost, items, "text/plain", "x"); a.Status != http.StatusUnsupportedMediaType {
		t.Errorf("POST of text: %d %s", a.Status, a.Body)
	}
}

func testTag(t *testing.T, url string) string {
	t.Helper()
	tag := write(t, http.MethodGet, url, "", "").Header.Get("ETag")
	if tag == "" {
		t.Errorf("%s has no ETag", url)
	}
	return tag
}

func TestEditInOneProcess(t *testing.T) {
	s := serve(t, testrig.DataFolder(t), "--database-url", testkit.Postgres(t))
	edit(t, s.Base)

	// The definition has every route of every role, each with a description. `cairn
	// openapi` writes the same without a server.
	var api, written struct {
		Paths   map[string]map[string]struct{ Summary string }
		Servers []struct{ URL string }
	}
	testrig.MustGet(t, s.Base+"/api", &api)
	r, code := run(t, "openapi", "--url", s.Base)
	if err := json.Unmarshal([]byte(r.Stdout.String()), &written); code != 0 || err != nil || !reflect.DeepEqual(api, written) {
		t.Errorf("cairn openapi: %d, %v: it is not what /api shows:\n%v\n%v", code, err, written, api)
	}
	for _, path := range []string{"/point", "/points", "/stream", "/collections/points/items", "/collections/points/items/{id}", "/readyz"} {
		if api.Paths[path] == nil {
			t.Errorf("%s is not in the API's definition", path)
		}
	}
	for path, methods := range api.Paths {
		for method, o := range methods {
			if o.Summary == "" || o.Summary == "not described" {
				t.Errorf("%s %s is served and not described in query/ogc/openapi.json", method, path)
			}
		}
	}
}

// Where the roles are apart, the query role passes writes on.
func TestEditThroughQuery(t *testing.T) {
	f := newFleet(t, testkit.Postgres(t))
	ingest := f.commands["ingest"].Args
	address := ingest[slices.Index(ingest, "--listen")+1]
	query := f.commands["query"]
	query.Args = append(slices.Clone(query.Args), "--ingest-url", (&url.URL{Scheme: "http", Host: address}).String())
	f.commands["query"] = query
	for _, role := range []string{"ingest", "projector", "query"} {
		f.start(role)
	}
	f.ready()
	edit(t, f.base("query"))
}

// Behind a prefix, or under a public URL, links stay there.
func TestPublicURL(t *testing.T) {
	s := serve(t, testrig.DataFolder(t), "--database-url", testkit.Postgres(t), "--public-url", "https://example.org/maps/")
	a := write(t, http.MethodPost, s.Base+"/collections/points/items", geoJSON, `{"type":"Feature","id":"a b","geometry":{"type":"Point","coordinates":[1,2]},"properties":{}}`)
	if want := "https://example.org/maps/collections/points/items/a%20b"; a.Header.Get("Location") != want {
		t.Errorf("Location is %s, want %s", a.Header.Get("Location"), want)
	}
	a = write(t, http.MethodPost, s.Base+"/point", geoJSON, `{"type":"Feature","id":"c","geometry":{"type":"Point","coordinates":[1,2]},"properties":{}}`)
	if !strings.HasPrefix(a.Header.Get("Location"), "/maps/points/c?min_position=") {
		t.Errorf("Location is %s", a.Header.Get("Location"))
	}
	testrig.MustGet(t, s.Base+strings.TrimPrefix(a.Header.Get("Location"), "/maps"), &testrig.Feature{})
	var page testrig.Page
	testrig.MustGet(t, s.Base+"/points?limit=1", &page)
	if !strings.HasPrefix(page.Next(), "https://example.org/maps/points?limit=1&cursor=") {
		t.Errorf("next is %s", page.Next())
	}
	if p, code := run(t, "serve", "--public-url", "example.org"); code == 0 {
		t.Error("a public URL that is none was taken")
	} else {
		p.Complains("example.org")
	}
}
