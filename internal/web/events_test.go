package web

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
)

// An EventSource that comes before the roles are there is held with comments, and
// sent back when they are; other clients hear when to try again.
func TestEventSourceDuringMount(t *testing.T) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	ask := func(accept string) *http.Response {
		req, err := http.NewRequest(http.MethodGet, "http://"+s.Addr()+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	refused := ask("*/*")
	_ = refused.Body.Close()
	if refused.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%d for who is no EventSource", refused.StatusCode)
	}
	held := ask("text/event-stream")
	defer held.Body.Close()
	body := bufio.NewReader(held.Body)
	first, err := body.ReadString('\n')
	if held.StatusCode != http.StatusOK || held.Header.Get("Content-Type") != "text/event-stream" || first != "retry: 1000\n" || err != nil {
		t.Fatalf("%d %v %q %v", held.StatusCode, held.Header, first, err)
	}
	s.Mount(Role{Name: "some", Ready: func() error { return nil }, Routes: []Route{
		{Method: http.MethodGet, Path: "/events", Scope: auth.Read, Handler: func(c *fiber.Ctx) error { return c.SendString("here\n") }}}})
	if rest, err := io.ReadAll(body); err != nil || strings.Contains(string(rest), "data") {
		t.Errorf("the end: %q %v", rest, err)
	}
	again := ask("text/event-stream")
	_ = again.Body.Close()
	if again.StatusCode != http.StatusOK {
		t.Errorf("%d when the role is there", again.StatusCode)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
