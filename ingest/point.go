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

	"github.com/go-json-experiment/json/jsontext"
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

// A pointRequest is what a request about one point needs; they are used again.
type pointRequest struct {
	decoder  format.PointDecoder
	options  format.Options
	warnings format.Warnings
	events   [1]event.Event
	body     []byte
	answer   []byte
	keyed    bool // the point's id is of an Idempotency-Key
}

func (r *pointRequest) event() *event.Event { return &r.events[0] }

var pointRequests = sync.Pool{New: func() any { return &pointRequest{} }}

// postPoint takes one point in:
//
//	{"longitude": 2.3522, "latitude": 48.8566, "name": "Paris"}
//
// It answers 202 when the point is on disk, with where to read it, and for a client
// that prefers to wait what became of it (see tell).
func (h *handler) postPoint(c *fiber.Ctx) error {
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	mode, query, err := onConflictOf(c)
	if err != nil {
		return err
	}
	r := pointRequests.Get().(*pointRequest)
	defer pointRequests.Put(r)
	if err := r.parse(query); err != nil {
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
		err = r.decoder.Decode(r.body, &r.event().Point)
		if err == nil {
			if err = h.notOfMany(web.AuthorOf(c), key); err != nil {
				return err
			}
			return h.create(c, r, key, mode)
		}
		if !format.IsMany(err) && !format.HasMark(r.body) {
			h.submit.rejected.Inc()
			return pointProblem(err)
		}
	}
	if !whole && !format.IsJSON(r.body) {
		return format.TooLarge(format.MaxPointBytes)
	}
	return h.readMany(c, format.JSON, r.options, mode, in, io.MultiReader(bytes.NewReader(r.body), in))
}

// reset makes it ready for a request without options.
func (r *pointRequest) reset() {
	r.warnings.Reset()
	r.keyed = false
	r.options = format.Options{Warnings: &r.warnings}
	r.decoder.Options = &r.options
}

// parse makes it ready for a request with the query, which is nearly always empty.
func (r *pointRequest) parse(query string) (err error) {
	r.reset()
	if query != "" {
		r.options, err = format.ParseOptions(format.JSON, query, onConflictParameter)
	}
	return err
}

// create hands over the point of r.event, and answers for it.
func (h *handler) create(c *fiber.Ctx, r *pointRequest, key string, mode onConflict) error {
	by := authorOf(c)
	if err := by.mayUse(mode); err != nil {
		return err
	}
	var keyed *event.Rows
	if key != "" {
		rows := event.RowsOf(event.OnePoint, by.name, key)
		keyed = &rows
	}
	e := r.event()
	mode.apply(e)
	identify(e, keyed, 1)
	t := target{key: e.ID, wait: waitOf(c), trace: traceOf(c), by: by, keyed: keyed != nil && e.Point.ExternalID == nil}
	r.keyed = t.keyed
	if c.Locals(isItem{}) != nil && !t.wait.asked && !t.wait.async {
		t.wait.time = conditionWait
	}
	return h.change(c, r, t)
}

// openOutcome goes out with an id of the client's own, of which only the projector
// knows whether it is there already.
const openOutcome = `,"note":"if this id is there with other content, that stays: Prefer: wait tells, PUT replaces"`

// openKey is the same of the id that a point has from an Idempotency-Key.
const openKey = `,"note":"if this Idempotency-Key was used for another point, that stays: Prefer: wait tells"`

// fieldLocation is as fasthttp keeps it.
var fieldLocation = []byte(fiber.HeaderLocation)

// accept makes the answer 202, for one event that is on disk.
// prefix stands before the paths of this server.
func (r *pointRequest) accept(c *fiber.Ctx, position event.Position, prefix string) {
	e := r.event()
	head := &c.Response().Header
	a := r.answer[:0]
	if e.Type != event.Deleted {
		a = append(append(a, prefix...), "/points/"...)
		a = append(a, pathOf(e)...)
		a = append(a, "?min_position="...)
		a = strconv.AppendInt(a, int64(position), 10)
		head.SetCanonical(fieldLocation, a)
	}
	head.SetContentType(fiber.MIMEApplicationJSON)

	a = append(a[:0], `{"id":`...)
	a = appendShownID(a, e)
	a = append(a, `,"position":`...)
	a = strconv.AppendInt(a, int64(position), 10)
	if r.options.Warnings != nil && r.options.Warnings.Total() > 0 {
		list, _ := json.Marshal(r.options.Warnings.List()) // strings and numbers
		a = append(append(a, `,"warnings":`...), list...)
	}
	begun := len(a) // an outcome may take the place of what follows
	if e.Type == event.Created && e.If.IsZero() && e.Point.ExternalID != nil {
		a = append(a, openOutcome...)
	}
	if r.keyed && e.Type == event.Created && e.If.IsZero() {
		a = append(a, openKey...)
	}
	a = append(a, '}', '\n')
	c.Response().SetStatusCode(http.StatusAccepted)
	c.Response().SetBody(a) // copies it
	r.answer = a[:begun]
}

// appendOutcome ends the answer, which accept began, with what became of the event.
func (r *pointRequest) appendOutcome(outcome bus.Outcome, note string) {
	a := append(append(append(r.answer, `,"outcome":"`...), outcome...), '"')
	if note != "" {
		a = append(a, `,"note":`...)
		a, _ = jsontext.AppendQuote(a, note) // ours
	}
	r.answer = append(a, '}', '\n')
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
	case errors.Is(err, errEventSize):
		return format.TooLarge(format.MaxPointBytes)
	case errors.Is(err, bus.ErrBusy):
		p.Status, p.RetryAfter = http.StatusTooManyRequests, busyRetry
		p.Detail = "too many writes are waiting: try again"
	case errors.Is(err, bus.ErrFull), errors.Is(err, bus.ErrUnwritable):
		p.RetryAfter = fullRetry
		p.Detail = err.Error() + ": nothing was stored, try again"
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
