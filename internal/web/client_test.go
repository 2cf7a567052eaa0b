package web

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"cairn/internal/auth"
)

const (
	forwardedFor = "X-Forwarded-For"
	forwarded    = "Forwarded"
)

// A client is who the last proxy says that it is, and nobody else's word counts.
func TestClientBehindProxies(t *testing.T) {
	for _, tt := range [...]struct {
		name, proxies, peer string
		fields              []string // names and values
		want                string
	}{
		{"no proxy", "", "203.0.113.7", nil, "203.0.113.7"},
		{"a stranger who says so", "", "203.0.113.7", []string{forwardedFor, "198.51.100.1"}, "203.0.113.7"},
		{"a proxy", "", "10.0.0.1", []string{forwardedFor, "198.51.100.1"}, "198.51.100.1"},
		{"a proxy over IPv6", "", "::1", []string{forwardedFor, "2001:db8::7"}, "2001:db8::7"},
		{"a proxy mapped to IPv6", "", "::ffff:10.0.0.1", []string{forwardedFor, "198.51.100.1"}, "198.51.100.1"},
		{"with a port", "", "10.0.0.1", []string{forwardedFor, "198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6 with a port", "", "10.0.0.1", []string{forwardedFor, "[2001:db8::7]:4711"}, "2001:db8::7"},
		{"what the client sent stands before", "", "10.0.0.1", []string{forwardedFor, "192.0.2.9, 198.51.100.1"}, "198.51.100.1"},
		{"also in a field of its own", "", "10.0.0.1", []string{forwardedFor, "192.0.2.9", forwardedFor, "198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "", "10.0.0.1", []string{forwardedFor, "192.0.2.9, 198.51.100.1,10.0.0.2"}, "198.51.100.1"},
		{"all are proxies", "", "10.0.0.1", []string{forwardedFor, "10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no address", "", "10.0.0.1", []string{forwardedFor, "unknown"}, "10.0.0.1"},
		{"no address behind a proxy", "", "10.0.0.1", []string{forwardedFor, "198.51.100.1, _hidden, 10.0.0.2"}, "10.0.0.2"},
		{"empty", "", "10.0.0.1", []string{forwardedFor, ""}, "10.0.0.1"},
		{"a zone", "", "10.0.0.1", []string{forwardedFor, "fe80::1%eth0"}, "10.0.0.1"},
		{"hops without end", "", "10.0.0.1", []string{forwardedFor, "198.51.100.1" + strings.Repeat(",10.0.0.2", 2*maxHops)}, "10.0.0.2"},
		{"RFC 7239", "", "10.0.0.1", []string{forwarded, `for=192.0.2.9, proto=https;For="[2001:db8::7]:4711";by=10.0.0.1`}, "2001:db8::7"},
		{"RFC 7239 without a client", "", "10.0.0.1", []string{forwarded, "proto=https"}, "10.0.0.1"},
		{"both", "", "10.0.0.1", []string{forwarded, "for=192.0.2.9", forwardedFor, "198.51.100.1"}, "198.51.100.1"},
		{"a proxy that is named", "203.0.113.0/24", "203.0.113.7", []string{forwardedFor, "10.0.0.5"}, "10.0.0.5"},
		{"one that is not", "203.0.113.0/24", "10.0.0.1", []string{forwardedFor, "198.51.100.1"}, "10.0.0.1"},
		{"nobody", "none", "127.0.0.1", []string{forwardedFor, "198.51.100.1"}, "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxies, err := ParseProxies(strings.Split(tt.proxies, ","))
			if err != nil {
				t.Fatal(err)
			}
			ctx := &fasthttp.RequestCtx{}
			for i := 0; i < len(tt.fields); i += 2 {
				ctx.Request.Header.Add(tt.fields[i], tt.fields[i+1])
			}
			app := fiber.New()
			c := app.AcquireCtx(ctx)
			defer app.ReleaseCtx(c)
			peer := addressOf(&net.TCPAddr{IP: net.ParseIP(tt.peer), Port: 1})
			if got := proxies.client(peer, c); got.String() != tt.want {
				t.Errorf("the client is %v, want %s", got, tt.want)
			}
		})
	}
}

func TestParseProxies(t *testing.T) {
	p, err := ParseProxies([]string{"192.0.2.7", "2001:db8::/32"})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"192.0.2.7": true, "192.0.2.8": false, "2001:db8:1::1": true, "127.0.0.1": false} {
		if p.trust(netip.MustParseAddr(address)) != want {
			t.Errorf("%s: want %v", address, want)
		}
	}
	for _, wrong := range [][]string{{"proxy.example"}, {"10.0.0.0/33"}, {"none", "10.0.0.0/8"}, {"fe80::1%eth0"}} {
		if _, err := ParseProxies(wrong); err == nil {
			t.Errorf("%v was taken", wrong)
		}
	}
}

// One client has its share and no more, also behind a proxy; others have theirs, and
// the log tells them apart.
func TestShares(t *testing.T) {
	var log bytes.Buffer
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(&log, nil))}, 1)
	if err != nil {
		t.Fatal(err)
	}
	shares := NewShares("turns", 2)
	var held []func()
	s.Mount(Role{Name: "some", Ready: func() error { return nil }, Routes: []Route{{Method: http.MethodPost, Path: "/turn", Scope: auth.Write,
		Handler: func(c *fiber.Ctx) error {
			giveBack, err := shares.Take(c)
			if err != nil {
				return err
			}
			held = append(held, giveBack) // one request at a time
			return c.SendString("yours\n")
		}}}})
	run(t, s)
	ask := func(client string, want int) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Addr()+"/turn", nil)
		if err != nil {
			t.Fatal(err)
		}
		if client != "" {
			request.Header.Set(forwardedFor, client)
		}
		a, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		text, _ := io.ReadAll(a.Body)
		if a.StatusCode != want || want == http.StatusTooManyRequests && (a.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "2 turns of one client address")) {
			t.Errorf("%q: %d %v %s, want %d", client, a.StatusCode, a.Header, text, want)
		}
	}
	ask("198.51.100.1", http.StatusOK)
	ask("198.51.100.1", http.StatusOK)
	ask("198.51.100.1", http.StatusTooManyRequests)
	ask("10.0.0.9, 198.51.100.1", http.StatusTooManyRequests)
	ask("198.51.100.2", http.StatusOK)
	held[0]()
	ask("198.51.100.1", http.StatusOK)
	ask("2001:db8::1", http.StatusOK)
	ask("2001:db8::2", http.StatusOK)
	ask("2001:db8::3", http.StatusTooManyRequests)
	for range 3 {
		ask("", http.StatusOK)
	}
	for _, giveBack := range held[1:] {
		giveBack()
	}
	if len(shares.held) != 0 {
		t.Errorf("%v are held after all were given back", shares.held)
	}
	for _, from := range []string{"from=198.51.100.2\n", "from=127.0.0.1:"} {
		if !strings.Contains(log.String(), from) {
			t.Errorf("no %q in the log:\n%s", from, log.String())
		}
	}
}

