package web

import (
	"crypto/sha256"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/nats-io/nats.go"
	"github.com/valyala/fasthttp"

	"cairn/bus"
	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// What it costs a request to be asked who makes it, of what an answer from memory costs
// without.
func BenchmarkGuard(b *testing.B) {
	queue := testkit.NATS(b)
	bucket, err := auth.OpenBucket(b.Context(), testkit.JetStream(b, queue, bus.UserAdmin))
	if err != nil {
		b.Fatal(err)
	}
	key, err := bucket.Add(b.Context(), &auth.Identity{Name: "reader", Scopes: auth.Read}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	access := auth.New(auth.Config{Keys: true, Log: testkit.Log(b)})
	end, err := access.Follow(func() (*nats.Conn, error) { return bus.Connect(queue.Endpoint(bus.UserQuery), testkit.Log(b)) })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(end)
	testkit.Eventually(b, 10*time.Second, "the key is read", func() bool { _, err := access.Identify([]byte(key), time.Now()); return err == nil })
	body := []byte(strings.Repeat("x", 20<<10))
	for name, who := range map[string]*auth.Authority{"open": nil, "keys": access} {
		s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Access: who}, 1)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = s.listener.Close() })
		s.Mount(Role{Name: "some", Ready: func() error { return nil }, Routes: []Route{{Method: http.MethodGet, Path: "/points", Scope: auth.Read, Areas: true, Handler: func(c *fiber.Ctx) error {
			h := &c.Response().Header
			h.Set(fiber.HeaderCacheControl, "no-cache")
			h.Set(fiber.HeaderVary, fiber.HeaderAcceptEncoding)
			_ = AreaOf(c)
			c.Response().SetBodyRaw(body)
			return nil
		}}}})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var c fasthttp.RequestCtx
			for b.Loop() {
				c.Init(&fasthttp.Request{}, nil, nil)
				c.Request.Header.SetRequestURI("/points?limit=100")
				c.Request.Header.SetHost("localhost")
				if who != nil {
					c.Request.Header.Set(fiber.HeaderAuthorization, "Bearer "+key)
				}
				s.handle(&c)
				if c.Response.StatusCode() != http.StatusOK {
					b.Fatalf("%d %s", c.Response.StatusCode(), c.Response.Body())
				}
			}
		})
	}
	b.Run("hash", func(b *testing.B) {
		for b.Loop() {
			_ = sha256.Sum256([]byte(key))
		}
	})
}
