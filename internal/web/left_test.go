package web

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// While a request is handled, it is noticed that its client has left: by HTTPS and behind
// a proxy too, and whatever it sent before that. One that waits has not left.
func TestHasLeft(t *testing.T) {
	certificate := testkit.NewCertificate(t, t.TempDir())
	encrypted, err := LoadTLS(certificate.Cert, certificate.Key, testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, before, behind string
		tls                  bool
	}{
		{name: "plain"},
		{name: "another request behind it", behind: "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{name: "HTTPS", tls: true},
		{name: "HTTPS, another request behind it", tls: true, behind: "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		{name: "a proxy's", before: "PROXY TCP4 203.0.113.7 203.0.113.8 4711 80\r\n"},
		{name: "a proxy's, HTTPS", before: "PROXY TCP4 203.0.113.7 203.0.113.8 4711 443\r\n", tls: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), ProxyProtocol: true}
			if tt.tls {
				cfg.TLS = encrypted
			}
			s, err := Listen(cfg, 1)
			if err != nil {
				t.Fatal(err)
			}
			asked, left := make(chan func() bool), make(chan struct{})
			s.Mount(Role{Name: "some", Ready: func() error { return nil }, Routes: []Route{{Method: http.MethodGet, Path: "/wait", Scope: auth.Read, Handler: func(c *fiber.Ctx) error {
				conn := c.Context().Conn()
				asked <- func() bool { return HasLeft(conn) }
				<-left
				return nil
			}}}})
			run(t, s)
			raw, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			_, _ = io.WriteString(raw, tt.before)
			conn := raw
			if tt.tls {
				conn = tls.Client(raw, &tls.Config{RootCAs: certificate.Roots, ServerName: "localhost"})
			}
			fmt.Fprint(conn, "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"+tt.behind)
			hasLeft := <-asked
			defer close(left)
			if hasLeft() {
				t.Error("who waits has left")
			}
			_ = conn.Close()
			testkit.Eventually(t, time.Minute, "it is noticed", hasLeft)
			go func() { // what stood behind it
				for range asked {
				}
			}()
		})
	}
}