// An address that is no proxy has a part of the connections, and loses its own idle
// ones at the end of it.
func TestConnectionsOfOneAddress(t *testing.T) {
	const most = 16
	a := newConnections(most, nil, slog.New(slog.DiscardHandler))
	admit := func(address string) *conn { return a.admit(&peer{address: address}, nil) }
	proxy := admit("10.0.0.1")
	var own []*conn
	for range most / addressShare {
		own = append(own, admit("203.0.113.7"))
	}
	own[1].waiting.Store(0) // it is served
	if c := admit("203.0.113.7"); c == nil || !own[0].closed.Load() || own[1].closed.Load() || proxy.closed.Load() {
		t.Error("its own idlest connection did not make room")
	}
	for c := range a.all {
		c.waiting.Store(0)
	}
	if admit("203.0.113.7") != nil || a.refused.Load() != 1 {
		t.Error("there was room for one more than its share")
	}
	if admit("203.0.113.8") == nil {
		t.Error("another was refused")
	}
	for range most - most/proxyShare - 1 {
		if admit("10.0.0.1") == nil && len(a.all) < most {
			t.Fatal("a proxy has no more than a client")
		}
	}
}

// An address is trusted as it is, though what it has is counted for its network.
func TestConnectionsOverIPv6(t *testing.T) {
	const most = 16
	for address, want := range map[string]int{"::1": most - most/proxyShare, "2001:db8::7": most - most/proxyShare, "2001:db8::8": most / addressShare} {
		a := newConnections(most, Proxies{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("2001:db8::7/128")}, slog.New(slog.DiscardHandler))
		for range most {
			if c := a.admit(&peer{address: address}, nil); c != nil {
				c.waiting.Store(0)
			}
		}
		if len(a.all) != want {
			t.Errorf("%s has %d connections, want %d", address, len(a.all), want)
		}
	}
}

// A peer is a connection that comes from some address.
type peer struct {
	net.TCPConn
	address string
}

func (p *peer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(p.address), Port: 1} }
func (*peer) Close() error           { return nil }
