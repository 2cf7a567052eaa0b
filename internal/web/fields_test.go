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
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
)

// Every field is found by its name, however the client writes it, and none is left over
// from the request before on the same connection.
func TestFieldOf(t *testing.T) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Run(t.Context()) }()
	s.Mount(Role{Name: "some", Ready: func() error { return nil }, Routes: []Route{{Method: http.MethodGet, Path: "/", Scope: auth.Open, Handler: func(c *fiber.Ctx) error {
		for f := range otherField {
			if value := FieldOf(c, f); value != nil {
				fmt.Fprintf(c, "%d %s of %d;", f, value, len(fieldsOf(c, f)))
			}
		}
		return nil
	}}}})
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	answers := bufio.NewReader(conn)
	ask := func(t *testing.T, fields, want string) {
		t.Helper()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nCookie: a=b\r\n"+fields+"\r\n"); err != nil {
			t.Fatal(err)
		}
		a, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(a.Body); err != nil || string(body) != want {
			t.Errorf("%q: got %q, want %q (%v)", fields, body, want, err)
		}
	}
	for f := range otherField {
		name := string(fieldNames[f])
		t.Run(name, func(t *testing.T) {
			for _, name := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
				ask(t, name+": some\r\n", fmt.Sprintf("%d some of 1;", f))
			}
			ask(t, name+"-Not: some\r\n", "")
			if f == Authorization { // of which there may be one
				return
			}
			ask(t, name+": some\r\nX: y\r\n"+name+": more\r\n", fmt.Sprintf("%d some of 2;", f))
		})
	}
}
