package web

import (
	"net"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Detach answers 200 with the response's header fields, and a body that ends when the
// connection does. It takes the connection away from the server: its deadlines
// and its drain no longer hold, serve runs in a goroutine of its own, for as
// long as it likes, and the connection is closed when it returns. Whoever
// detaches must end by [Server.Stopping].
//
// Nothing of fasthttp's is kept meanwhile: a connection costs its socket and
// what serve holds.
func Detach(c *fiber.Ctx, serve func(net.Conn)) {
	head := detachedHead(c)
	c.Context().HijackSetNoResponse(true)
	c.Context().Hijack(func(hijacked net.Conn) {
		// fasthttp takes back its buffers when this returns, so what serves
		// must not go through its wrapper.
		if w, ok := hijacked.(interface{ UnsafeConn() net.Conn }); ok {
			hijacked = w.UnsafeConn()
		}
		go func() {
			defer hijacked.Close()
			_ = hijacked.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := hijacked.Write(head); err == nil {
				serve(hijacked)
			}
		}()
	})
}

// detachedHead is the response's head. fasthttp's own would say how the body
// ends with "Transfer-Encoding: identity", which RFC 9112 has no more.
func detachedHead(c *fiber.Ctx) []byte {
	head := []byte("HTTP/1.1 200 OK\r\nConnection: close\r\nDate: ")
	head = append(fasthttp.AppendHTTPDate(head, time.Now()), "\r\n"...)
	c.Response().Header.VisitAll(func(name, value []byte) {
		switch string(name) {
		case fiber.HeaderConnection, fiber.HeaderContentLength, fiber.HeaderDate:
			return
		}
		head = append(append(append(append(head, name...), ": "...), value...), "\r\n"...)
	})
	return append(head, "\r\n"...)
}
