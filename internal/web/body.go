package web

import (
	"errors"
	"io"

	"github.com/gofiber/fiber/v2"
)

// ErrBodyCut says that the connection ended before the body did.
var ErrBodyCut = errors.New("the connection ended before the body did")

// A Body reads a request's body. It fixes two things of fasthttp's stream: that
// gives a plain io.EOF where the client went away half-way, and, read again
// after the end of a chunked body, takes the next request for another chunk.
type Body struct {
	stream io.Reader
	conn   *conn
	length int64 // Content-Length; negative where the body is chunked
	read   int64
	err    error // sticky
}

type bodyKey struct{}

// RequestBody returns the request's body: the same one at every call. Only the
// handler of the request may read it.
func RequestBody(c *fiber.Ctx) *Body {
	if b, ok := c.Context().UserValue(bodyKey{}).(*Body); ok {
		return b
	}
	b := &Body{stream: c.Context().RequestBodyStream(), length: int64(c.Request().Header.ContentLength())}
	b.conn, _ = c.Context().Conn().(*conn)
	if b.stream == nil {
		b.err = io.EOF
	}
	c.Context().SetUserValue(bodyKey{}, b)
	return b
}

// Length is the Content-Length, negative where the client did not give one.
func (b *Body) Length() int64 { return b.length }

// Count is how many bytes were read so far.
func (b *Body) Count() int64 { return b.read }

// Err is why the body ended: nil while it has not, io.EOF after all of it.
func (b *Body) Err() error { return b.err }

// Read implements io.Reader. Its errors are io.EOF at the body's end,
// ErrBodyCut, or those of the connection.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.stream.Read(p)
	b.read += int64(n)
	if err == nil && b.read == b.length {
		err = io.EOF
	}
	if err != nil {
		err = b.reason(err)
	}
	b.err = err
	return n, err
}

// reason says why the stream ended. Where it is chunked, only the socket tells
// the end of the body from that of the connection: the last chunk says that it
// is the last, so nobody has to read on to the connection's end. And fasthttp
// hides the socket's errors in its own.
func (b *Body) reason(err error) error {
	switch {
	case err == io.EOF && b.read == b.length:
		return io.EOF
	case b.conn != nil && b.conn.failure == io.EOF, b.length >= 0 && err == io.EOF:
		return ErrBodyCut
	case b.conn != nil && b.conn.failure != nil:
		return b.conn.failure
	case b.length < 0 && err != io.EOF:
		return BadRequest("the chunks of the body cannot be read (RFC 9112, section 7.1)")
	}
	return err
}
