// Package ingest is where points come in: HTTP → events → the bus. It is the
// first station of a point's way, and knows nothing of those after the queue.
//
// A 2xx answer says that all it counts is on disk. Where the queue is full or
// away, the answer says so at once for one point, and after queueStall without
// progress for many; a retry with the same ids, or the same Idempotency-Key,
// adds nothing twice. Memory stays flat for a body of any length: what the queue
// does not take is not read from the socket.
package ingest

import (
	"context"
	"log/slog"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"cairn/bus"
	"cairn/ingest/format"
)

const (
	// readStall is the longest silence in a body: a radio link in a tunnel.
	readStall = 30 * time.Second
	// flushAge is the longest that a row waits for others to share its envelope
	// while its client sends slowly.
	flushAge = time.Second
	// queueStall is how long an upload waits for a queue that takes nothing. It
	// is longer than a restart of the queue, shorter than a proxy's patience.
	queueStall = 30 * time.Second
	// pipelineDepth is how many envelopes of one upload may wait for the queue:
	// enough to hide one commit behind the decoding of the next rows.
	pipelineDepth = 4
	// maxUploads bounds the uploads that are read at once, and so their memory:
	// pipelineDepth+1 envelopes, a row and an 8 MiB window each at the worst.
	maxUploads = 64
	// uploadWait is how long an upload waits for its turn.
	uploadWait = 5 * time.Second
)

// A queue takes batches of events; *bus.Collector is one.
type queue interface {
	// Offer takes the batch or returns bus.ErrBusy at once.
	Offer(*bus.Batch) error
	// Enqueue waits for room until the context ends.
	Enqueue(context.Context, *bus.Batch) error
}

// limits are what tests shorten.
type limits struct {
	readStall, flushAge, queueStall, uploadWait time.Duration
	uploads                                     int
}

var defaultLimits = limits{
	readStall: readStall, flushAge: flushAge, queueStall: queueStall, uploadWait: uploadWait,
	uploads: maxUploads,
}

// A handler answers POST /point.
type handler struct {
	stop       context.Context //nolint:containedctx // the role's life, not a request's
	queue      queue
	log        *slog.Logger
	limits     limits
	uploads    chan struct{}
	metrics    metrics
	projection *projection
}

type metrics struct {
	accepted, rejected prometheus.Counter
}

// newHandler makes the handler. When stop ends, which is when the server begins
// to drain, uploads read no more format.Rows, hand over what they have read, and
// answer how far they got. The queue must go on until the server has drained.
func newHandler(stop context.Context, q queue, log *slog.Logger, r prometheus.Registerer, l limits) *handler {
	points := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_ingest_points_total",
		Help: "Points that came in, by what became of them: accepted is on disk.",
	}, []string{"result"})
	r.MustRegister(points)
	return &handler{
		stop: stop, queue: q, log: log, limits: l,
		uploads: make(chan struct{}, l.uploads), projection: newProjection(),
		metrics: metrics{accepted: points.WithLabelValues("accepted"), rejected: points.WithLabelValues("rejected")},
	}
}

// routes mounts the resource. Both paths have the same handler: POST /points is
// for those whose proxy can route by method.
func (h *handler) routes(r fiber.Router) {
	r.Post("/point", h.post)
	r.Post("/points", h.post)
}

// post takes points in; the content type says in which form.
//
//	POST /point
func (h *handler) post(c *fiber.Ctx) error {
	m, err := format.ReadType(string(c.Request().Header.ContentType()))
	if err != nil {
		c.Set(fiber.HeaderAccept, format.AcceptedTypes)
		return err
	}
	if m.Kind == format.JSON && !m.Coded() {
		return h.postPoint(c)
	}
	return h.postMany(c, m)
}
