package web

import (
	"io"
	"net"
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
	stall  atomic.Int64 // time.Duration of silence allowed; 0: the server's deadline holds
	linger atomic.Bool
}

func (c *conn) Read(p []byte) (int, error) {
	if stall := time.Duration(c.stall.Load()); stall > 0 {
		if err := c.SetReadDeadline(time.Now().Add(stall)); err != nil {
			return 0, err
		}
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
