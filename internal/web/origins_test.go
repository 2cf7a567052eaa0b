package web

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net"
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

// A name that anybody may make mean this machine gives a page no right to write: it is of
// this server to the browser alone. Programs, names that are this server's, and pages
// behind proxies write on.
func TestReboundPages(t *testing.T) {
	const evil = "evil.example:18080"
	from := func(host, origin string, more ...string) []string {
		return append([]string{"Host: " + host, "Origin: " + origin}, more...)
	}
	nobody := auth.New(auth.Config{Keys: true, Log: slog.New(slog.DiscardHandler)})
	loopback, err := ParseProxies([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg    Config
		public string
		method string // POST
		fields []string
		status int
	}{
		"another name":                        {fields: from(evil, "http://"+evil, "Sec-Fetch-Site: same-origin"), status: 403},
		"without Sec-Fetch-Site":              {fields: from(evil, "http://"+evil), status: 403},
		"without an origin":                   {fields: from(evil, "null"), status: 403},
		"one that says it is a proxy":         {fields: from(evil, "http://"+evil, "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Host: localhost", "Forwarded: for=203.0.113.7;host=localhost"), status: 403},
		"change":                              {method: "PATCH", fields: from(evil, "http://"+evil), status: 403},
		"a device's GET, by a browser":        {method: "GET", fields: []string{"Host: " + evil, "User-Agent: Mozilla/5.0 (X11; Linux x86_64)"}, status: 403},
		"a device's GET, of a page":           {method: "GET", fields: []string{"Host: " + evil, "Referer: http://" + evil + "/"}, status: 403},
		"a device's GET":                      {method: "GET", fields: []string{"Host: cairn.example", "User-Agent: okhttp/4.12"}, status: 200},
		"a program":                           {fields: []string{"Host: cairn.example", "User-Agent: curl/8.5.0"}, status: 200},
		"localhost":                           {fields: from("localhost:18080", "http://localhost:18080", "Sec-Fetch-Site: same-origin"), status: 200},
		"below localhost":                     {fields: from("Cairn.LOCALHOST.:18080", "http://cairn.localhost:18080"), status: 200},
		"like localhost":                      {fields: from("localhost.evil.example", "http://localhost.evil.example"), status: 403},
		"an address":                          {fields: from("127.0.0.1:18080", "http://127.0.0.1:18080"), status: 200},
		"an address of IPv6":                  {fields: from("[::1]:18080", "http://[::1]:18080"), status: 200},
		"the public name":                     {public: "http://maps.example/cairn", fields: from("maps.example", "http://maps.example"), status: 200},
		"another than the public one":         {public: "http://maps.example/cairn", fields: from(evil, "http://"+evil), status: 403},
		"an allowed origin":                   {cfg: Config{Origins: Origins{"http://maps.example"}}, fields: from("maps.example", "http://maps.example"), status: 200},
		"any origin":                          {cfg: Config{Origins: Origins{"*"}}, fields: from(evil, "http://"+evil), status: 200},
		"behind a proxy that speaks HTTPS":    {fields: from("maps.example", "https://maps.example", "Sec-Fetch-Site: same-origin", "X-Forwarded-Proto: https"), status: 200},
		"behind a proxy that is named":        {cfg: Config{Proxies: loopback}, fields: from("maps.example", "http://maps.example", "X-Forwarded-For: 203.0.113.7"), status: 200},
		"beside a proxy that is named":        {cfg: Config{Proxies: loopback}, fields: from(evil, "http://"+evil), status: 403},
		"where keys are asked for":            {cfg: Config{Access: nobody}, fields: from(evil, "http://"+evil), status: 401},
		"by the PROXY protocol, from outside": {cfg: Config{ProxyProtocol: true}, fields: from("maps.example", "http://maps.example"), status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Listen, tt.cfg.Log = "127.0.0.1:0", slog.New(slog.DiscardHandler)
			s, err := Listen(tt.cfg, 1)
			if err != nil {
				t.Fatal(err)
			}
			s.SetPublicURL(tt.public)
			done := func(c *fiber.Ctx) error { return c.SendString("done\n") }
			s.Mount(Role{Name: "some", Ready: func() error { return nil }, Routes: []Route{
				{Method: http.MethodGet, Path: "/fix", Scope: auth.Write, Handler: done},
				{Method: http.MethodPost, Path: "/fix", Scope: auth.Write, Handler: done},
				{Method: http.MethodPatch, Path: "/fix", Scope: auth.Edit, Handler: done},
				{Method: http.MethodGet, Path: "/items", Scope: auth.Read, Handler: done},
			}})
			run(t, s)
			ask := func(method, path string) (int, string) {
				conn, err := net.Dial("tcp", s.Addr())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if tt.cfg.ProxyProtocol {
					fmt.Fprint(conn, "PROXY TCP4 203.0.113.7 203.0.113.8 4711 80\r\n")
				}
				fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 0\r\n%s\r\n\r\n", method, path, strings.Join(tt.fields, "\r\n"))
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				text, _ := io.ReadAll(answer.Body)
				return answer.StatusCode, string(text)
			}
			if status, text := ask(cmp.Or(tt.method, http.MethodPost), "/fix"); status != tt.status || status == 403 && !strings.Contains(text, "--public-url") {
				t.Errorf("%d %s, want %d", status, text, tt.status)
			}
			if status, text := ask(http.MethodGet, "/items"); status != 200 && tt.cfg.Access == nil {
				t.Errorf("a read: %d %s", status, text)
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
