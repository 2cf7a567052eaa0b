package ingest

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"cairn/bus"
	"cairn/event"
	"cairn/ingest/format"
	"cairn/internal/web"
)

const (
	// conditionWait is how long the outcome of a change with a condition is waited
	// for where the client does not say: many times what a batch takes.
	conditionWait = 10 * time.Second
	// readWait bounds a request to the projector: more than its own bound on an
	// answer.
	readWait = 5 * time.Second
	// lookWait is for requests whose answer would only be more complete with it.
	lookWait = time.Second
	// patchTries is how often a patch is merged again because somebody was faster.
	patchTries = 5
	patchRetry = time.Second

	mergePatchType    = "application/merge-patch+json"
	headerAcceptPatch = "Accept-Patch" // RFC 5789, section 3.1
)

// A target is the point that a request changes, and how.
type target struct {
	id    string // as in the path, unescaped
	key   uuid.UUID
	want  precondition
	wait  wait
	trace string
	keyed bool // the point's id is of an Idempotency-Key
	by    author
}

// targetOf reads what PUT, PATCH and DELETE have in common.
func (h *handler) targetOf(c *fiber.Ctx) (t target, err error) {
	if t.id, err = pathID(c.Params("id")); err != nil {
		return t, err
	}
	if err := format.NoParameters(c.Context().URI().QueryString()); err != nil {
		return t, err
	}
	if t.want, err = preconditionOf(c); err != nil {
		return t, err
	}
	if h.requireConditions && !t.want.given {
		return t, &web.Problem{Status: http.StatusPreconditionRequired,
			Detail: `changes here need a condition: If-Match: "REVISION", with the ETag of GET /points/{id}, or If-None-Match: * for a new point`}
	}
	t.key, t.trace, t.wait, t.by = event.Key(t.id), traceOf(c), waitOf(c), authorOf(c)
	// With an area, too: whether it was changed is not known before.
	if (t.want.given || t.by.area != nil) && !t.wait.asked && !t.wait.async {
		t.wait.time = conditionWait
	}
	if t.want.impossible() {
		return t, h.failed(t, 0)
	}
	return t, nil
}

// pathID is the id in the last segment of a path.
func pathID(segment string) (string, error) {
	id, err := url.PathUnescape(segment)
	switch {
	case err != nil || !utf8.ValidString(id):
		return "", web.BadRequest("the id in the path cannot be read: escape it as UTF-8 with %XX")
	case id == "" || len(id) > event.MaxExternalID:
		return "", web.BadRequest("the id must have 1 to " + strconv.Itoa(event.MaxExternalID) + " bytes")
	case strings.IndexFunc(id, unicode.IsControl) >= 0:
		return "", web.BadRequest("the id must not have control characters")
	}
	return strings.Clone(id), nil // fiber's text is the request's own buffer
}

// putPoint creates the point or takes the place of the one that is there:
//
//	PUT /point/{id}
//
// The body is a GeoJSON Feature or an object as POST /point takes it; an id in it
// must be that of the path. The answer is 202 when the change is on disk; with
// Prefer: wait or a condition it is what became of it.
func (h *handler) putPoint(c *fiber.Ctx) error {
	if err := oneType(c, "PUT takes one point, as "+onePointTypes); err != nil {
		return err
	}
	t, err := h.targetOf(c)
	if err != nil {
		return err
	}
	r := pointRequests.Get().(*pointRequest)
	defer pointRequests.Put(r)
	if r.body, err = readPoint(c, r.body[:0]); err != nil {
		return err
	}
	r.reset()
	e := r.event()
	if err = format.NewObjectDecoder(&r.options).Decode(r.body, &e.Point); err == nil {
		err = h.keepID(t, &e.Point)
	}
	if c.Locals(isItem{}) != nil {
		e.Point.DropReadOnly()
	}
	if err != nil {
		h.submit.rejected.Inc()
		return pointProblem(err)
	}
	e.Type, e.ID = event.Put, t.key
	if e.If, err = h.condition(t); err != nil {
		return err
	}
	return h.change(c, r, t)
}

const onePointTypes = "application/json, application/geo+json"

// oneType checks the Content-Type of a request that takes one thing, in onePointTypes;
// other says so, of another type.
func oneType(c *fiber.Ctx, other string) error {
	m, err := format.ReadType(string(c.Request().Header.ContentType()))
	switch {
	case err != nil:
	case m.Kind != format.JSON && m.Kind != format.GeoJSON:
		err = &web.Problem{Status: http.StatusUnsupportedMediaType, Detail: other}
	default:
		err = m.Plain()
	}
	if err != nil {
		c.Set(fiber.HeaderAccept, onePointTypes)
	}
	return err
}

