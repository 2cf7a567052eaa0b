package ingest

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/web"
)

const (
	headerETag       = fiber.HeaderETag
	staysDeleted     = "the point was deleted, and a late creation does not bring it back: PUT does"
	cannotBeReplaced = "there is a point with this id and other content, which stays as it is; this one is parked. To replace it, send it with PUT /point/{id}"
)

// respondOutcome makes the answer, so far a 202, that of the outcome.
func (h *handler) respondOutcome(c *fiber.Ctx, r *pointRequest, t target, position event.Position, outcome bus.Outcome) error {
	head := &c.Response().Header
	if t.wait.asked {
		head.Set(headerPreferenceApplied, t.wait.applied())
	}
	status := http.StatusOK
	revision, note := position, ""
	switch outcome {
	case bus.OutcomeCreated:
		status = http.StatusCreated
	case bus.OutcomeReplaced:
	case bus.OutcomeUnchanged:
		revision, note = h.unchanged(t, position)
	case bus.OutcomeLate:
		outcome, revision, note = bus.OutcomeUnchanged, 0, staysDeleted
	case bus.OutcomeDeleted:
		c.Response().ResetBody()
		head.Del(fiber.HeaderContentType)
		head.Set("Cairn-Position", strconv.FormatInt(int64(position), 10))
		c.Status(http.StatusNoContent)
		return nil
	case bus.OutcomePrecondition:
		if !t.want.given { // of on-conflict=skip
			outcome, revision = "skipped", 0
			break
		}
		head.Del(fiber.HeaderLocation)
		stored, known := h.look(t)
		if known && stored.Found && !stored.Deleted {
			return h.failed(t, stored.Revision)
		}
		return h.failed(t, 0)
	default:
		head.Del(fiber.HeaderLocation)
		p := t.problem(outcome)
		p.Members = map[string]any{"id": shownID(appendShownID(nil, r.event())), "position": position, "outcome": outcome}
		return p
	}
	if revision != 0 {
		head.Set(headerETag, `"`+strconv.FormatInt(int64(revision), 10)+`"`)
	}
	r.appendOutcome(outcome, note)
	c.Response().SetBody(r.answer)
	c.Status(status)
	return nil
}

// unchanged looks at what is there: the revision that goes with the answer, 0 where
// it is not known, and a word where it is a point that was deleted, which a projector of
// a version before [bus.OutcomeLate] does not say.
func (h *handler) unchanged(t target, position event.Position) (revision event.Position, note string) {
	stored, known := h.look(t)
	switch {
	case !known || !stored.Found || stored.Revision > position: // changed since
		return 0, ""
	case stored.Deleted:
		return 0, staysDeleted
	}
	return stored.Revision, ""
}

// look reads the point where that is possible at once.
func (h *handler) look(t target) (bus.Stored, bool) {
	ctx, cancel := context.WithTimeout(h.stop, lookWait)
	defer cancel()
	stored, err := h.readFor(ctx, t)
	return stored, err == nil
}

// failed is the problem of a condition that does not hold; revision is what the
// point is at, 0 where there is none or that is not known.
func (h *handler) failed(t target, revision event.Position) *web.Problem {
	p := &web.Problem{Status: http.StatusPreconditionFailed, Detail: "the point is not at the revision that If-Match asks for: read it again, and decide again"}
	switch {
	case t.want.absent:
		p.Detail = "there is a point with this id, and If-None-Match: * asks that there be none"
	case t.want.impossible():
		p.Detail = `no point can meet this If-Match: a point's entity tag is its revision, as in If-Match: "4096", and is never weak`
	}
	if revision != 0 {
		p.Members = map[string]any{"revision": revision}
	}
	return p
}

// done reports whether the point now is as the event has it.
func done(o bus.Outcome) bool {
	return o == bus.OutcomeCreated || o == bus.OutcomeReplaced || o == bus.OutcomeUnchanged || o == bus.OutcomeDeleted
}

// problem is that of an outcome by which nothing was changed.
func (t *target) problem(outcome bus.Outcome) *web.Problem {
	switch outcome {
	case bus.OutcomeMissing:
		return &web.Problem{Status: http.StatusNotFound, Detail: "there is no point with this id"}
	case bus.OutcomeGone:
		return &web.Problem{Status: http.StatusGone, Detail: "the point was deleted; PUT without a condition, or with If-None-Match: *, creates it again"}
	case bus.OutcomeConflict:
		if t.keyed {
			return &web.Problem{Status: http.StatusConflict,
				Detail: "this " + headerIdempotencyKey + " was used for another point, which stays as it is; this one is parked. Send another point with a key of its own"}
		}
		return &web.Problem{Status: http.StatusConflict, Detail: cannotBeReplaced}
	case bus.OutcomeOutside:
		return &web.Problem{Status: http.StatusForbidden, Detail: "there is a point with this id outside the area that the key holds for, which stays as it is"}
	}
	return &web.Problem{Status: http.StatusUnprocessableEntity,
		Detail: fmt.Sprintf("the database does not take this point, which is parked (%s): cairn parked shows why", outcome)}
}
