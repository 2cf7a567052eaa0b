// Package ingest accepts points: HTTP → events → the bus. It is the first stage of
// a point's path, and depends on nothing after the queue.
//
// A 2xx answer says that everything it counts is on disk. If the queue is full or
// unreachable, the answer says so at once for one point, and after queueStall without
// progress for many; a retry with the same ids, or the same Idempotency-Key, adds
// nothing twice. Memory is constant for a body of any length: what the queue does
// not accept is not read from the socket.
package ingest

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"cairn/bus"
	"cairn/ingest/device"
	"cairn/ingest/format"
	"cairn/internal/auth"
	"cairn/internal/web"
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
	// addressUploads is the part of them that one client address may have: a quarter.
	addressUploads = 4
	// roomEvery is how often an upload that waits for its turn has another that
	// is too slow ended.
	roomEvery = 100 * time.Millisecond
	// uploadWait is how long an upload waits for its turn.
	uploadWait = 5 * time.Second
)

// limits are what tests shorten.
type limits struct {
	readStall, flushAge, queueStall, uploadWait time.Duration
	uploads                                     int
}

var defaultLimits = limits{
	readStall: readStall, flushAge: flushAge, queueStall: queueStall, uploadWait: uploadWait,
	uploads: maxUploads,
}

// A handler answers what is under /point.
type handler struct {
	stop    context.Context //nolint:containedctx // the role's life, not a request's
	submit  *Submitter
	log     *slog.Logger
	limits  limits
	uploads chan struct{}
	holding atomic.Int64 // bytes; see hold
	shares  *web.Shares  // of them
	memory  *memory
	// forms are what /point/from/{program} understands.
	forms device.Forms
	// read asks for a point as it is in the database.
	read func(context.Context, uuid.UUID) (bus.Stored, error)
	// changeResource passes on a change of a fence or a hook.
	changeResource func(context.Context, bus.ResourceChange) (bus.ResourceResult, error)
	// lastSequence is that of the newest message that is acknowledged.
	lastSequence func(context.Context) (uint64, error)
	// base is what absolute links of an answer begin with.
	base func(*fiber.Ctx) string
	// prefix is its path, which stands before those of this server.
	prefix func(*fiber.Ctx) string
	// requireConditions refuses changes without If-Match or If-None-Match.
	requireConditions bool
}

// newHandler makes the handler. It can ask nobody until the caller says whom: by
// read, keep, lastSequence and those of memory. When
// stop ends, which is when the server begins to drain, uploads read no more rows,
// hand over what they have read, and answer how far they got. The queue must continue
// until the server has drained.
func newHandler(stop context.Context, q queue, log *slog.Logger, r prometheus.Registerer, l limits) *handler {
	nobody := func(context.Context, uuid.UUID) (bus.Stored, error) { return bus.Stored{}, bus.ErrReadsUnavailable }
	unknown := func(context.Context) (uint64, error) { return 0, bus.ErrUnavailable }
	nowhere := func(context.Context, bus.ResourceChange) (bus.ResourceResult, error) {
		return bus.ResourceResult{}, bus.ErrChangesUnavailable
	}
	none := func(*fiber.Ctx) string { return "" }
	return &handler{forms: device.BuiltInForms(nil), changeResource: nowhere, memory: newMemory(), base: none, prefix: none, read: nobody, lastSequence: unknown, stop: stop, submit: newSubmitter(q, r), log: log, limits: l, uploads: make(chan struct{}, l.uploads), shares: web.NewShares("uploads", l.uploads/addressUploads)}
}

// routes mounts the resource. Both paths have the same handlers: /points is for
// those whose proxy can route by method.
func (h *handler) routes() []web.Route {
	out := append(append(h.deviceRoutes(), h.resourceRoutes()...),
		web.Route{Method: http.MethodGet, Path: "/point/uploads/:key", Scope: auth.Write, Areas: true, Handler: h.getUpload})
	for _, path := range []string{"/point", "/points"} {
		one := path + "/:id"
		out = append(out,
			web.Route{Method: http.MethodPost, Path: path, Scope: auth.Write, Areas: true, Handler: h.post},
			web.Route{Method: http.MethodPut, Path: one, Scope: auth.Edit, Areas: true, Handler: h.putPoint},
			web.Route{Method: http.MethodPatch, Path: one, Scope: auth.Edit, Areas: true, Handler: h.patchPoint},
			web.Route{Method: http.MethodDelete, Path: one, Scope: auth.Edit, Areas: true, Handler: h.deletePoint})
	}
	return append(out, h.itemRoutes()...)
}

// post accepts points; the content type says in which format.
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