// keepID checks an id in the body, and gives the point its own: as in the body, or
// as it is there already, for an id may be a number.
func (h *handler) keepID(t target, p *event.Point) error {
	switch {
	case p.ExternalID != nil:
		if text, _ := event.IDText(p.ExternalID); text != t.id {
			return &event.FieldError{Pointer: "/id", Reason: "the id is another one than that of the path: leave it out, or send it to its own path"}
		}
	case isNumber(t.id):
		ctx, cancel := context.WithTimeout(h.stop, lookWait)
		defer cancel()
		var there event.Point
		if stored, err := h.read(ctx, t.key); err == nil && stored.Point != nil && new(event.Decoder).Feature(stored.Point, &there) == nil {
			p.ExternalID = slices.Clone(there.ExternalID)
		}
	}
	p.ExternalID = t.shownID(p.ExternalID)
	return nil
}

// shownID is the id as a JSON value, given what a body says of it. What Cairn
// named itself, or a UUID in its usual form, is the key alone.
func (t *target) shownID(given jsontext.Value) jsontext.Value {
	switch {
	case t.key.String() == t.id:
		return nil
	case given != nil:
		return given
	}
	quoted, _ := jsontext.AppendQuote(nil, t.id) // it is UTF-8
	return quoted
}

func isNumber(id string) bool {
	v := jsontext.Value(id)
	return v.Kind() == '0' && v.IsValid()
}

// deletePoint deletes the point:
//
//	DELETE /point/{id}
func (h *handler) deletePoint(c *fiber.Ctx) error {
	t, err := h.targetOf(c)
	if err != nil {
		return err
	}
	r := pointRequests.Get().(*pointRequest)
	defer pointRequests.Put(r)
	r.reset()
	e := r.event()
	e.Point = event.Point{ExternalID: t.shownID(nil)}
	e.Type, e.ID = event.Deleted, t.key
	if e.If, err = h.condition(t); err != nil {
		return err
	}
	return h.change(c, r, t)
}

// condition is what the event asks for. Of several tags it is the one that the
// point is at.
func (h *handler) condition(t target) (event.Condition, error) {
	switch {
	case !t.want.given:
		return event.Condition{}, nil
	case t.want.absent:
		return event.IfNone(), nil
	case t.want.any:
		return event.IfAny(), nil
	case len(t.want.tags) == 1:
		return event.IfRevision(t.want.tags[0]), nil
	}
	ctx, cancel := context.WithTimeout(h.stop, readWait)
	defer cancel()
	stored, err := h.current(ctx, t)
	return event.IfRevision(stored.Revision), err
}

// current is the point as it is now, which meets the request's condition. It has
// seen all that was acknowledged before, unless it is there and meets the condition
// as it is: then that is what the change is of, and its revision the condition.
func (h *handler) current(ctx context.Context, t target) (bus.Stored, error) {
	stored, err := h.readFor(ctx, t)
	if err == nil && !t.met(stored) {
		var last uint64
		if last, err = h.lastSequence(ctx); err == nil && h.submit.projection.reached(ctx, last) {
			stored, err = h.readFor(ctx, t)
		} else if err == nil {
			err = context.Cause(ctx)
		}
	}
	switch {
	case err != nil:
		h.log.Warn("a point could not be read for a change", "error", err)
		return stored, web.Unavailable("the projector, which has the points, does not answer or is behind: nothing was changed, try again", unavailableRetry)
	case t.met(stored):
		return stored, nil
	case !stored.Found:
		return stored, t.problem(bus.OutcomeMissing)
	case stored.Deleted:
		return stored, t.problem(bus.OutcomeGone)
	}
	return stored, h.failed(t, stored.Revision)
}

// readFor reads the point as the caller may know it: to a key that holds for an area
// there are no points outside, and none that were deleted, for where those were is not
// known.
func (h *handler) readFor(ctx context.Context, t target) (bus.Stored, error) {
	stored, err := h.read(ctx, t.key)
	if err != nil || t.by.area == nil || !stored.Found {
		return stored, err
	}
	var p event.Point
	if stored.Deleted || new(event.Decoder).Feature(stored.Point, &p) != nil || !t.by.area.Has(p.Position.Lon(), p.Position.Lat()) {
		return bus.Stored{}, nil
	}
	return stored, nil
}

func (t *target) met(s bus.Stored) bool {
	there := s.Found && !s.Deleted
	return there && !t.want.absent && (len(t.want.tags) == 0 || slices.Contains(t.want.tags, s.Revision))
}

