package web

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/nats-io/nats.go"

	"cairn/bus"
	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// A door is a server with a route of each scope, and keys.
type door struct {
	t      *testing.T
	server *Server
	bucket *auth.Bucket
	keys   map[string]string // by name
}

func newDoor(t *testing.T, keys ...*auth.Identity) *door {
	t.Helper()
	queue := testkit.NATS(t)
	bucket, err := auth.OpenBucket(t.Context(), testkit.JetStream(t, queue, bus.UserAdmin))
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, bucket: bucket, keys: map[string]string{"nobody's": "cairn_nobody", "no key": "x"}}
	for _, k := range keys {
		if d.keys[k.Name], err = bucket.Add(t.Context(), k, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	authority := auth.New(auth.Config{Keys: true, Log: testkit.Log(t)})
	end, err := authority.Follow(func() (*nats.Conn, error) { return bus.Connect(queue.Endpoint(bus.UserQuery), testkit.Log(t)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	if d.server, err = Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Access: authority, Origins: Origins{"https://maps.example"}}, 1); err != nil {
		t.Fatal(err)
	}
	says := func(c *fiber.Ctx) error {
		return c.SendString(AuthorOf(c) + " " + string(c.Context().URI().QueryString()) + " " + string(c.Request().Header.RequestURI()))
	}
	d.server.Mount(Role{Name: "some", Ready: func() error { return nil }, Status: func(context.Context) any { return "well" }, Routes: []Route{
		{Method: http.MethodGet, Path: "/read", Scope: auth.Read, Areas: true, Handler: says},
		{Method: http.MethodGet, Path: "/everywhere", Scope: auth.Read, Handler: says},
		{Method: http.MethodPost, Path: "/write", Scope: auth.Write, Areas: true, Handler: says},
		{Method: http.MethodDelete, Path: "/edit", Scope: auth.Edit, Handler: says},
		{Method: http.MethodGet, Path: "/open", Scope: auth.Open, Handler: says},
		{Method: http.MethodGet, Path: "/cached", Scope: auth.Read, Areas: true, Handler: func(c *fiber.Ctx) error { Revalidated(c, true); return says(c) }},
		{Method: http.MethodGet, Path: "/cached/open", Scope: auth.Open, Handler: func(c *fiber.Ctx) error { Revalidated(c, true); return says(c) }},
	}})
	run(t, d.server)
	testkit.Eventually(t, 10*time.Second, "the keys are read", func() bool { return d.ask("GET", "/read", "nobody's").status == http.StatusUnauthorized })
	return d
}

type said struct {
	status int
	header http.Header
	body   string
}

func (d *door) ask(method, path, key string, fields ...string) said {
	d.t.Helper()
	request, err := http.NewRequestWithContext(d.t.Context(), method, "http://"+d.server.Addr()+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+d.keys[key])
	}
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return said{answer.StatusCode, answer.Header, string(text)}
}

// Every route × every scope: what a key does not have is refused by its name.
func TestEveryRouteAndEveryScope(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	d := newDoor(t,
		&auth.Identity{Name: "reader", Scopes: auth.Read}, &auth.Identity{Name: "writer", Scopes: auth.Write},
		&auth.Identity{Name: "editor", Scopes: auth.Edit}, &auth.Identity{Name: "admin", Scopes: auth.Admin},
		&auth.Identity{Name: "expired", Scopes: auth.Read | auth.Write | auth.Edit | auth.Admin, Expires: past})
	routes := []struct{ method, path, needs string }{
		{"GET", "/livez", ""}, {"GET", "/readyz", ""}, {"GET", "/status", "admin"}, {"GET", "/metrics", "admin"},
		{"GET", "/read", "read"}, {"HEAD", "/read", "read"}, {"GET", "/everywhere", "read"}, {"GET", "/cached", "read"}, {"GET", "/open", ""}, {"POST", "/write", "write"}, {"DELETE", "/edit", "edit"},
		{"OPTIONS", "/read", ""}, {"OPTIONS", "/write", ""}, {"OPTIONS", "/status", ""},
	}
	has := map[string]string{"reader": "read", "writer": "write", "editor": "edit", "admin": "admin"}
	for _, r := range routes {
		for _, key := range []string{"", "no key", "nobody's", "expired", "reader", "writer", "editor", "admin"} {
			a := d.ask(r.method, r.path, key)
			scope, known := has[key]
			switch {
			case r.needs == "" || scope == r.needs:
				if a.status >= 300 {
					t.Errorf("%s %s by %q: %d %s", r.method, r.path, key, a.status, a.body)
				}
			case !known:
				if a.status != http.StatusUnauthorized || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
					t.Errorf("%s %s by %q: %d %v", r.method, r.path, key, a.status, a.header)
				}
			default:
				if a.status != http.StatusForbidden || r.method != "HEAD" && !strings.Contains(a.body, `"scope":"`+r.needs+`"`) {
					t.Errorf("%s %s by %q: %d %s", r.method, r.path, key, a.status, a.body)
				}
			}
			if cached := a.header.Get("Cache-Control"); r.needs != "" && (r.method == "GET" || r.method == "HEAD") && (cached != "no-store" && !strings.HasPrefix(cached, "private") || !strings.Contains(a.header.Get("Vary"), "Authorization")) {
				t.Errorf("%s %s by %q: a cache that others share may keep it: %q, %q", r.method, r.path, key, cached, a.header.Get("Vary"))
			}
			if a.status >= 400 && r.needs != "write" && r.needs != "edit" && a.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s %s by %q: a page cannot read the refusal", r.method, r.path, key)
			}
		}
	}
}

