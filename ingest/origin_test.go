package ingest

import (
	"net/http"
	"testing"
)

// Pages of allowed origins may ask and write; a form of another, which a browser
// sends without asking, is refused.
func TestOrigins(t *testing.T) {
	for _, wrong := range []string{"example.org", "https://example.org/", "https://", ""} {
		if _, err := parseOrigins([]string{wrong}); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
	const form = "--XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.csv\"\r\n\r\nlat,lon\n1,2\n\r\n--XX--\r\n"
	const formType = "multipart/form-data; boundary=XX"
	for name, test := range map[string]struct {
		allowed         []string
		origin          string
		allow           string
		json, formPosts int
	}{
		"none":         {nil, "https://evil.example", "", http.StatusAccepted, http.StatusForbidden},
		"another":      {[]string{"https://maps.example"}, "https://evil.example", "", http.StatusAccepted, http.StatusForbidden},
		"null":         {nil, "null", "", http.StatusAccepted, http.StatusForbidden},
		"allowed":      {[]string{"https://maps.example"}, "https://maps.example", "https://maps.example", http.StatusAccepted, http.StatusAccepted},
		"all":          {[]string{"*"}, "https://any.example", "https://any.example", http.StatusAccepted, http.StatusAccepted},
		"no browser":   {nil, "", "", http.StatusAccepted, http.StatusAccepted},
		"its own page": {nil, "http://HOST", "", http.StatusAccepted, http.StatusAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			allowed, err := parseOrigins(test.allowed)
			if err != nil {
				t.Fatal(err)
			}
			address := serveWith(t, &fakeQueue{}, testLimits(), func(h *handler) { h.origins = allowed })
			var headers []string
			if test.origin == "http://HOST" {
				test.origin = "http://" + address
			}
			if test.origin != "" {
				headers = []string{"Origin", test.origin}
			}
			a := post(t, address, "/point", "application/json", paris, headers...)
			a.want(t, test.json)
			if got := a.header.Get("Access-Control-Allow-Origin"); got != test.allow {
				t.Errorf("allowed is %q", got)
			}
			post(t, address, "/point", formType, form, headers...).want(t, test.formPosts)

			r, err := http.NewRequest(http.MethodOptions, "http://"+address+"/point", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Origin", test.origin)
			r.Header.Set("Access-Control-Request-Method", "POST")
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if got := response.Header.Get("Access-Control-Allow-Origin"); response.StatusCode != http.StatusNoContent || got != test.allow {
				t.Errorf("preflight %d, allowed %q", response.StatusCode, got)
			}
			if got := response.Header.Get("Access-Control-Allow-Methods"); (got != "") != (test.allow != "") {
				t.Errorf("methods %q", got)
			}
		})
	}
}
