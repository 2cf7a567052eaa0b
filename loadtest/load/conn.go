package load

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A conn counts what goes over the wire, and remembers why reading ended: the
// HTTP parser takes a connection that was reset in the middle of a body for a
// complete answer.
type conn struct {
	net.Conn
	in, out int64 // bytes since they were last taken
	readErr error
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in += int64(n)
	if err != nil {
		c.readErr = err
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out += int64(n)
	return n, err
}

// stale says whether an idle connection is of no use any more: the target has
// closed it while the user was thinking. A browser looks, too, and takes a new
// one; that is no failure of the target.
func (c *conn) stale() bool {
	raw := c.Conn
	encrypted, ok := raw.(*tls.Conn)
	if ok {
		raw = encrypted.NetConn()
	}
	sys, ok := raw.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sys.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN):
		case err != nil, n == 0:
			gone = true
		default: // TLS may send tickets; in plain HTTP nothing is due
			gone = encrypted == nil
		}
		return true
	})
	return gone || err != nil
}

// A network opens connections and knows all that are open, so that the end of
// the run can bound every request that is still under way.
type network struct {
	dial func(context.Context) (net.Conn, error)

	end  atomic.Pointer[time.Time] // nothing lasts beyond it
	mu   sync.Mutex
	open map[*conn]struct{}
}

func newNetwork(t Target) *network {
	n := &network{dial: t.Dial, open: map[*conn]struct{}{}}
	if n.dial == nil {
		n.dial = dialer(t.URL)
	}
	return n
}

func dialer(u *url.URL) func(context.Context) (net.Conn, error) {
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	var plain net.Dialer
	if u.Scheme != "https" {
		return func(ctx context.Context) (net.Conn, error) { return plain.DialContext(ctx, "tcp", address) }
	}
	encrypted := tls.Dialer{NetDialer: &plain, Config: &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}}}
	return func(ctx context.Context) (net.Conn, error) { return encrypted.DialContext(ctx, "tcp", address) }
}

// connect opens a connection, at the latest until the deadline.
func (n *network) connect(deadline time.Time) (*conn, error) {
	ctx, cancel := context.WithDeadline(context.Background(), n.bound(deadline))
	defer cancel()
	raw, err := n.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open[c] = struct{}{}
	return c, nil
}

func (n *network) close(c *conn) {
	if c == nil {
		return
	}
	_ = c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
}

// arm sets the deadline of a request. It looks at the end of the run again
// afterwards, because finish may have passed by in between.
func (n *network) arm(c *conn, deadline time.Time) {
	_ = c.SetDeadline(n.bound(deadline))
	if n.end.Load() != nil {
		_ = c.SetDeadline(n.bound(deadline))
	}
}

func (n *network) bound(deadline time.Time) time.Time {
	if end := n.end.Load(); end != nil && end.Before(deadline) {
		return *end
	}
	return deadline
}

// finish lets no request last beyond end.
func (n *network) finish(end time.Time) {
	n.end.Store(&end)
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.open {
		_ = c.SetDeadline(end)
	}
}

func (n *network) finishing() bool { return n.end.Load() != nil }

// cut says whether reading ended for another reason than that all was read.
func (c *conn) cut() bool { return c.readErr != nil && !errors.Is(c.readErr, io.EOF) }
