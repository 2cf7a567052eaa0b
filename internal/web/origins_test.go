package web

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"cairn/internal/auth"
)

func TestParseOrigins(t *testing.T) {
	for _, wrong := range []string{"example.org", "https://example.org/", "https://", "", "null"} {
		if _, err := ParseOrigins([]string{wrong}); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
	if o, err := ParseOrigins([]string{"https://maps.example:8443", "*"}); err != nil || len(o) != 2 {
		t.Errorf("%v, %v", o, err)
	}
}

// An asked is a request as a browser would send it for a page, to a server with a
// path that reads and writes, and one that writes only, by GET too.
type asked struct {
	method, path string
	fields       []string
}

func originsServer(t *testing.T, allowed ...string) func(asked) (status int, head func(string) string) {
	t.Helper()
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Origins: allowed}, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.listener.Close() })
	done := func(c *fiber.Ctx) error { return c.SendString("done\n") }
	s.Mount(Role{Name: "some", Ready: func() error { return nil }, Routes: []Route{
		{Method: http.MethodGet, Path: "/items", Scope: auth.Read, Handler: done},
		{Method: http.MethodPost, Path: "/items", Scope: auth.Write, Handler: done},
		{Method: http.MethodPatch, Path: "/items", Scope: auth.Edit, Handler: done},
		{Method: http.MethodGet, Path: "/fix", Scope: auth.Write, Handler: done},
		{Method: http.MethodPost, Path: "/fix", Scope: auth.Write, Handler: done},
	}})
	return func(a asked) (int, func(string) string) {
		var c fasthttp.RequestCtx
		c.Init(&fasthttp.Request{}, nil, nil)
		c.Request.Header.SetMethod(a.method)
		c.Request.SetRequestURI(a.path)
		c.Request.Header.SetHost("cairn.example")
		for i := 0; i < len(a.fields); i += 2 {
			c.Request.Header.Set(a.fields[i], a.fields[i+1])
		}
		(*s.handler.Load())(&c)
		return c.Response.StatusCode(), func(name string) string { return string(c.Response.Header.Peek(name)) }
	}
}

// What a browser sends for any page without asking first may only read, unless the
// page's origin may write. What it asks for first is told by OPTIONS.
func TestUnaskedWrites(t *testing.T) {
	const evil, maps = "https://evil.example", "https://maps.example"
	types := map[string]bool{ // by whether a browser sends it unasked
		"": true, "text/plain": true, "text/plain; charset=utf-8": true, "multipart/form-data; boundary=X": true, "TEXT/PLAIN;;": true,
		"application/x-www-form-urlencoded": true, "application/json": false, "text/csv": false, "application/geo+json": false,
	}
	pages := map[string]struct {
		fields []string
		writes bool
	}{
		"no browser":                    {nil, true},
		"another origin":                {[]string{"Origin", evil}, false},
		"a file":                        {[]string{"Origin", "null"}, false},
		"an allowed one":                {[]string{"Origin", maps, "Sec-Fetch-Site", "cross-site"}, true},
		"its own":                       {[]string{"Origin", "http://cairn.example"}, true},
		"its own behind a proxy":        {[]string{"Origin", "https://public.example", "Sec-Fetch-Site", "same-origin"}, true},
		"typed in":                      {[]string{"Sec-Fetch-Site", "none"}, true},
		"an image of another":           {[]string{"Sec-Fetch-Site", "cross-site"}, false},
		"another host of the site":      {[]string{"Origin", "https://other.cairn.example", "Sec-Fetch-Site", "same-site"}, false},
		"one that claims to be our own": {[]string{"Origin", "http://cairn.example", "Sec-Fetch-Site", "cross-site"}, false},
	}
	ask := originsServer(t, maps)
	for name, page := range pages {
		t.Run(name, func(t *testing.T) {
			for media, unasked := range types {
				for _, path := range []string{"/items", "/fix"} {
					fields := append([]string{}, page.fields...)
					if media != "" {
						fields = append(fields, "Content-Type", media)
					}
					status, _ := ask(asked{http.MethodPost, path, fields})
					want := http.StatusOK
					if unasked && !page.writes {
						want = http.StatusForbidden
					}
					if status != want {
						t.Errorf("POST %s as %q: %d, want %d", path, media, status, want)
					}
				}
			}
			status, _ := ask(asked{http.MethodGet, "/fix", page.fields})
			if want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[page.writes]; status != want {
				t.Errorf("GET that writes: %d, want %d", status, want)
			}
			if status, head := ask(asked{http.MethodGet, "/items", page.fields}); status != http.StatusOK || head("Access-Control-Allow-Origin") != "*" {
				t.Errorf("GET that reads: %d", status)
			}
		})
	}
}

// A browser is told which methods a page may use.
func TestPreflight(t *testing.T) {
	const evil, maps = "https://evil.example", "https://Maps.example"
	const all, reading = "GET, HEAD, POST, PATCH, OPTIONS", "GET, HEAD, OPTIONS"
	for name, tt := range map[string]struct {
		allowed                   []string
		path, origin              string
		allow, allowed2, exposeTo string
	}{
		"nobody may write":      {nil, "/items", evil, all, reading, "*"},
		"nobody asks":           {nil, "/items", "", all, reading, "*"},
		"only writes":           {nil, "/fix", evil, "GET, HEAD, POST, OPTIONS", "", ""},
		"another":               {[]string{"https://maps.example"}, "/items", evil, all, reading, "*"},
		"allowed":               {[]string{"https://maps.example"}, "/items", maps, all, all, maps},
		"allowed, only writes":  {[]string{"https://maps.example"}, "/fix", maps, "GET, HEAD, POST, OPTIONS", "GET, HEAD, POST, OPTIONS", maps},
		"all":                   {[]string{"*"}, "/items", evil, all, all, evil},
		"all, but nobody asked": {[]string{"*"}, "/items", "", all, reading, "*"},
	} {
		t.Run(name, func(t *testing.T) {
			ask := originsServer(t, tt.allowed...)
			var fields []string
			if tt.origin != "" {
				fields = []string{"Origin", tt.origin}
			}
			status, head := ask(asked{http.MethodOptions, tt.path, fields})
			if status != http.StatusNoContent || head("Allow") != tt.allow || head("Access-Control-Allow-Methods") != tt.allowed2 || head("Access-Control-Allow-Origin") != tt.exposeTo {
				t.Errorf("%d, Allow %q, methods %q, origin %q", status, head("Allow"), head("Access-Control-Allow-Methods"), head("Access-Control-Allow-Origin"))
			}
			if !strings.Contains(head("Vary"), "Origin") {
				t.Errorf("Vary: %q", head("Vary"))
			}
			if patch := head("Accept-Patch"); (patch != "") != strings.Contains(tt.allow, "PATCH") {
				t.Errorf("Accept-Patch: %q", patch)
			}
			// What was allowed is marked in the answer itself too.
			if _, head := ask(asked{http.MethodPost, tt.path, append(fields, "Content-Type", "application/json")}); strings.Contains(tt.allowed2, "POST") != (head("Access-Control-Allow-Origin") == tt.origin && tt.origin != "") {
				t.Errorf("POST: origin %q", head("Access-Control-Allow-Origin"))
			}
		})
	}
}
