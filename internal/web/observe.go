package web

import (
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// drainBytes is how much of a body that its handler did not want is read, so
// that the connection can serve on; beyond that it is closed.
const drainBytes = 256 << 10

type requestMetrics struct {
	seconds *prometheus.HistogramVec
}

func newRequestMetrics(r prometheus.Registerer) *requestMetrics {
	m := &requestMetrics{seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "cairn_http_request_seconds",
		Help:    "Time from the end of a request's head to its answer.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600},
	}, []string{"method", "route", "status"})}
	r.MustRegister(m.seconds)
	return m
}

// No answer is to be taken for something else than its type says: a page, or a script of
// one (Fetch, section 3.6). As fasthttp keeps them: see fieldVary.
var (
	fieldTypeOptions = []byte(fiber.HeaderXContentTypeOptions)
	noSniff          = []byte("nosniff")
)

// observe wraps every request: it turns errors into problems, takes care of unread
// bodies, and writes the log line and the metrics.
func (s *Server) observe(c *fiber.Ctx) error {
	start := time.Now()
	c.Response().Header.SetCanonical(fieldTypeOptions, noSniff)
	err := c.Next()
	if err != nil {
		if err2 := c.App().Config().ErrorHandler(c, err); err2 != nil {
			return err2
		}
	}
	finishBody(c)
	s.owe(c)
	end := time.Now()
	took := end.Sub(start)
	status := c.Response().StatusCode()
	s.metrics.seconds.WithLabelValues(methodLabel(c.Method()), c.Route().Path, strconv.Itoa(status)).Observe(took.Seconds())

	level := slog.LevelInfo
	if status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	if !s.cfg.Log.Enabled(c.Context(), level) {
		return nil
	}
	attrs := [...]slog.Attr{
		slog.String("method", c.Method()),
		slog.String("path", c.Path()),
		slog.Int("status", status),
		slog.Duration("took", took),
		slog.Int("in", max(c.Request().Header.ContentLength(), 0)),
		slog.Int("out", len(bodyOf(c))),
		slog.String("from", fromOf(c)),
		{},
	}
	n := len(attrs) - 1
	if err != nil {
		attrs[n] = slog.String("error", err.Error())
		n++
	}
	// Not by the Logger, which looks first for where in the program it was called.
	record := slog.NewRecord(end, level, "request", 0)
	record.AddAttrs(attrs[:n]...)
	_ = s.cfg.Log.Handler().Handle(c.Context(), record) // as with a Logger
	return nil
}

// bodyOf is the answer's body, if it is one in memory: to ask for one that is made
// while it is sent would read all of it.
func bodyOf(c *fiber.Ctx) []byte {
	if c.Response().IsBodyStream() {
		return nil
	}
	return c.Response().Body()
}

// addUnsent makes an answer of which there is no room to wait for its client a refusal.
func (s *Server) owe(c *fiber.Ctx) {
	body := bodyOf(c)
	if len(body) < largeAnswer {
		return
	}
	conn, ok := c.Context().Conn().(*conn)
	if !ok || conn.all.addUnsent(conn, body) {
		return
	}
	c.Response().Reset()
	c.Response().Header.SetCanonical(fieldTypeOptions, noSniff)
	_ = writeProblem(c, Unavailable("too many answers wait for clients that read slowly", time.Second))
}

// methodLabel is the method as a constant. Fiber's string is the request's own
// buffer, which the next request overwrites, while a metric keeps its labels; and
// a client may send any word.
func methodLabel(method string) string {
	for _, known := range fiber.DefaultMethods {
		if method == known {
			return known
		}
	}
	return "other"
}

// finishBody leaves nothing of a body in front of the next request: fasthttp
// would take what the handler did not read for a request of its own, which
// behind a proxy that shares connections is another user's.
func finishBody(c *fiber.Ctx) {
	if c.Context().RequestBodyStream() == nil {
		return
	}
	body := RequestBody(c)
	if body.err == io.EOF {
		return
	}
	conn, ok := c.Context().Conn().(*conn)
	if ok { // a slow client must not wait for an answer that is ready
		_ = conn.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	// One byte more than allowed, so that a body of just that size ends.
	if _, err := io.CopyN(io.Discard, body, drainBytes+1); err == io.EOF {
		return
	}
	c.Context().Response.SetConnectionClose()
	if ok {
		conn.linger.Store(true)
	}
}

// RollDeadline lets the request's body take as long as it likes, provided that
// no single read waits longer than stall. A read that has waited for pause
// calls paused, if there is one, in the handler's goroutine, and waits on. Call
// the result when the body ends.
func RollDeadline(c *fiber.Ctx, stall, pause time.Duration, paused func()) (done func()) {
	conn, ok := c.Context().Conn().(*conn)
	if !ok {
		return func() {}
	}
	conn.roll.Store(&rolling{stall: stall, pause: pause, paused: paused, began: time.Now()})
	return func() { conn.roll.Store(nil) }
}

// MakeRoom ends the upload that comes most slowly, if there is one that is too slow: for
// whoever waits for its place.
func MakeRoom(c *fiber.Ctx) {
	if conn, ok := c.Context().Conn().(*conn); ok {
		conn.all.cutSlow(time.Now())
	}
}
