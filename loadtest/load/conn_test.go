package load

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// raw serves each connection with the function, over real sockets.
func raw(t *testing.T, serve func(net.Conn)) Target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return Target{URL: &url.URL{Scheme: "http", Host: l.Addr().String()}, Timeout: 10 * time.Second}
}

func one(t *testing.T, c *caller) reply {
	t.Helper()
	x := exchanges.Get().(*exchange)
	defer x.release()
	return c.do(x, ask{method: http.MethodGet, uri: "/points"})
}

func readHead(c net.Conn) {
	r := bufio.NewReader(c)
	for line, err := r.ReadString('\n'); err == nil && line != "\r\n"; line, err = r.ReadString('\n') {
	}
}

func TestAConnectionClosedWhileThinkingIsNoFailure(t *testing.T) {
	target := raw(t, func(c net.Conn) {
		readHead(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		_ = c.Close() // without having said so
	})
	c := caller{target: &target, net: newNetwork(target)}
	defer c.close()
	for range 3 {
		if p := one(t, &c); p.err != nil || p.status != http.StatusOK {
			t.Fatalf("%+v", p)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		for c.conn != nil && !c.conn.stale() { // until the end of the connection is here
			if ctx.Err() != nil {
				t.Fatal("the closed connection looks open")
			}
		}
		cancel()
	}
}

func TestAnAnswerCutShortIsAFailure(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn){
		"closed": func(c *net.TCPConn) { _ = c.Close() },
		"reset":  func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
	} {
		for _, head := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
			target := raw(t, func(c net.Conn) {
				readHead(c)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head+"\r\n\r\n3e8\r\nthe beginning")
				end(c.(*net.TCPConn))
			})
			c := caller{target: &target, net: newNetwork(target)}
			p := one(t, &c)
			if what := failureOf(GetNewest, p, target.Timeout, false); what == "" || c.conn != nil {
				t.Errorf("%s, %s: %+v counts as a good answer", name, head, p)
			}
		}
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := Target{URL: &url.URL{Scheme: "http", Host: l.Addr().String()}, Timeout: time.Second}
	_ = l.Close()
	c := caller{target: &target, net: newNetwork(target)}
	if what := failureOf(GetNewest, one(t, &c), target.Timeout, false); what != "connect: connection refused" {
		t.Errorf("%q", what)
	}
}

// A real clock and a real socket: no more than that the delay is at least what
// it is can be said without luck.
func TestARealDelayIsNotBelowItself(t *testing.T) {
	const delay = 30 * time.Millisecond
	target := raw(t, func(c net.Conn) {
		for {
			readHead(c)
			<-time.After(delay)
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
	})
	r, err := Run(t.Context(), Config{
		Target: target, Mix: Mix{Get: 1, Newest: 1, GetPath: "/points"},
		Plan: Plan{Users: 2, Duration: 300 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	if low := float64(delay.Milliseconds()); r.All.Requests == 0 || r.All.Min < 0.999*low || r.All.Failures > 0 {
		t.Errorf("%+v", r.All)
	}
}
