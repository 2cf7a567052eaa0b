package web

import (
	"net"
	"syscall"
)

// HasLeft reports whether the client of a request's connection has closed its end, or is
// known to be gone. It reads nothing: what was sent already is the next request's. As in
// other servers, a client that closes only its sending side counts as gone.
func HasLeft(c net.Conn) bool {
	conn, ok := c.(*conn)
	if !ok {
		return false
	}
	socket, ok := socketOf(conn.Conn).(syscall.Conn)
	if !ok {
		return conn.closed.Load()
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	left := false
	err = raw.Control(func(fd uintptr) { left = hungUp(int(fd)) }) //nolint:gosec // a file's number
	return left || err != nil                                      // it was closed on this side
}

// socketOf is what is below TLS and the PROXY protocol.
func socketOf(c net.Conn) net.Conn {
	for {
		switch over := c.(type) {
		case interface{ NetConn() net.Conn }: // *tls.Conn
			c = over.NetConn()
		case proxied:
			c = over.Raw()
		default:
			return c
		}
	}
}
