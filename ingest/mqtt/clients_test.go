package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/web"
)

const (
	// most connections are served by the tests' server: of them one address has a quarter.
	most, share = 16, 4
	// patience bounds the wait for an answer.
	patience = 20 * time.Second
	proxied  = "203.0.113.7"
)

// A broker is a server behind a proxy at 127.0.0.1, which names its clients.
type broker struct {
	t       *testing.T
	address string
}

func serveMost(t *testing.T) *broker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxies, err := web.ParseProxies([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	n := web.NewNeighbours(proxies, true)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, Config{Listener: l, Log: slog.New(slog.DiscardHandler), Most: most, Share: n.Share, Open: n.Open,
			Login: func(string, []byte) (Publisher, error) { return func(string, []byte) error { return nil }, nil }})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &broker{t, l.Addr().String()}
}

// dial connects from an address, and sends something.
func (b *broker) dial(from, sent string) net.Conn {
	b.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, sent) // it may be closed already
	return conn
}

// login connects as a client does, and reports whether it was let in.
func (b *broker) login(from, before string) (net.Conn, bool) {
	b.t.Helper()
	conn := b.dial(from, before+"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c")
	return conn, hears(conn, "\x20\x02\x00\x00")
}

func hears(conn net.Conn, want string) bool {
	answer := make([]byte, len(want))
	_, err := io.ReadFull(conn, answer)
	return err == nil && string(answer) == want
}

// lives reports whether the server answers a client that has logged in.
func lives(conn net.Conn) bool {
	_, _ = io.WriteString(conn, "\xc0\x00")
	return hears(conn, "\xd0\x00")
}

func proxyLine(client string) string {
	return fmt.Sprintf("PROXY TCP4 %s 192.0.2.1 4711 1883\r\n", client)
}

// One address has its share of connections, and keeps nobody else out: with its own
// connections, or with those that a proxy passes on.
func TestShareOfAnAddress(t *testing.T) {
	for _, test := range []struct{ name, from, before, other string }{
		{"its own", "127.0.0.2", "", ""},
		{"by a proxy", "127.0.0.1", proxyLine(proxied), proxyLine("198.51.100.1")},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := serveMost(t)
			var in []net.Conn
			for i := range 2 * most {
				conn, ok := b.login(test.from, test.before)
				if ok != (i < share) {
					t.Fatalf("connection %d is let in: %v", i, ok)
				}
				if ok {
					in = append(in, conn)
				}
			}
			other := "127.0.0.3"
			if test.other != "" {
				other = test.from
			}
			if _, ok := b.login(other, test.other); !ok {
				t.Error("another address is kept out")
			}
			for i, conn := range in {
				if !lives(conn) {
					t.Errorf("client %d was closed", i)
				}
			}
			_ = in[0].Close()
			testkit.Eventually(t, patience, "who leaves makes room", func() bool { _, ok := b.login(test.from, test.before); return ok })
		})
	}
}

// A proxy without a header is many clients', but not all: others get in, too.
func TestShareOfAProxy(t *testing.T) {
	b := serveMost(t)
	in := 0
	for range 2 * most {
		if _, ok := b.login("127.0.0.1", ""); ok {
			in++
		}
	}
	if in != most-most/8 {
		t.Errorf("%d of %d connections are a proxy's", in, most)
	}
	if _, ok := b.login("127.0.0.3", ""); !ok {
		t.Error("another address is kept out")
	}
}

// Who connects and says nothing takes no place from those who do, be it from one address
// or from many.
func TestSilentOnesGoFirst(t *testing.T) {
	for _, test := range []struct {
		name string
		from func(i int) string
	}{
		{"one address", func(int) string { return "127.0.0.2" }},
		{"many addresses", func(i int) string { return fmt.Sprintf("127.0.1.%d", 1+i%200) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := serveMost(t)
			honest, ok := b.login("127.0.0.2", "")
			if !ok {
				t.Fatal("the first is not let in")
			}
			for i := range 5 * most {
				b.dial(test.from(i), "")
			}
			if _, ok := b.login("127.0.0.2", ""); !ok {
				t.Error("silent connections keep others out")
			}
			if !lives(honest) {
				t.Error("silent connections take the place of who is in")
			}
		})
	}
}

// Only a trusted proxy says whose connection it is.
func TestStrangersNameNobody(t *testing.T) {
	b := serveMost(t)
	if _, ok := b.login("127.0.0.2", proxyLine(proxied)+proxyLine(proxied)); ok {
		t.Error("a stranger named a client")
	}
	if _, ok := b.login("127.0.0.1", "PROXY TCP4 here there 1 2\r\n"); ok {
		t.Error("a header that is none was taken")
	}
}

// What is announced and does not come holds no memory of others: not before a client has
// logged in, and not beyond an address' part after.
func TestLargePackets(t *testing.T) {
	b := serveMost(t)
	const announced = "\x32\x80\x80\x10" // a message of 256 KiB
	if stranger := b.dial("127.0.0.4", announced); !ends(stranger) {
		t.Error("a stranger may publish")
	}
	if stranger := b.dial("127.0.0.4", "\x10\x80\x80\x04"); !ends(stranger) { // 64 KiB
		t.Error("a stranger may send much")
	}
	c := newClients(&Config{Share: web.NewNeighbours(web.Proxies{}, false).Share})
	from := func(address string) *client {
		conn := &script{from: &net.TCPAddr{IP: net.ParseIP(address)}}
		one := &client{conn: conn}
		if !c.enter(one, conn.RemoteAddr()) {
			t.Fatal("not let in")
		}
		return one
	}
	var first []*client
	for {
		one := from("192.0.2.1")
		if !c.hold(one, maxPacketBytes) {
			break
		}
		first = append(first, one)
	}
	if n := len(first) * maxPacketBytes; n > largeBytes/4 || n < largeBytes/8 {
		t.Errorf("one address holds %d bytes of %d", n, largeBytes)
	}
	other := from("192.0.2.2")
	if !c.hold(other, maxPacketBytes) {
		t.Error("another address is kept out")
	}
	for _, one := range append(first, other) {
		c.giveBack(one)
		c.leave(one)
	}
	if c.holds != 0 || len(c.held) != 0 {
		t.Errorf("%d bytes are held, by %d addresses", c.holds, len(c.held))
	}
}

// ends reports whether the server closes the connection long before a client that says
// nothing would be.
func ends(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(connectTimeout / 2))
	_, err := conn.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}
