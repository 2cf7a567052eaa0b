package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"cairn/bus"
	"cairn/event"
	"cairn/ingest/format"
	"cairn/internal/web"
)

// After how long a client that was refused may try again.
const (
	busyRetry        = time.Second     // the collector drains its channel in less
	fullRetry        = 5 * time.Second // the projector has to catch up first
	unavailableRetry = 2 * time.Second // a restart of the queue
)

// minRead holds the usual point in one read.
const minRead = 4 << 10

// A pointRequest is what one POST /point needs; they are used again.
type pointRequest struct {
	decoder  format.PointDecoder
	options  format.Options
	warnings format.Warnings
	event    event.Event
	body     []byte
	answer   []byte
}

var pointRequests = sync.Pool{New: func() any { return &pointRequest{} }}

// postPoint takes one point in:
//
//	{"longitude": 2.3522, "latitude": 48.8566, "name": "Paris"}
//
// It answers 202 when the point is on disk, with where to read it; for a client
// that prefers to wait, see prefer.
func (h *handler) postPoint(c *fiber.Ctx) error {
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	r := pointRequests.Get().(*pointRequest)
	defer pointRequests.Put(r)
	if err := r.parse(c); err != nil {
		return err
	}
	in, err := openInput(c)
	if err != nil {
		return err
	}
	defer in.close()
	var whole bool
	if r.body, whole, err = readUpTo(in, r.body[:0], format.MaxPointBytes); err != nil {
		return err
	}
	if whole {
		err = r.decoder.Decode(r.body, &r.event.Point)
		if err == nil {
			return h.put(c, r, key)
		}
		if !format.IsMany(err) && !format.HasMark(r.body) {
			h.metrics.rejected.Inc()
			return pointProblem(err)
		}
	}
	if !whole && !format.IsJSON(r.body) {
		return format.TooLarge(format.MaxPointBytes)
	}
	return h.readMany(c, format.JSON, r.options, in, io.MultiReader(bytes.NewReader(r.body), in))
}

// parse reads the query, which is nearly always empty.
func (r *pointRequest) parse(c *fiber.Ctx) (err error) {
	r.warnings.Reset()
	r.options = format.Options{Warnings: &r.warnings}
	r.decoder.Options = &r.options
	if query := c.Context().URI().QueryString(); len(query) > 0 {
		r.options, err = format.ParseOptions(format.JSON, string(query))
	}
	return err
}

// put hands r.event over and answers for it.
func (h *handler) put(c *fiber.Ctx, r *pointRequest, key string) error {
	e := &r.event
	var keyed *event.Rows
	if key != "" {
		rows := event.RowsOf(event.OnePoint, "", key)
		keyed = &rows
	}
	name(e, keyed, 1)
	e.Received = time.Now().UTC().Truncate(time.Microsecond)
	b := bus.NewBatch()
	defer b.Release()
	b.Lines, b.Count, b.Trace = event.AppendEvent(b.Lines, e), 1, traceOf(c)
	if len(b.Lines) > event.MaxEventBytes {
		h.metrics.rejected.Inc()
		return format.TooLarge(format.MaxPointBytes)
	}
	err := h.queue.Offer(b)
	var position event.Position
	if err == nil {
		position, err = b.Wait()
	}
	if err != nil {
		return queueProblem(err, e)
	}
	h.metrics.accepted.Inc()
	r.accept(c, position)
	return h.prefer(c, position)
}

// name gives the event its primary key; row, from 1, is the place of its point in
// a request with an Idempotency-Key, whose rows are keyed, if it is one.
func name(e *event.Event, keyed *event.Rows, row int64) {
	e.Type = event.Created
	switch {
	case e.Point.ExternalID != nil:
		text, _ := event.IDText(e.Point.ExternalID) // the decoder has checked it
		e.ID = event.Key(text)
	case keyed != nil:
		e.ID = keyed.Key(row)
	default:
		e.ID = event.NewKey()
	}
}