// What one request of a connection says of who asks holds for no other, and neither do
// the fields of its answer: a proxy may share the connection among all its clients.
func TestCallersShareAConnection(t *testing.T) {
	d := newDoor(t, &auth.Identity{Name: "reader", Scopes: auth.Read}, &auth.Identity{Name: "writer", Scopes: auth.Write})
	conn, err := net.Dial("tcp", d.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	requests := []struct {
		request, key string
		status       int
		name         string // of whom the handler knows
		cached, vary string
	}{
		{"GET /cached", "reader", 200, "reader", "private, no-cache", "Accept-Encoding, Authorization"},
		{"GET /cached", "", 401, "", "no-store", "Authorization"},
		{"GET /open", "", 200, "", "", ""},
		{"POST /write", "writer", 200, "writer", "", ""},
		{"POST /write", "reader", 403, "", "", ""},
		{"GET /cached/open", "reader", 200, "", "no-cache", "Accept-Encoding"},
		{"GET /read", "writer", 403, "", "no-store", "Authorization"},
		{"GET /read", "reader", 200, "reader", "no-store", "Authorization"},
		{"GET /open", "reader", 200, "", "", ""},
		{"POST /write", "", 401, "", "", ""},
	}
	var text strings.Builder
	for _, r := range requests {
		fmt.Fprintf(&text, "%s HTTP/1.1\r\nHost: x\r\n", r.request)
		if r.key != "" {
			fmt.Fprintf(&text, "Authorization: Bearer %s\r\n", d.keys[r.key])
		}
		text.WriteString("\r\n")
	}
	if _, err := io.WriteString(conn, text.String()); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	for _, r := range requests {
		a, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(string(body), " ")
		if cached, vary := a.Header.Get("Cache-Control"), a.Header.Get("Vary"); a.StatusCode != r.status || r.status == 200 && name != r.name || cached != r.cached || vary != r.vary {
			t.Errorf("%s by %q: %d %q, %q, %q", r.request, r.key, a.StatusCode, body, cached, vary)
		}
	}
}

// An answer that an origin's pages may read depends on the origin, and says so: what a
// write is told no cache keeps for whoever asks.
func TestWriteByOrigin(t *testing.T) {
	d := newDoor(t, &auth.Identity{Name: "writer", Scopes: auth.Write})
	a := d.ask("POST", "/write", "writer", "Origin", "https://maps.example", "Content-Type", "application/json")
	if a.status != 200 || a.header.Get("Cache-Control") != "" || a.header.Get("Vary") != "Origin" || a.header.Get("Access-Control-Allow-Origin") != "https://maps.example" {
		t.Errorf("%d %v", a.status, a.header)
	}
}

// Who was known on a connection is known no longer once the key was removed or has
// expired, without another connection.
func TestKeyEndsOnAnOpenConnection(t *testing.T) {
	const expiry = 3 * time.Second // time to use it once, on a busy machine
	d := newDoor(t, &auth.Identity{Name: "removed", Scopes: auth.Read}, &auth.Identity{Name: "expired", Scopes: auth.Read, Expires: time.Now().Add(expiry)})
	for name, end := range map[string]func() error{
		"removed": func() error { return d.bucket.Remove(t.Context(), "removed") },
		"expired": func() error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", d.server.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			answers := bufio.NewReader(conn)
			ask := func() int {
				if _, err := fmt.Fprintf(conn, "GET /read HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", d.keys[name]); err != nil {
					t.Fatal(err)
				}
				a, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, a.Body)
				return a.StatusCode
			}
			if status := ask(); status != http.StatusOK {
				t.Fatalf("before: %d", status)
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, 10*time.Second, "it is refused", func() bool { return ask() == http.StatusUnauthorized })
		})
	}
}

