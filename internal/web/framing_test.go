package web

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
)

const body28 = `{"longitude":1,"latitude":2}`

// heads are requests that two programs could understand in two ways, or that are
// no HTTP/1.1; and, with status 0, some that are.
var heads = []struct {
	name, raw string
	status    int
}{
	{"plain", "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n", 0},
	{"an old one", "GET /echo HTTP/1.0\r\n\r\n", 0},
	{"blank line before it", "\r\nGET /echo HTTP/1.1\r\nHost: x:8080\r\n\r\n", 0},
	{"whole URL", "GET http://x/echo HTTP/1.1\r\nHost: x\r\n\r\n", 0},
	{"UTF-8 in the query", "GET /echo?name=Zürich HTTP/1.1\r\nHost: [::1]:80\r\nUser-Agent: \xe4\t\r\n\r\n", 0},
	{"length", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\n" + body28, 0},
	{"chunks", "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding:\tChunked\r\n\r\n5;a=b\r\n{\"lon\r\n17\r\ngitude\":1,\"latitude\":2}\r\n0\r\n\r\n", 0},
	{"two lengths", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\nContent-Length: 5\r\n\r\n" + body28, 400},
	{"the same length twice", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\nContent-Length: 28\r\n\r\n" + body28, 400},
	{"a list of lengths", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 28, 28\r\n\r\n" + body28, 400},
	{"a length with a sign", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +28\r\n\r\n" + body28, 400},
	{"a length beyond numbers", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551644\r\n\r\n" + body28, 400},
	{"an empty length", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400},
	{"length and chunks", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"another coding", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
	{"chunked twice", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501},
	{"identity", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\nContent-Length: 28\r\n\r\n" + body28, 501},
	{"a coding and a comma", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 501},
	{"a coding with a parameter", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 501},
	{"a quoted coding", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501},
	{"a vertical tab before a coding", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
	{"a folded coding", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 501},
	{"two codings", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400},
	{"chunks in an old one", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"space before the colon", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 28\r\n\r\n" + body28, 400},
	{"folded", "GET /echo HTTP/1.1\r\nHost: x\r\nA: 1\r\n b\r\n\r\n", 400},
	{"LF alone", "GET /echo HTTP/1.1\nHost: x\n\n", 400},
	{"CR alone", "GET /echo HTTP/1.1\r\nHost: x\r\nA: 1\rContent-Length: 5\r\n\r\n", 400},
	{"NUL", "GET /echo HTTP/1.1\r\nHost: x\r\nA: 1\x002\r\n\r\n", 400},
	{"no colon", "GET /echo HTTP/1.1\r\nHost: x\r\nAccept\r\n\r\n", 400},
	{"no host", "GET /echo HTTP/1.1\r\n\r\n", 400},
	{"two hosts", "GET /echo HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400},
	{"two who ask", "GET /echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n", 400},
	{"two hosts in one", "GET /echo HTTP/1.1\r\nHost: x, y\r\n\r\n", 400},
	{"no version", "GET /echo\r\n\r\n", 400},
	{"a later version", "GET /echo HTTP/2.0\r\nHost: x\r\n\r\n", 505},
	{"a space in the target", "GET /echo ?a HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a whole URL with its port", "GET http://X:80/echo HTTP/1.1\r\nHost: x\r\n\r\n", 0},
	{"a whole URL of https", "GET HTTPS://x/echo?a=http://y/ HTTP/1.1\r\nHost: x:443\r\n\r\n", 0},
	{"a whole URL of another host", "GET http://y/echo HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a whole URL of another port", "GET http://x:81/echo HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a whole URL with a user", "GET http://x@y/echo HTTP/1.1\r\nHost: y\r\n\r\n", 400},
	{"a whole URL without a host", "GET http:///echo HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a whole URL of another kind", "GET file://x/echo HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"no path", "GET echo HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"an asterisk", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"as many fields as may be", "GET /echo HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", maxFields-1) + "\r\n", 0},
	{"a field more", "GET /echo HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", maxFields) + "\r\n", 431},
	{"expects what nobody knows", "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 28\r\n\r\n" + body28, 417},
	{"a tunnel", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501},
	{"a read with a body", "GET /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde", 400},
	{"a longer chunk", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n", 400},
	{"a chunk of 0x5", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n", 400},
	{"a chunk beyond numbers", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nabcde\r\n0\r\n\r\n", 400},
	{"LF alone behind a chunk's size", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n", 400},
	{"a long chunk extension", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("a", maxChunkLine) + "\r\nabcde\r\n0\r\n\r\n", 400},
	{"a chunk of a negative size", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n", 400},
	{"endless trailers", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("A: b\r\n", maxHeadBytes/6+1) + "\r\n", 400},
	{"NUL in the target", "GET /ec\x00ho HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"the beginning of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	{"the beginning of TLS", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\n\r\n", 400},
	{"a trailer", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n", 0},
	{"a trailer that frames", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", 400},
	{"a trailer like a chunk", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n0: b\r\n\r\n", 400},
	{"a long field", "GET /echo HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", maxHeadBytes) + "\r\n\r\n", 431},
}

// Each is answered or refused by a real server, behind a request that is in order
// and in front of one that must not be answered after a refusal; whole, and a
// byte at a time.
func TestFraming(t *testing.T) {
	address := echoServer(t)
	const before, after = "GET /echo HTTP/1.1\r\nHost: first\r\n\r\n", "GET /echo HTTP/1.1\r\nHost: last\r\n\r\n"
	for _, tt := range heads {
		t.Run(tt.name, func(t *testing.T) {
			for _, whole := range []bool{true, false} {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				go send(conn, before+tt.raw+after, whole)
				answers := bufio.NewReader(conn)
				statuses, bodies := readAnswers(t, answers, tt.status)
				want := []int{200, tt.status}
				if tt.status == 0 {
					want = []int{200, 200, 200}
					if strings.HasPrefix(tt.raw, "GET /echo HTTP/1.0") {
						want = want[:2] // it is the last of its connection
					}
				}
				if !slices.Equal(statuses, want) {
					t.Errorf("whole %v: the answers are %v, want %v\n%s", whole, statuses, want, bodies)
				}
				if tt.status != 0 && (strings.Contains(bodies, "18446744073709551644") || strings.Contains(bodies, "BREW")) {
					t.Errorf("the refusal repeats what was sent: %s", bodies)
				}
			}
		})
	}
}

func send(conn net.Conn, text string, whole bool) {
	step := len(text)
	if !whole {
		step = 1
	}
	for len(text) > 0 {
		n := min(step, len(text))
		if _, err := io.WriteString(conn, text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

// readAnswers reads three answers, or until the connection ends.
func readAnswers(t *testing.T, r *bufio.Reader, refusal int) (statuses []int, bodies string) {
	t.Helper()
	for len(statuses) < 3 {
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			break
		}
		text, err := io.ReadAll(a.Body)
		if err != nil {
			break
		}
		statuses = append(statuses, a.StatusCode)
		bodies += string(text)
		if a.StatusCode == refusal && !a.Close {
			t.Error("a refusal does not close")
		}
	}
	return statuses, bodies
}

// echoServer answers with what it got, until the test ends.
func echoServer(t *testing.T) string {
	t.Helper()
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	echo := func(c *fiber.Ctx) error {
		b := RequestBody(c)
		text, err := io.ReadAll(b)
		if err != nil {
			return err
		}
		return c.SendString(c.Hostname() + string(text))
	}
	s.Mount(Role{Name: "some", Routes: []Route{
		{Method: http.MethodGet, Path: "/echo", Scope: auth.Read, Handler: echo}, {Method: http.MethodPost, Path: "/echo", Scope: auth.Write, Handler: echo}}, Ready: func() error { return nil }})
	run(t, s)
	return s.Addr()
}

// Whatever comes is judged the same in one piece and in two; and what is let
// through is what another parser finds in it.
func FuzzFraming(f *testing.F) {
	for _, h := range heads {
		f.Add([]byte(h.raw), uint16(7))
	}
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		var whole, parts framing
		_, refused := whole.check(raw)
		at := min(int(cut), len(raw))
		_, first := parts.check(raw[:at])
		if first == nil {
			_, first = parts.check(raw[at:])
		}
		if (refused == nil) != (first == nil) {
			t.Fatalf("whole: %v; in two: %v", refused, first)
		}
		if refused != nil || whole.state != atRequestLine || len(whole.line) > 0 || len(raw) == 0 {
			return
		}
		r := bufio.NewReader(bytes.NewReader(raw))
		for {
			for {
				if b, err := r.Peek(2); err != nil || string(b) != "\r\n" {
					break
				}
				_, _ = r.Discard(2)
			}
			if _, err := r.Peek(1); err != nil {
				return
			}
			request, err := http.ReadRequest(r)
			if err != nil {
				return // that parser wants more, of URLs
			}
			if _, err := io.Copy(io.Discard, request.Body); err != nil {
				t.Fatalf("let through, but its body ends with %v", err)
			}
		}
	})
}

// A method that no route has is told which there are, whatever it is called, and the
// connection continues.
func TestOtherMethods(t *testing.T) {
	conn, err := net.Dial("tcp", echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	answers := bufio.NewReader(conn)
	for _, tt := range []struct {
		head, allow string
		status      int
	}{
		{"TRACE /echo", "GET, HEAD, POST, OPTIONS", 405},
		{"BREW /echo", "GET, HEAD, POST, OPTIONS", 405},
		{"get /echo", "GET, HEAD, POST, OPTIONS", 405},
		{"OTHER /echo", "GET, HEAD, POST, OPTIONS", 405},
		{"BREW /none", "", 404},
		{"GET /echo", "", 200},
	} {
		t.Run(tt.head, func(t *testing.T) {
			send(conn, tt.head+" HTTP/1.1\r\nHost: x\r\n\r\n", true)
			a, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(a.Body)
			if err != nil || a.StatusCode != tt.status || a.Header.Get("Allow") != tt.allow || strings.Contains(string(text), "BREW") {
				t.Errorf("%d, Allow %q, %s (%v); want %d, %q", a.StatusCode, a.Header.Get("Allow"), text, err, tt.status, tt.allow)
			}
		})
	}
}

// A head that comes whole costs no memory.
func TestFramingAllocatesNothing(t *testing.T) {
	var f framing
	head := []byte("POST /point HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n" + body28)
	if n := testing.AllocsPerRun(100, func() {
		if _, refused := f.check(head); refused != nil {
			t.Fatal(refused)
		}
	}); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// A value is looked at in steps of eight bytes: each byte at each place of a step and
// behind the last must be judged as it is alone.
func TestTextOfAValue(t *testing.T) {
	for b := range 256 {
		for n := 1; n <= 20; n++ {
			for at := range n {
				text := bytes.Repeat([]byte{'x'}, n)
				text[at] = byte(b)
				want := b >= ' ' && b != 0x7f || b == '\t'
				if got := isText(text); got != want {
					t.Fatalf("%q: %v", text, got)
				}
			}
		}
	}
	for _, text := range []string{"\ta\x80b\xffc\td", "\x80\x80\x80\x80\x80\x80\x80\x80", "\t\t\t\t\t\t\t\t"} {
		if !isText([]byte(text)) {
			t.Errorf("%q is refused", text)
		}
	}
}

func BenchmarkFraming(b *testing.B) {
	var f framing
	head := []byte("POST /point HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n" + body28)
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		if _, refused := f.check(head); refused != nil {
			b.Fatal(refused)
		}
	}
}
