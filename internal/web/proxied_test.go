package web

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/pires/go-proxyproto"

	"cairn/internal/auth"
	"cairn/internal/testkit"
)

// whose serves a route that tells the caller, behind a proxy at 127.0.0.1.
func whose(t *testing.T, most int) *Server {
	t.Helper()
	proxies, err := ParseProxies([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), MaxConnections: most, Proxies: proxies, ProxyProtocol: true}, 1)
	if err != nil {
		t.Fatal(err)
	}
	s.Mount(Role{Name: "some", Ready: func() error { return nil },
		Routes: []Route{{Method: http.MethodGet, Path: "/whose", Scope: auth.Read,
			Handler: func(c *fiber.Ctx) error { return c.SendString(ClientAddress(c)) }}}})
	run(t, s)
	return s
}

// askAs sends bytes and a request on a connection from an address, and reads the answer:
// its status and body, or "" where the connection ends without one.
func askAs(t *testing.T, s *Server, from, before, fields string) (answer string, conn net.Conn) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "%sGET /whose HTTP/1.1\r\nHost: x\r\n%s\r\n", before, fields)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", conn
	}
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Sprint(response.StatusCode), conn
	}
	return string(body), conn
}

func header2(t *testing.T, command proxyproto.ProtocolVersionAndCommand, source string) string {
	t.Helper()
	at := netip.MustParseAddrPort(source)
	family := proxyproto.TCPv4
	if at.Addr().Is6() {
		family = proxyproto.TCPv6
	}
	h := proxyproto.Header{Version: 2, Command: command, TransportProtocol: family,
		SourceAddr: net.TCPAddrFromAddrPort(at), DestinationAddr: net.TCPAddrFromAddrPort(at)}
	var out bytes.Buffer
	if _, err := h.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Who asks is whom a trusted proxy names in the header of the PROXY protocol; nobody else
// may name anybody.
func TestProxyProtocol(t *testing.T) {
	s := whose(t, 0)
	const client = "203.0.113.7"
	v1 := "PROXY TCP4 " + client + " 192.0.2.1 4711 80\r\n"
	for _, test := range []struct{ name, from, before, fields, want string }{
		{"version 1", "127.0.0.1", v1, "", client},
		{"version 1, IPv6", "127.0.0.1", "PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n", "", "2001:db8::7"},
		{"version 1, unknown", "127.0.0.1", "PROXY UNKNOWN\r\n", "", "127.0.0.1"},
		{"version 2", "127.0.0.1", header2(t, proxyproto.PROXY, client+":4711"), "", client},
		{"version 2, IPv6", "127.0.0.1", header2(t, proxyproto.PROXY, "[2001:db8::7]:4711"), "", "2001:db8::7"},
		{"a proxy's own health check", "127.0.0.1", header2(t, proxyproto.LOCAL, client+":4711"), "", "127.0.0.1"},
		{"no header", "127.0.0.1", "", "", "127.0.0.1"},
		{"no header, and a field", "127.0.0.1", "", "X-Forwarded-For: 198.51.100.9\r\n", "198.51.100.9"},
		{"a client's own field", "127.0.0.1", v1, "X-Forwarded-For: 198.51.100.9\r\n", client},
		{"a proxy behind a proxy", "127.0.0.1", header2(t, proxyproto.PROXY, "127.0.0.1:4711"), "X-Forwarded-For: 198.51.100.9\r\n", "198.51.100.9"},
		{"a stranger, version 1", "127.0.0.2", v1, "", "400"},
		{"a stranger, version 2", "127.0.0.2", header2(t, proxyproto.PROXY, client+":4711"), "", "400"},
		{"a stranger without one", "127.0.0.2", "", "", "127.0.0.2"},
		{"a header that is none", "127.0.0.1", "PROXY TCP4 here there 1 2\r\n", "", ""},
		{"a header that is too long", "127.0.0.1", "PROXY TCP4 " + string(bytes.Repeat([]byte("1"), 500)) + "\r\n", "", ""},
		{"two headers", "127.0.0.1", v1 + v1, "", "400"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, _ := askAs(t, s, test.from, test.before, test.fields); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A connection counts as that of the client that the proxy names: one has its share, and
// its idle ones go first.
func TestSharesOfConnectionsBehindAProxy(t *testing.T) {
	const most = 16
	s := whose(t, most)
	header := header2(t, proxyproto.PROXY, "203.0.113.7:4711")
	client, proxy := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("127.0.0.1")
	for i := range 2 * most {
		if got, _ := askAs(t, s, "127.0.0.1", header, ""); got != "203.0.113.7" {
			t.Fatalf("connection %d: %q", i, got)
		}
		if n := s.conns.count(client); n > most/addressShare {
			t.Fatalf("the client has %d of %d connections", n, most)
		}
	}
	if n := s.conns.count(proxy); n != 0 {
		t.Errorf("%d count as the proxy's own", n)
	}
	if got, conn := askAs(t, s, "127.0.0.1", header2(t, proxyproto.PROXY, "198.51.100.1:1"), ""); got != "198.51.100.1" {
		t.Errorf("another client: %q", got)
	} else {
		_ = conn.Close()
	}
	testkit.Eventually(t, 10*time.Second, "the other has left", func() bool { return s.conns.count(netip.MustParseAddr("198.51.100.1")) == 0 })
}
