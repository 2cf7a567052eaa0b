package web

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
)

const (
	// lingerTimeout and lingerBytes bound what is still read from a client
	// whose body was refused, so that it sees the answer: a socket that is
	// closed with unread data resets the connection, answer and all.
	lingerTimeout = 2 * time.Second
	lingerBytes   = 64 << 20
	// writeStep is how many bytes a client must take within writeTimeout: it may
	// read slowly, at 1 kB/s, but not stall.
	writeStep    = 64 << 10
	writeTimeout = 60 * time.Second
)

// A conn is a client's connection. It refuses what is no HTTP before the server
// sees it, lets the deadline of a long upload roll, and takes its place among all
// connections.
//
// With a rolling read deadline a long upload may take as long as it likes while a
// silent client is cut.
type conn struct {
	net.Conn
	all     *connections
	address netip.Addr
	// encrypted says that it is TLS.
	encrypted bool
	// waiting is since when, in Unix nanoseconds, the connection waits for a
	// request or for the rest of its head; 0 while one is served.
	waiting atomic.Int64
	// owed is the first byte of the large answer that the client has not read yet; the
	// lock of all is for it. hasUnsent reports whether there is one.
	owed      *byte
	hasUnsent atomic.Bool
	// progress is when it last took some of it, in Unix nanoseconds.
	progress atomic.Int64

	roll   atomic.Pointer[rolling] // nil: the server's deadline holds
	linger atomic.Bool
	closed atomic.Bool

	// These belong to the goroutine that serves the connection.
	passedOn *proxied // until it is known whose connection it is; nil: it is the other end's
	framing  framing
	failure  error // why nothing more can be read: also a *Problem
	peer     net.Addr
	text     string // of peer, which each request's line in the log has

	// Of the request that is served. fields are those that it has. caller is who asks: nil until that is known, and
	// where nobody is asked who they are. varies says that the answer's fields tell
	// already that it depends on the caller.
	caller *auth.Identity
	varies bool
	fields uint32 // bits, by [Field]
	// authorization is the value of that field, in the request's own memory; nil: none.
	authorization []byte
}

// peerText is the text of the other end's address.
func (c *conn) peerText(peer net.Addr) string {
	if c.peer != peer {
		c.peer, c.text = peer, peer.String()
	}
	return c.text
}

// rolling is how long the reads of one body may wait.
type rolling struct {
	stall  time.Duration
	pause  time.Duration
	paused func()

	began time.Time
	read  atomic.Int64 // bytes of the body so far
	waits atomic.Bool  // for the client
}

func (c *conn) Read(p []byte) (int, error) {
	if c.failure != nil {
		return 0, c.failure
	}
	between := c.framing.state == atRequestLine && len(c.framing.line) == 0
	if c.framing.state <= inFields {
		c.all.settle(c) // whatever was answered has been sent
		c.waiting.Store(time.Now().UnixNano())
	}
	if c.passedOn != nil {
		if c.failure = c.name(); c.failure != nil {
			return 0, c.failure
		}
	}
	n, err := c.readRolling(p)
	c.waiting.Store(0)
	if err != nil {
		c.failure = err
		if c.encrypted {
			answerPlain(err)
		}
	}
	good, refused := c.framing.check(p[:n])
	if refused == nil {
		return n, err
	}
	c.failure = refused
	c.linger.Store(true)
	if good > 0 || between {
		// The first byte of what is refused goes along: the server answers only
		// to a request that has begun.
		return good + 1, nil
	}
	return 0, refused
}

func (c *conn) readRolling(p []byte) (int, error) {
	r := c.roll.Load()
	if r == nil {
		return c.Conn.Read(p)
	}
	r.waits.Store(true)
	n, err := c.readPausing(r, p)
	r.waits.Store(false)
	r.read.Add(int64(n))
	return n, err
}

func (c *conn) readPausing(r *rolling, p []byte) (int, error) {
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

// The deadlines of a connection that was cut are nobody's concern: fasthttp panics
// where it cannot set one, and the next read or write fails anyhow.

func (c *conn) SetDeadline(t time.Time) error      { return c.unlessCut(c.Conn.SetDeadline(t)) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.unlessCut(c.Conn.SetReadDeadline(t)) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.unlessCut(c.Conn.SetWriteDeadline(t)) }

func (c *conn) unlessCut(err error) error {
	if c.closed.Load() {
		return nil
	}
	return err
}

// Write writes in steps, each with a deadline of its own, so that a large answer
// may take its time.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) <= writeStep {
		return c.Conn.Write(p)
	}
	written := 0
	for written < len(p) {
		if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[written:min(written+writeStep, len(p))])
		written += n
		c.progress.Store(time.Now().UnixNano())
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func (c *conn) Close() error {
	if c.linger.Load() && !c.closed.Load() {
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_ = c.SetReadDeadline(time.Now().Add(lingerTimeout))
			_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
		}
	}
	return c.cut()
}

// cut closes the connection at once. It may be called from anywhere.
func (c *conn) cut() error {
	if !c.closed.Swap(true) { // before it leaves: whoever takes later sees it
		c.all.leave(c)
	}
	return c.Conn.Close()
}

// isEncrypted reports whether the request came by HTTPS.
func isEncrypted(c *fiber.Ctx) bool {
	conn, ok := c.Context().Conn().(*conn)
	return ok && conn.encrypted
}
