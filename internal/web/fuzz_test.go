package web

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"cairn/internal/auth"
)

// Whatever the URL, no parameter key is left in it, the others stay as they are, and
// what was one is where keys belong.
func FuzzTakeKey(f *testing.F) {
	for _, uri := range []string{"/points?key=cairn_x&limit=1", "/points?a=1&key=&key=b%2Bc", "/?key", "/x?&&key=%zz&", "/a?b?key=1", "?key=a b", "/x?monkey=1&key=2#key=3"} {
		f.Add([]byte(uri), "")
	}
	f.Add([]byte("/x?key=a"), "Basic eDp5")
	f.Fuzz(func(t *testing.T, uri []byte, field string) {
		if bytes.ContainsAny(uri, "\r\n\x00") || strings.ContainsAny(field, "\r\n\x00") || len(uri) == 0 || uri[0] != '/' {
			return // framing lets no such head through, or it is no path
		}
		var c fasthttp.RequestCtx
		c.Init(&fasthttp.Request{}, nil, nil)
		c.Request.Header.SetRequestURIBytes(uri)
		if field != "" {
			c.Request.Header.Set(fiber.HeaderAuthorization, field)
		}
		before := string(c.Request.Header.Peek(fiber.HeaderAuthorization))
		takeKey(&c)
		path, query, _ := bytes.Cut(uri, []byte{'?'})
		want, key := []string{}, ""
		for p := range strings.SplitSeq(string(query), "&") {
			value, is := strings.CutPrefix(p, "key=")
			if !is {
				want = append(want, p)
			} else if text, err := url.QueryUnescape(value); err == nil && text != "" {
				key = text
			}
		}
		gotPath, gotQuery, _ := bytes.Cut(c.Request.Header.RequestURI(), []byte{'?'})
		if !bytes.Equal(gotPath, path) || string(gotQuery) != strings.Join(want, "&") {
			t.Fatalf("%q became %q", uri, c.Request.Header.RequestURI())
		}
		token := tokenOf(c.Request.Header.Peek(fiber.HeaderAuthorization))
		switch {
		case before == "" && key != "" && !strings.ContainsAny(key, "\r\n\x00") && strings.TrimSpace(key) != "":
			if string(token) != strings.TrimSpace(key) {
				t.Fatalf("%q: the key is %q, want %q", uri, token, key)
			}
		case before != "" && string(c.Request.Header.Peek(fiber.HeaderAuthorization)) != before:
			t.Fatalf("%q: the field went from %q to %q", uri, before, c.Request.Header.Peek(fiber.HeaderAuthorization))
		}
	})
}

// However something is asked, no handler is reached by who has no key, but those that
// are open.
func FuzzRoutes(f *testing.F) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Access: auth.New(auth.Config{Keys: true, Log: slog.New(slog.DiscardHandler)})}, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.listener.Close() })
	reached := ""
	handler := func(c *fiber.Ctx) error {
		reached = c.Route().Path
		return c.SendString("done\n")
	}
	role := Role{Name: "some", Ready: func() error { return nil }}
	for path, scope := range map[string]auth.Scope{"/": auth.Read, "/points": auth.Read, "/points/:id": auth.Read, "/points.:format": auth.Read, "/tracks/+": auth.Read, "/tiles/:z/:y/:x": auth.Read, "/point/osmand": auth.Write} {
		role.Routes = append(role.Routes, Route{Method: http.MethodGet, Path: path, Scope: scope, Areas: true, Handler: handler})
	}
	role.Routes = append(role.Routes, Route{Method: http.MethodPost, Path: "/point", Scope: auth.Write, Handler: handler}, Route{Method: http.MethodDelete, Path: "/points/:id", Scope: auth.Edit, Handler: handler})
	s.Mount(role)
	f.Add("GET", "/points?bbox=1,2,3,4", "")
	f.Add("HEAD", "/points/%2e%2e/livez", "Bearer x")
	f.Add("DELETE", "//points/x", "Basic eA==")
	f.Add("OPTIONS", "*", "")
	f.Add("GET", "http://localhost/points", "Bearer ")
	f.Add("TRACE", "/livez/../status", "Digest a")
	f.Fuzz(func(t *testing.T, method, uri, field string) {
		if strings.ContainsAny(method+uri+field, "\r\n\x00") || uri == "" {
			return
		}
		var c fasthttp.RequestCtx
		c.Init(&fasthttp.Request{}, nil, nil)
		c.Request.Header.SetMethod(method)
		c.Request.Header.SetRequestURI(uri)
		c.Request.Header.SetHost("localhost")
		if field != "" {
			c.Request.Header.Set(fiber.HeaderAuthorization, field)
		}
		reached = ""
		s.handle(&c)
		if reached != "" {
			t.Fatalf("%s %s with %q reaches %s", method, uri, field, reached)
		}
		body := c.Response.Body()
		if status := c.Response.StatusCode(); status == http.StatusOK && !bytes.Equal(body, []byte("alive\n")) && !bytes.Equal(body, []byte("ready\n")) {
			t.Fatalf("%s %s with %q: %d %s", method, uri, field, status, body)
		}
	})
}