// patchPoint changes parts of the point, by a merge patch (RFC 7396) of its GeoJSON
// Feature:
//
//	PATCH /point/{id}
//	Content-Type: application/merge-patch+json
//
//	{"properties": {"name": "Paris", "old": null}}
//
// It is read, merged and put under the condition that it is still what was read;
// where somebody was faster that begins again.
func (h *handler) patchPoint(c *fiber.Ctx) error {
	m, is := format.IsType(string(c.Request().Header.ContentType()), mergePatchType)
	err := m.Plain()
	if !is {
		err = &web.Problem{Status: http.StatusUnsupportedMediaType, Detail: "PATCH takes " + mergePatchType + ": what is to change of the point's GeoJSON Feature"}
	}
	if err != nil {
		c.Set(headerAcceptPatch, mergePatchType)
		return err
	}
	t, err := h.targetOf(c)
	if err != nil {
		return err
	}
	r := pointRequests.Get().(*pointRequest)
	defer pointRequests.Put(r)
	if r.body, err = readPoint(c, r.body[:0]); err != nil {
		return err
	}
	r.reset()
	patch, err := checkPatch(r.body)
	if err != nil {
		h.submit.rejected.Inc()
		return pointProblem(err)
	}
	ctx, cancel := context.WithTimeout(h.stop, max(t.wait.time, conditionWait))
	defer cancel()
	for range patchTries {
		stored, err := h.current(ctx, t)
		if err != nil {
			return err
		}
		e := r.event()
		if err := patched(jsontext.Value(stored.Point), patch, t, &e.Point); err != nil {
			h.submit.rejected.Inc()
			return unprocessable(err)
		}
		e.Type, e.ID, e.If = event.Put, t.key, event.IfRevision(stored.Revision)
		position, err := h.store(r, t)
		if err != nil {
			return err
		}
		outcome, known := h.submit.Outcome(ctx, position)
		if known && outcome == bus.OutcomePrecondition && len(t.want.tags) == 0 {
			continue
		}
		r.accept(c, position, h.prefix(c))
		if !known || done(outcome) && t.wait.time == 0 {
			return nil
		}
		return h.respondOutcome(c, r, t, position, outcome)
	}
	return web.Unavailable("others change this point all the time: nothing was changed, try again", patchRetry)
}

// patched is what the patch makes of the Feature that is there. A time that only
// repeats what a property says follows the property.
func patched(feature, patch jsontext.Value, t target, p *event.Point) error {
	var d format.FeatureDecoder
	var with, without event.Point
	bare, err := mergePatch(nil, feature, jsontext.Value(`{"time":null}`), 1)
	if err == nil {
		err = errors.Join(d.Decode(feature, &with), new(format.FeatureDecoder).Decode(bare, &without))
	}
	if err != nil {
		return err
	}
	if with.Time.Equal(without.Time) {
		feature = bare
	}
	merged, err := patchFeature(feature, patch)
	if err != nil {
		return err
	}
	if err := d.Decode(merged, p); err != nil {
		return err
	}
	if p.ExternalID != nil {
		if text, _ := event.IDText(p.ExternalID); text != t.id {
			return &event.FieldError{Pointer: "/id", Reason: "a point keeps its id: leave it out of the patch"}
		}
	}
	p.ExternalID = t.shownID(with.ExternalID)
	return nil
}

// unprocessable is what is wrong with what would come of a change.
func unprocessable(err error) error {
	err = pointProblem(err)
	var p *web.Problem
	if errors.As(err, &p) && p.Status == http.StatusBadRequest {
		p.Status = http.StatusUnprocessableEntity
	}
	return err
}

// store puts the event of r on disk, whichever request it is of, signed by the
// caller.
func (h *handler) store(r *pointRequest, t target) (event.Position, error) {
	if why := t.by.sign(r.event()); why != nil {
		h.submit.rejected.Inc()
		return 0, &web.Problem{Status: http.StatusForbidden, Detail: why.Reason}
	}
	position, err := h.submit.Submit(r.events[:], t.trace)
	if err != nil {
		err = queueProblem(err, r.event())
	}
	return position, err
}

// change hands the event of r over and answers for it.
func (h *handler) change(c *fiber.Ctx, r *pointRequest, t target) error {
	position, err := h.store(r, t)
	if err != nil {
		return err
	}
	r.accept(c, position, h.prefix(c))
	if t.wait.time == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(h.stop, t.wait.time)
	defer cancel()
	if outcome, known := h.submit.Outcome(ctx, position); known {
		return h.respondOutcome(c, r, t, position, outcome)
	}
	return nil
}
