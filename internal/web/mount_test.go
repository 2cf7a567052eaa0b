package web

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
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
		Routes: func(r fiber.Router) { r.Get("/some", func(c *fiber.Ctx) error { return c.SendString("here\n") }) },
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
