package load

import (
	"bufio"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// bufferBytes is what is read or written at once. Larger bodies are read
// straight into their place.
const bufferBytes = 16 << 10

// userAgent says who the caller is, in the target's log.
const userAgent = "cairn-loadtest"

// An exchange is a request and its answer. Users have one only while they are
// asking, so that thousands who think cost little memory.
type exchange struct {
	req fasthttp.Request
	res fasthttp.Response
	r   *bufio.Reader
	w   *bufio.Writer
	// body is where a body to send is put together.
	body []byte
}

var exchanges = sync.Pool{New: func() any {
	return &exchange{r: bufio.NewReaderSize(nil, bufferBytes), w: bufio.NewWriterSize(nil, bufferBytes)}
}}

func (x *exchange) release() {
	x.req.Reset()
	x.res.Reset()
	x.r.Reset(nil)
	x.w.Reset(nil)
	exchanges.Put(x)
}

// An ask is what is asked.
type ask struct {
	method string
	uri    string // path and query, as the target has them
	media  string // of the body
	body   []byte
	etag   string // for If-None-Match
	plain  bool   // no Accept-Encoding, because the answer is to be read here
}

// A caller holds one connection, as a browser or a Locust user does, and sends
// one request after the other over it.
type caller struct {
	target *Target
	net    *network
	conn   *conn
}

func (c *caller) close() {
	c.net.close(c.conn)
	c.conn = nil
}

// A reply is what came back.
type reply struct {
	status  int
	in, out int64 // bytes on the wire
	err     error // there is no complete answer
}

// do sends the ask and reads the answer into x.res, whole. The connection stays
// open for the next, unless the target or an error says otherwise.
func (c *caller) do(x *exchange, a ask) (p reply) {
	deadline := time.Now().Add(c.target.Timeout)
	if c.conn != nil && c.conn.stale() {
		c.close()
	}
	if c.conn == nil {
		if c.conn, p.err = c.net.connect(deadline); p.err != nil {
			p.err = &connectError{p.err}
			return p
		}
	}
	conn := c.conn
	c.net.arm(conn, deadline)
	c.fill(&x.req, a)
	x.r.Reset(conn)
	x.w.Reset(conn)
	p.err = x.req.Write(x.w)
	if p.err == nil {
		p.err = x.w.Flush()
	}
	if p.err == nil {
		p.err = x.res.ReadLimitBody(x.r, BodyLimit)
	}
	if p.err == nil && conn.cut() {
		p.err = conn.readErr
	}
	p.status = x.res.StatusCode()
	p.in, p.out = conn.in, conn.out
	conn.in, conn.out = 0, 0
	if p.err != nil || x.res.ConnectionClose() || x.r.Buffered() > 0 {
		c.close()
	}
	return p
}

func (c *caller) fill(req *fasthttp.Request, a ask) {
	req.Reset()
	h := &req.Header
	h.SetMethod(a.method)
	h.SetRequestURI(a.uri)
	h.SetHost(c.target.URL.Host)
	h.SetUserAgent(userAgent)
	if c.target.AcceptEncoding != "" && !a.plain {
		h.Set("Accept-Encoding", c.target.AcceptEncoding)
	}
	if a.etag != "" {
		h.Set("If-None-Match", a.etag)
	}
	if a.body != nil {
		h.SetContentType(a.media)
		req.SetBodyRaw(a.body)
	}
	for _, field := range c.target.Header {
		h.Set(field[0], field[1])
	}
}
