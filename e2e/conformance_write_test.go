package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"cairn/internal/testrig"
)

// named reports whether the point at a URL has this name now.
func named(t *testing.T, location, name string) {
	t.Helper()
	var f testrig.Feature
	if testrig.MustGet(t, location, &f); f.Properties["name"] != name {
		t.Errorf("%s is %v, want %s", location, f.Properties, name)
	}
}

func expect(t *testing.T, a testrig.Answer, status int) testrig.Answer {
	t.Helper()
	if a.Status != status {
		t.Errorf("%d %s, want %d", a.Status, a.Body, status)
	}
	return a
}

const renamed = `{"properties":{"name":"patched"}}`

func writeRequirements() []requirement {
	return []requirement{
		{"/req/create-replace-delete/options-response", func(t *testing.T, a *api) {
			for path, methods := range map[string][]string{items: {"GET", "POST"}, items + "/a": {"GET", "PUT", "PATCH", "DELETE"}} {
				allow := strings.Split(write(t, http.MethodOptions, a.base+path, "", "").Header.Get("Allow"), ", ")
				for _, m := range methods {
					if !slices.Contains(allow, m) {
						t.Errorf("%s allows %v", path, allow)
					}
				}
			}
		}},
		{"/req/create-replace-delete/post-response", func(t *testing.T, a *api) {
			location, _ := a.create(t)
			named(t, location, "new")
		}},
		{"/req/create-replace-delete/post-content-type", func(t *testing.T, a *api) {
			expect(t, write(t, http.MethodPost, a.base+items, "text/plain", feature("x")), http.StatusUnsupportedMediaType)
			expect(t, write(t, http.MethodPost, a.base+items, geoJSON, `{"type":"Feature"`), http.StatusBadRequest)
		}},
		{"/req/features/content-crs", func(t *testing.T, a *api) {
			location, _ := a.create(t)
			for crs, status := range map[string]int{"<" + crs84 + ">": http.StatusOK, "<http://www.opengis.net/def/crs/EPSG/0/4326>": http.StatusBadRequest} {
				expect(t, write(t, http.MethodPut, location, geoJSON, feature("placed"), "Content-Crs", crs), status)
			}
		}},
		{"/req/create-replace-delete/put-response", func(t *testing.T, a *api) {
			location, _ := a.create(t)
			expect(t, write(t, http.MethodPut, location, geoJSON, feature("replaced")), http.StatusOK)
			named(t, location, "replaced")
		}},
		{"/req/create-replace-delete/put-rid-exception", func(t *testing.T, a *api) {
			expect(t, write(t, http.MethodPut, a.base+items+"/nobody", geoJSON, feature("x")), http.StatusNotFound)
		}},
		{"/req/create-replace-delete/delete-response", func(t *testing.T, a *api) {
			location, _ := a.create(t)
			expect(t, write(t, http.MethodDelete, location, "", ""), http.StatusNoContent)
			expect(t, write(t, http.MethodGet, location, "", ""), http.StatusGone)
			expect(t, write(t, http.MethodDelete, a.base+items+"/nobody", "", ""), http.StatusNotFound)
		}},
		{"/req/update/patch-response", func(t *testing.T, a *api) {
			location, _ := a.create(t)
			expect(t, write(t, http.MethodPatch, location, mergePatch, renamed), http.StatusOK)
			named(t, location, "patched")
		}},
		{"/req/update/patch-content-type", func(t *testing.T, a *api) {
			location, _ := a.create(t)
			expect(t, write(t, http.MethodPatch, location, "text/plain", renamed), http.StatusUnsupportedMediaType)
			named(t, location, "new")
		}},
		{"/req/update/accept-patch", func(t *testing.T, a *api) {
			if r := write(t, http.MethodOptions, a.base+items+"/a", "", ""); r.Header.Get("Accept-Patch") != mergePatch {
				t.Errorf("Accept-Patch is %q", r.Header.Get("Accept-Patch"))
			}
		}},
	}
}

func lockRequirements() []requirement {
	const stale = `"1"`
	// A change is taken with the tag that the point has, and refused with another.
	evaluated := func(method, media, body string, status int) func(t *testing.T, a *api) {
		return func(t *testing.T, a *api) {
			location, tag := a.create(t)
			expect(t, write(t, method, location, media, body, "If-Match", stale), http.StatusPreconditionFailed)
			named(t, location, "new")
			expect(t, write(t, method, location, media, body, "If-Match", tag), status)
		}
	}
	// The answer to a change has the tag that the point has then.
	tagged := func(method, media, body string) func(t *testing.T, a *api) {
		return func(t *testing.T, a *api) {
			location, before := a.create(t)
			r := write(t, method, location, media, body)
			if tag := r.Header.Get("ETag"); tag == "" || tag == before || tag != testTag(t, location) {
				t.Errorf("the tag is %q after %q; the point's is %q", tag, before, testTag(t, location))
			}
		}
	}
	return []requirement{
		{"/req/optimistic-locking-etags/get-etag-response", func(t *testing.T, a *api) {
			location, tag := a.create(t)
			expect(t, write(t, http.MethodGet, location, "", "", "If-None-Match", tag), http.StatusNotModified)
		}},
		{"/req/optimistic-locking-etags/put-etag-response", tagged(http.MethodPut, geoJSON, feature("replaced"))},
		{"/req/optimistic-locking-etags/patch-etag-response", tagged(http.MethodPatch, mergePatch, renamed)},
		{"/req/optimistic-locking-etags/put-ifmatch-eval", evaluated(http.MethodPut, geoJSON, feature("replaced"), http.StatusOK)},
		{"/req/optimistic-locking-etags/patch-ifmatch-eval", evaluated(http.MethodPatch, mergePatch, renamed, http.StatusOK)},
		{"/req/optimistic-locking-etags/delete-ifmatch-eval", evaluated(http.MethodDelete, "", "", http.StatusNoContent)},
	}
}
