package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// serveTLS serves a path by HTTPS with the certificate in dir.
func serveTLS(t *testing.T, dir string) (s *Server, c *testkit.Certificate) {
	t.Helper()
	c = testkit.NewCertificate(t, dir)
	cfg, err := LoadTLS(c.Cert, c.Key, testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	if s, err = Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), TLS: cfg}, 1); err != nil {
		t.Fatal(err)
	}
	s.Mount(Role{Name: "some", Ready: func() error { return nil }, Status: func(context.Context) any { return nil }, Routes: []Route{
		{Method: http.MethodGet, Path: "/x", Scope: auth.Read, Handler: func(c *fiber.Ctx) error { return c.SendString("well\n") }},
	}})
	run(t, s)
	return s, c
}

// get asks over a connection that is there already.
func get(t *testing.T, conn net.Conn) (status string) {
	t.Helper()
	if _, err := fmt.Fprint(conn, "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.Status
}

// A certificate that is replaced is used for new connections, without a restart; those
// that are there continue, and files that do not fit leave what was.
func TestCertificateIsReadAgain(t *testing.T) {
	defer func(before time.Duration) { certificateLook = before }(certificateLook)
	certificateLook = time.Millisecond
	dir := t.TempDir()
	s, first := serveTLS(t, dir)
	dial := func(c *testkit.Certificate) (conn *tls.Conn, serial *big.Int, err error) {
		conn, err = tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: c.Roots})
		if err != nil {
			return nil, nil, err
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, conn.ConnectionState().PeerCertificates[0].SerialNumber, nil
	}
	before, serial, err := dial(first)
	if err != nil || serial.Cmp(first.Serial) != 0 || get(t, before) != "200 OK" {
		t.Fatalf("%v, certificate %v", err, serial)
	}
	// Half of a replacement: the key is not that of the certificate.
	if err := os.WriteFile(first.Key, []byte("-----BEGIN PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, serial, err := dial(first); err != nil || serial.Cmp(first.Serial) != 0 {
		t.Errorf("with files that do not fit: %v, certificate %v", err, serial)
	}
	second := testkit.NewCertificate(t, dir)
	later := time.Now().Add(time.Minute) // file systems have coarse times
	if err := os.Chtimes(second.Cert, later, later); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "the new certificate is used", func() bool {
		_, serial, err := dial(second)
		return err == nil && serial.Cmp(second.Serial) == 0
	})
	if got := get(t, before); got != "200 OK" {
		t.Errorf("over a connection from before: %s", got)
	}
}

// A new certificate is taken whatever its files' times are, and the log tells of it; of
// one that cannot be used it tells once.
func TestCertificateChangesAreLogged(t *testing.T) {
	dir := t.TempDir()
	made := testkit.NewCertificate(t, dir)
	began := time.Now()
	now := began
	age := func(d time.Duration) { // of the certificate's file; the key's has the same time always
		t.Helper()
		if err := errors.Join(os.Chtimes(made.Cert, began.Add(-d), began.Add(-d)), os.Chtimes(made.Key, began, began)); err != nil {
			t.Fatal(err)
		}
	}
	age(0)
	var lines bytes.Buffer
	c := &certificate{certFile: made.Cert, keyFile: made.Key, log: slog.New(slog.NewTextHandler(&lines, nil))}
	if err := c.load(now); err != nil {
		t.Fatal(err)
	}
	first := c.pair
	looks := func(want string) *tls.Certificate {
		t.Helper()
		for range 3 {
			now = now.Add(certificateLook)
			c.current(now)
		}
		if want == "" && lines.Len() > 0 || want != "" && (strings.Count(lines.String(), "\n") != 1 || !strings.Contains(lines.String(), want)) {
			t.Errorf("the log has %q, want %q in one line", lines.String(), want)
		}
		lines.Reset()
		return c.pair
	}
	if looks("") != first {
		t.Error("files that did not change are taken for others")
	}
	if err := os.WriteFile(made.Key, []byte("-----BEGIN PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if looks("level=WARN") != first {
		t.Error("what cannot be used takes the place of what can")
	}
	second := testkit.NewCertificate(t, dir)
	age(24 * time.Hour) // it was made long before it came here
	if looks("level=INFO").Leaf.SerialNumber.Cmp(second.Serial) != 0 {
		t.Error("a new certificate with an older file is not taken")
	}
	if err := os.Remove(made.Cert); err != nil {
		t.Fatal(err)
	}
	looks("level=WARN")
}

// Who speaks HTTP where HTTPS is spoken is told so, in HTTP.
func TestPlainHTTPToTLS(t *testing.T) {
	s, _ := serveTLS(t, t.TempDir())
	for _, begin := range []string{"GET /x HTTP/1.1", "POST /point HTTP/1.1", "HEAD / HTTP/1.0", "OPTIONS * HTTP/1.1"} {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(conn, "%s\r\nHost: localhost\r\n\r\n", begin); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || !strings.Contains(string(answer), "https://") {
			t.Errorf("%s: %q, %v", begin, answer, err)
		}
	}
	// What is neither gets nothing in HTTP.
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, "EHLO mail.example\r\n")
	if answer, _ := io.ReadAll(conn); strings.Contains(string(answer), "HTTP") {
		t.Errorf("%q", answer)
	}
}

// Whoever begins handshakes and does not end them makes room for others, as all do that
// are silent.
func TestHandshakesThatDoNotEnd(t *testing.T) {
	const most = 16
	c := testkit.NewCertificate(t, t.TempDir())
	cfg, err := LoadTLS(c.Cert, c.Key, testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), TLS: cfg, MaxConnections: most}, 0)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	for range 5 * most {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")) // of a ClientHello, its beginning
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: c.Roots}}}
	for range 3 {
		answer, err := client.Get("https://" + s.Addr() + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
	}
}
