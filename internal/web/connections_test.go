package web

import (
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

// Whoever opens many connections and is silent loses those that are silent for
// longest; who has a request is answered.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	const most = 16
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), MaxConnections: most}, 0)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	var silent []net.Conn
	for range 5 * most {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	for range 3 {
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + s.Addr() + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Error(answer.StatusCode)
		}
	}
	if n := s.conns.count(addressOf(silent[0].LocalAddr())); n > most {
		t.Errorf("%d connections, more than %d", n, most)
	}
	_ = silent[0].SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := silent[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the first silent connection ended with %v", err)
	}
}

// Clients that ask for large answers and read nothing hold no more than the bound
// on what is unsent; who reads is answered meanwhile.
func TestUnreadAnswersAreBounded(t *testing.T) {
	const size = 16 << 20
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	s.Mount(Role{Name: "some", Ready: func() error { return nil },
		Routes: []Route{{Method: http.MethodGet, Path: "/large", Scope: auth.Read,
			Handler: func(c *fiber.Ctx) error { c.Response().SetBodyRaw(make([]byte, size)); return nil }}}})
	run(t, s)
	ask := func() { // and read nothing
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		fmt.Fprint(conn, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	for range 4 * unsentBytes / size {
		ask()
	}
	// Those who came too late were refused. Who stalls is cut for the next.
	testkit.Eventually(t, 10*time.Second, "some are cut", func() bool {
		ask()
		return s.conns.shed.Load() > 0
	})
	testkit.Eventually(t, 10*time.Second, "who reads has all of it", func() bool {
		answer, err := http.Get("http://" + s.Addr() + "/large")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		n, err := io.Copy(io.Discard, answer.Body)
		return err == nil && n == size
	})
	if unsent := s.conns.unsent.Load(); unsent > unsentBytes {
		t.Errorf("%d bytes are unsent, more than %d", unsent, unsentBytes)
	}
}

// What many are sent is in memory once: none of them is cut for the others.
func TestSharedAnswerCountsOnce(t *testing.T) {
	const clients = 4
	body := make([]byte, unsentBytes/2)
	a := newConnections(clients, nil, slog.New(slog.DiscardHandler))
	var all []*conn
	for range clients {
		c := a.admit(&net.TCPConn{}, nil)
		if c == nil || !a.addUnsent(c, body) {
			t.Fatal("refused")
		}
		all = append(all, c)
	}
	if n := a.unsent.Load(); n != int64(len(body)) {
		t.Errorf("%d bytes are unsent, want %d", n, len(body))
	}
	for _, c := range all { // however slow this machine is, only one stalls
		c.progress.Store(time.Now().Add(time.Hour).UnixNano())
	}
	all[0].progress.Store(0)
	if a.addUnsent(all[1], make([]byte, unsentBytes)) {
		t.Error("there was room for another, though two read the first")
	}
	if !all[0].closed.Load() || all[2].closed.Load() || all[3].closed.Load() {
		t.Error("a connection other than the stalled one was cut")
	}
	for _, c := range all {
		_ = c.cut()
	}
	if n := a.unsent.Load(); n != 0 || len(a.answers) != 0 {
		t.Errorf("%d bytes of %d answers are unsent, after all have left", n, len(a.answers))
	}
}