// A key may come in three ways, and no handler sees it in the URL.
func TestWaysOfAKey(t *testing.T) {
	d := newDoor(t, &auth.Identity{Name: "reader", Scopes: auth.Read})
	key := d.keys["reader"]
	const plain = "reader a=1&b=2 /read?a=1&b=2"
	for name, a := range map[string]said{
		"bearer":    d.ask("GET", "/read?a=1&b=2", "reader"),
		"basic":     d.ask("GET", "/read?a=1&b=2", "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("phone:"+key))),
		"parameter": d.ask("GET", "/read?a=1&key="+url.QueryEscape(key)+"&b=2", ""),
		"first":     d.ask("GET", "/read?key="+key+"&a=1&b=2", ""),
	} {
		if a.status != http.StatusOK || a.body != plain {
			t.Errorf("%s: %d %q, want %q", name, a.status, a.body, plain)
		}
	}
	for _, field := range []string{"Basic", "Basic !", "Basic " + base64.StdEncoding.EncodeToString([]byte("x:")), "Digest a=b", "Bearer", "Bearer  "} {
		if a := d.ask("GET", "/read?key="+key, "", "Authorization", field); a.status != http.StatusUnauthorized {
			t.Errorf("%q: %d %s", field, a.status, a.body)
		}
	}
}

// A key holds at once, for as long as it is there, as often as its rate allows,
// and where its area is.
func TestBoundsOfAKey(t *testing.T) {
	d := newDoor(t, &auth.Identity{Name: "slow", Scopes: auth.Read, Rate: 1},
		&auth.Identity{Name: "local", Scopes: auth.Read | auth.Write | auth.Edit, Area: &auth.Area{170, -20, -170, 20}})
	// Only what honours areas, whatever else is asked.
	for path, want := range map[string]int{"/read": 200, "/read?bbox=0,0,1,1": 200, "/everywhere": 403, "/everywhere?bbox=171,0,172,1": 403, "/status": 403} {
		if a := d.ask("GET", path, "local"); a.status != want {
			t.Errorf("%s: %d %s, want %d", path, a.status, a.body, want)
		}
	}
	if a := d.ask("POST", "/write", "local"); a.status != 200 {
		t.Errorf("write: %d %s", a.status, a.body)
	}
	if a := d.ask("DELETE", "/edit", "local"); a.status != 403 {
		t.Errorf("edit: %d %s", a.status, a.body)
	}
	testkit.Eventually(t, 10*time.Second, "the rate is met", func() bool {
		a := d.ask("GET", "/read", "slow")
		return a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != ""
	})
	var err error
	if d.keys["late"], err = d.bucket.Add(t.Context(), &auth.Identity{Name: "late", Scopes: auth.Read}, time.Now()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "a new key holds", func() bool { return d.ask("GET", "/read", "late").status == http.StatusOK })
	if err := d.bucket.Remove(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "one that was removed does not", func() bool { return d.ask("GET", "/read", "late").status == http.StatusUnauthorized })
}

// A route without a scope is a mistake, found before it is served.
func TestRouteWithoutAScope(t *testing.T) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	defer func() {
		if recover() == nil {
			t.Error("it is mounted")
		}
	}()
	s.Mount(Role{Name: "some", Routes: []Route{{Method: http.MethodGet, Path: "/x", Handler: func(*fiber.Ctx) error { return nil }}}})
}
