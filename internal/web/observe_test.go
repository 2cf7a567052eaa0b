package web

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
)

// No answer may be taken for another type than it has, whoever wrote it: a handler, this
// package, or what refuses a head that is no request.
func TestNothingIsSniffed(t *testing.T) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", unsentBytes+1)
	s.Mount(Role{Name: "some", Ready: func() error { return nil }, Routes: []Route{
		{Method: http.MethodGet, Path: "/x", Scope: auth.Read, Handler: func(c *fiber.Ctx) error { return c.SendString("well\n") }},
		{Method: http.MethodGet, Path: "/none", Scope: auth.Read, Handler: func(c *fiber.Ctx) error { return c.SendStatus(http.StatusNoContent) }},
		{Method: http.MethodGet, Path: "/large", Scope: auth.Read, Handler: func(c *fiber.Ctx) error { return c.SendString(large) }},
		{Method: http.MethodGet, Path: "/panic", Scope: auth.Read, Handler: func(*fiber.Ctx) error { panic("a bug") }},
		{Method: http.MethodGet, Path: "/stream", Scope: auth.Read, Handler: func(c *fiber.Ctx) error {
			EventHeaders(c)
			Detach(c, func(net.Conn) {})
			return nil
		}},
	}})
	run(t, s)
	for request, want := range map[string]int{
		"GET /x HTTP/1.1": 200, "HEAD /x HTTP/1.1": 200, "OPTIONS /x HTTP/1.1": 204, "GET /none HTTP/1.1": 204, "GET /livez HTTP/1.1": 200, "GET /stream HTTP/1.1": 200,
		"POST /x HTTP/1.1": 405, "GET /nothing HTTP/1.1": 404, "GET /panic HTTP/1.1": 500, "GET /large HTTP/1.1": 503, "GET /x y HTTP/1.1": 400,
	} {
		t.Run(request, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "%s\r\nHost: localhost\r\nConnection: close\r\n\r\n", request)
			method, _, _ := strings.Cut(request, " ")
			answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			_, _ = io.Copy(io.Discard, answer.Body)
			if got := answer.Header.Get("X-Content-Type-Options"); answer.StatusCode != want || got != "nosniff" {
				t.Errorf("%d, want %d; X-Content-Type-Options: %q", answer.StatusCode, want, got)
			}
		})
	}
}
