package web

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"cairn/internal/auth"
)

// A request that began before a role was mounted ends after it: it is told to
// come again, not that there is no such route.
func TestRequestDuringMount(t *testing.T) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	before := *s.handler.Load()
	s.Mount(Role{
		Name:   "some",
		Routes: []Route{{Method: http.MethodGet, Path: "/some", Scope: auth.Read, Handler: func(c *fiber.Ctx) error { return c.SendString("here\n") }}},
		Ready:  func() error { return nil },
	})
	for handler, want := range map[string]int{"before": http.StatusServiceUnavailable, "after": http.StatusOK} {
		var c fasthttp.RequestCtx
		c.Init(&fasthttp.Request{}, nil, nil)
		c.Request.SetRequestURI("/some")
		if handler == "before" {
			before(&c)
		} else {
			(*s.handler.Load())(&c)
		}
		if got := c.Response.StatusCode(); got != want {
			t.Errorf("the app of %s the mount answers %d, want %d", handler, got, want)
		}
	}
}

// What is there, but not by this method, is told with the methods that it takes.
func TestMethods(t *testing.T) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	role := func(route Route) Role {
		return Role{Name: "some", Routes: []Route{route}, Ready: func() error { return nil }}
	}
	ask := func(method, path string) (status int, allow string) {
		var c fasthttp.RequestCtx
		c.Init(&fasthttp.Request{}, nil, nil)
		c.Request.Header.SetMethod(method)
		c.Request.SetRequestURI(path)
		(*s.handler.Load())(&c)
		return c.Response.StatusCode(), string(c.Response.Header.Peek("Allow"))
	}
	done := func(c *fiber.Ctx) error { return c.SendString("done\n") }
	s.Mount(role(Route{Method: http.MethodPost, Path: "/some", Scope: auth.Write, Handler: done}))
	if status, allow := ask(http.MethodGet, "/some"); status != http.StatusServiceUnavailable || allow != "" {
		t.Errorf("before all is mounted: %d, Allow %q", status, allow)
	}
	s.Mount(role(Route{Method: http.MethodGet, Path: "/other", Scope: auth.Read, Handler: done}))
	for _, x := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodPost, "/some", http.StatusOK, ""},
		{http.MethodGet, "/some", http.StatusMethodNotAllowed, "POST, OPTIONS"},
		{http.MethodDelete, "/other", http.StatusMethodNotAllowed, "GET, HEAD, OPTIONS"},
		{http.MethodPut, "/livez", http.StatusMethodNotAllowed, "GET, HEAD, OPTIONS"},
		{http.MethodGet, "/none", http.StatusNotFound, ""},
	} {
		if status, allow := ask(x.method, x.path); status != x.status || allow != x.allow {
			t.Errorf("%s %s: %d, Allow %q; want %d, %q", x.method, x.path, status, allow, x.status, x.allow)
		}
	}
}

// OPTIONS says what a path answers, and nothing else is taken there, though a pattern
// would match it; so it is in whichever order the routes come.
func TestOptionsOfAPathAndAPattern(t *testing.T) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	done := func(c *fiber.Ctx) error { return c.SendString(c.Path()) }
	s.Mount(Role{Name: "r", Ready: func() error { return nil }, Routes: []Route{
		{Method: http.MethodPut, Path: "/fix/:id", Scope: auth.Edit, Handler: done},
		{Method: http.MethodGet, Path: "/fix/device", Scope: auth.Read, Handler: done},
		{Method: http.MethodPost, Path: "/fix/device", Scope: auth.Write, Handler: done},
	}})
	for path, want := range map[string]string{"/fix/device": "GET, HEAD, POST, OPTIONS", "/fix/x": "PUT, OPTIONS"} {
		var c fasthttp.RequestCtx
		c.Init(&fasthttp.Request{}, nil, nil)
		c.Request.Header.SetMethod(http.MethodOptions)
		c.Request.SetRequestURI(path)
		(*s.handler.Load())(&c)
		if allow := string(c.Response.Header.Peek("Allow")); c.Response.StatusCode() != http.StatusNoContent || allow != want {
			t.Errorf("%s: %d, Allow %q, want %q", path, c.Response.StatusCode(), allow, want)
		}
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			c.Request.Header.SetMethod(method)
			c.Response.Reset()
			(*s.handler.Load())(&c)
			status, allow := c.Response.StatusCode(), string(c.Response.Header.Peek("Allow"))
			if slices.Contains(strings.Split(want, ", "), method) != (status == http.StatusOK) || status != http.StatusOK && status != http.StatusMethodNotAllowed || path == "/fix/device" && status != http.StatusOK && allow != want {
				t.Errorf("%s %s: %d, Allow %q", method, path, status, allow)
			}
		}
	}
}

// The metrics keep what a request was after its buffers serve another.
func TestMetricsOutliveTheRequest(t *testing.T) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.listener.Close()
	methods := []string{http.MethodGet, http.MethodPut, http.MethodPatch}
	var c fasthttp.RequestCtx
	c.Init(&fasthttp.Request{}, nil, nil)
	for _, method := range methods {
		c.Request.Header.SetMethod(method) // in place
		c.Request.SetRequestURI("/none")
		(*s.handler.Load())(&c)
	}
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "cairn_http_request_seconds" {
			continue
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == "method" {
					counted[l.GetValue()] += m.Histogram.GetSampleCount()
				}
			}
		}
	}
	for _, method := range methods {
		if counted[method] != 1 {
			t.Errorf("%v", counted)
		}
	}
}