// accept writes the answer for one point.
func (r *pointRequest) accept(c *fiber.Ctx, position event.Position) {
	a := append(r.answer[:0], "/points/"...)
	a = append(a, pathOf(&r.event)...)
	a = append(a, "?min_position="...)
	a = strconv.AppendInt(a, int64(position), 10)
	head := &c.Response().Header
	head.SetBytesV(fiber.HeaderLocation, a)
	head.SetContentType(fiber.MIMEApplicationJSON)

	a = append(a[:0], `{"id":`...)
	a = appendShownID(a, &r.event)
	a = append(a, `,"position":`...)
	a = strconv.AppendInt(a, int64(position), 10)
	if r.options.Warnings != nil && r.options.Warnings.Total() > 0 {
		list, _ := json.Marshal(r.options.Warnings.List()) // strings and numbers
		a = append(append(a, `,"warnings":`...), list...)
	}
	a = append(a, '}', '\n')
	c.Response().SetStatusCode(http.StatusAccepted)
	c.Response().SetBody(a)
	r.answer = a
}

func appendShownID(dst []byte, e *event.Event) []byte {
	if e.Point.ExternalID != nil {
		return append(dst, e.Point.ExternalID...)
	}
	dst = append(dst, '"')
	var text [36]byte
	encodeUUID(&text, e.ID)
	return append(append(dst, text[:]...), '"')
}

// pathOf is the last segment of the point's path: its id, escaped.
func pathOf(e *event.Event) string {
	if e.Point.ExternalID != nil {
		text, _ := event.IDText(e.Point.ExternalID)
		if text != "." && text != ".." { // which clients resolve, escaped or not
			return url.PathEscape(text)
		}
	}
	return e.ID.String()
}

func encodeUUID(dst *[36]byte, u uuid.UUID) {
	text, _ := u.MarshalText() // never fails
	copy(dst[:], text)
}

// readPoint reads a body of at most format.MaxPointBytes, unpacked, into dst.
func readPoint(c *fiber.Ctx, dst []byte) ([]byte, error) {
	in, err := openInput(c)
	if err != nil {
		return dst, err
	}
	defer in.close()
	if !in.coded() && in.body.Length() > format.MaxPointBytes {
		return dst, format.TooLarge(format.MaxPointBytes)
	}
	dst, whole, err := readUpTo(in, dst, format.MaxPointBytes)
	if err == nil && !whole {
		err = format.TooLarge(format.MaxPointBytes)
	}
	return dst, err
}

// readUpTo reads a body into dst, and stops where it is larger than limit.
func readUpTo(in io.Reader, dst []byte, limit int) (_ []byte, whole bool, err error) {
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, max(minRead, len(dst)))
		}
		n, err := in.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > limit:
			return dst, false, nil
		case err == io.EOF:
			return dst, true, nil
		case err != nil:
			return dst, false, err
		}
	}
}

// pointProblem is what is wrong with the one point of a request.
func pointProblem(err error) error {
	var f *event.FieldError
	if !errors.As(err, &f) {
		return err
	}
	p := web.BadRequest(format.ClipReason(f.Reason))
	p.Pointer = format.ClipPointer(f.Pointer)
	return p
}

// queueProblem is why the queue did not take one point.
func queueProblem(err error, e *event.Event) error {
	p := web.Unavailable("the queue does not take points now: "+err.Error(), unavailableRetry)
	switch {
	case errors.Is(err, bus.ErrBusy):
		p.Status, p.RetryAfter = http.StatusTooManyRequests, busyRetry
		p.Detail = "too many writes are waiting: try again"
	case errors.Is(err, bus.ErrFull):
		p.RetryAfter = fullRetry
		p.Detail = "the queue is full: nothing was stored, try again"
	case errors.Is(err, bus.ErrUnavailable):
		p.Detail = "the queue is not reachable: nothing was stored, try again"
	case errors.Is(err, bus.ErrUncertain):
		p.Detail = "the queue did not answer in time: the point may be stored or not. A retry with this id, or with the same Idempotency-Key, is safe: it adds nothing twice"
		p.Members = map[string]any{"id": shownID(appendShownID(nil, e))}
	}
	return p
}

// shownID is raw JSON for encoding/json.
type shownID []byte

func (id shownID) MarshalJSON() ([]byte, error) { return id, nil }
