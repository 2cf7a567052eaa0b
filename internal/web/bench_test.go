package web

import (
	"bytes"
	"crypto/sha256"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/nats-io/nats.go"

	"cairn/bus"
	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// What it costs a request to be asked who makes it, of what an answer from memory costs
// without: all of the server but the sockets. Run it with -cpu 1, in turns.
func BenchmarkGuard(b *testing.B) {
	access, key := benchAccess(b)
	const head = "GET /points?limit=100 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
	for name, test := range map[string]struct {
		access *auth.Authority
		field  string
	}{
		"open": {}, "keys": {access, "Authorization: Bearer " + key + "\r\n"},
		"open, with a field": {nil, "X-Something-Els: Bearer " + key + "\r\n"}, // what the field alone costs
	} {
		b.Run(name, func(b *testing.B) {
			s := benchServer(b, test.access)
			b.ReportAllocs()
			b.ResetTimer()
			requests := &requests{text: []byte(head + test.field + "\r\n"), left: b.N}
			_ = s.fast.ServeConn(s.conns.admit(requests, nil)) // it ends as the requests do
			b.StopTimer()
			if requests.answers != b.N {
				b.Fatalf("%d of %d requests were answered with what is there", requests.answers, b.N)
			}
		})
	}
	b.Run("hash", func(b *testing.B) {
		for b.Loop() {
			_ = sha256.Sum256([]byte(key))
		}
	})
}

// benchAccess knows one key, which it returns.
func benchAccess(b *testing.B) (*auth.Authority, string) {
	b.Helper()
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
	return access, key
}

func benchServer(b *testing.B, access *auth.Authority) *Server {
	b.Helper()
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), Access: access}, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.listener.Close() })
	body := []byte(strings.Repeat("x", 20<<10))
	s.Mount(Role{Name: "some", Ready: func() error { return nil }, Routes: []Route{{Method: http.MethodGet, Path: "/points", Scope: auth.Read, Areas: true, Handler: func(c *fiber.Ctx) error {
		Revalidated(c, true)
		_ = Caller(c)
		c.Response().SetBodyRaw(body)
		return nil
	}}}})
	return s
}

// requests are a connection on which the same comes again and again.
type requests struct {
	net.Conn
	text          []byte
	left, answers int
}

func (r *requests) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	r.left--
	return copy(p, r.text), nil
}

func (r *requests) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("HTTP/1.1 200 OK\r\n")) {
		r.answers++
	}
	return len(p), nil
}

func (r *requests) Close() error        { return nil }
func (r *requests) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }
func (r *requests) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000}
}
func (r *requests) SetDeadline(time.Time) error      { return nil }
func (r *requests) SetReadDeadline(time.Time) error  { return nil }
func (r *requests) SetWriteDeadline(time.Time) error { return nil }
