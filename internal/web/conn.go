package web

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	// lingerTimeout and lingerBytes bound what is still read from a client
	// whose body was refused, so that it sees the answer: a socket that is
	// closed with unread data resets the connection, answer and all.
	lingerTimeout = 2 * time.Second
	lingerBytes   = 64 << 20
)

// A listener hands out connections whose read deadline can roll: it then moves
// with every read, so that a long upload may take as long as it likes while a
// silent client is cut.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

type conn struct {
	net.Conn
	roll   atomic.Pointer[rolling] // nil: the server's deadline holds
	linger atomic.Bool
	// failure is why nothing more can be read. It belongs to the goroutine
	// that serves the connection.
	failure error
}

// rolling is how long the reads of one body may wait.
type rolling struct {
	stall  time.Duration
	pause  time.Duration
	paused func()
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.readRolling(p)
	if err != nil {
		c.failure = err
	}
	return n, err
}

func (c *conn) readRolling(p []byte) (int, error) {
	r := c.roll.Load()
	if r == nil {
		return c.Conn.Read(p)
	}
	if r.paused != nil {
		n, err := c.readWithin(p, r.pause)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		r.paused()
	}
	return c.readWithin(p, r.stall)
}

func (c *conn) readWithin(p []byte, d time.Duration) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *conn) Close() error {
	if c.linger.Load() {
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_ = c.SetReadDeadline(time.Now().Add(lingerTimeout))
			_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
		}
	}
	return c.Conn.Close()
}
