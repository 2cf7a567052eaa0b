package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"cairn/internal/testrig"
)

// An attacker has an address of its own, and a key that lets it read and write.
type attacker struct {
	n         int
	base, key string
}

// attackFor is how long each attack is held.
const attackFor = 4 * time.Second

// attacks are one of each kind.
var attacks = []struct {
	name string
	run  func(context.Context, *attacker)
}{
	{"silent connections", func(ctx context.Context, a *attacker) { a.hold(ctx, 300, "", "") }},
	{"half a request line", func(ctx context.Context, a *attacker) { a.hold(ctx, 200, "GE", "T") }},
	{"creeping heads", func(ctx context.Context, a *attacker) {
		a.hold(ctx, 100, "GET / HTTP/1.1\r\nHost: x\r\n", "X: y\r\n")
	}},
	{"creeping uploads", func(ctx context.Context, a *attacker) {
		a.hold(ctx, 100, a.head("POST", "/point", "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked")+"1\r\n\n\r\n", "1\r\n\n\r\n")
	}},
	{"bodies that never come", func(ctx context.Context, a *attacker) {
		a.hold(ctx, 100, a.head("POST", "/point", "Content-Type: application/json", "Content-Length: 1000", "Expect: 100-continue"), "")
	}},
	{"endless chunk extensions", func(ctx context.Context, a *attacker) {
		a.hold(ctx, 50, a.head("POST", "/point", "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked")+"1;", "a=b;")
	}},
	{"endless trailers", func(ctx context.Context, a *attacker) {
		a.hold(ctx, 50, a.head("POST", "/point", "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked")+"0\r\n", "X: y\r\n")
	}},
	{"unread pages", func(ctx context.Context, a *attacker) {
		a.holdEach(ctx, 40, func(i int) string {
			return a.head("GET", fmt.Sprintf("/points?name=large&limit=1000&bbox=-1,0,180.%d,90", i))
		})
	}},
	{"unread streams", func(ctx context.Context, a *attacker) { a.hold(ctx, 60, a.head("GET", "/stream?since=0"), "") }},
	{"unread downloads", func(ctx context.Context, a *attacker) { a.hold(ctx, 4, a.head("GET", "/points.ndjson"), "") }},
	{"streams from nowhere", func(ctx context.Context, a *attacker) {
		a.hold(ctx, 40, a.head("GET", "/stream", "Accept: text/event-stream", "Last-Event-ID: "+strings.Repeat("9", 400)), "")
	}},
	{"pipelined floods", func(ctx context.Context, a *attacker) {
		a.hold(ctx, 5, strings.Repeat(a.head("GET", "/livez"), 2000), "")
	}},
	{"huge heads", func(ctx context.Context, a *attacker) {
		a.hold(ctx, 20, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", 200_000), "")
	}},
	{"wrong keys", func(ctx context.Context, a *attacker) {
		wrong := &attacker{n: a.n, base: a.base, key: "cairn_wrong"}
		a.hold(ctx, 20, strings.Repeat(wrong.head("GET", "/points"), 50), "")
	}},
	{"smuggled requests", func(ctx context.Context, a *attacker) {
		shapes := smuggled(a)
		a.holdEach(ctx, len(shapes), func(i int) string { return shapes[i] })
	}},
}

// smuggled are requests that two programs could understand in two ways, and things that
// are no HTTP/1.1.
func smuggled(a *attacker) []string {
	get := a.head("GET", "/livez")
	return []string{
		a.head("POST", "/point", "Content-Length: 4", "Transfer-Encoding: chunked") + "0\r\n\r\n" + get,
		a.head("POST", "/point", "Content-Length: 4", "Content-Length: 5") + "12345" + get,
		a.head("POST", "/point", "Transfer-Encoding: chunked, chunked") + "0\r\n\r\n" + get,
		a.head("POST", "/point", "Transfer-Encoding: identity", "Content-Length: 1") + "1" + get,
		a.head("POST", "/point", "X: a\r\n b", "Content-Length: 1") + "1" + get,
		a.head("POST", "/point", "Transfer-Encoding: chunked") + "FFFFFFFFFFFFFFFFF\r\n" + get,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "GET /\r\n\r\n",
		a.head("GET", "/stream", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"),
	}
}

func (a *attacker) head(method, path string, fields ...string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + a.key + "\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

// hold opens connections, says something on each, adds a bit periodically, and reads
// nothing.
func (a *attacker) hold(ctx context.Context, connections int, say, bit string) {
	a.holdWith(ctx, connections, func(int) string { return say }, bit)
}

func (a *attacker) holdEach(ctx context.Context, connections int, say func(int) string) {
	a.holdWith(ctx, connections, say, "")
}

func (a *attacker) holdWith(ctx context.Context, connections int, say func(int) string, bit string) {
	ctx, cancel := context.WithTimeout(ctx, attackFor)
	defer cancel()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+a.n))}, Timeout: time.Second}
	var open []net.Conn
	for i := 0; i < connections && ctx.Err() == nil; i++ {
		conn, err := from.DialContext(ctx, "tcp", strings.TrimPrefix(a.base, "http://"))
		if err != nil {
			_ = testrig.Pause(ctx, soakPause) // it restarts, or has enough of us
			continue
		}
		defer conn.Close()
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(conn, say(i))
		open = append(open, conn)
	}
	for bit != "" && ctx.Err() == nil {
		for _, conn := range open {
			_, _ = io.WriteString(conn, bit)
		}
		_ = testrig.Pause(ctx, time.Second)
	}
	<-ctx.Done()
}
