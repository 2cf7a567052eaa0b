package ingest

import (
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/web"
)

// An author is whoever writes, where that is known.
type author struct {
	name string
	area *auth.Area // nil: everywhere
	edit error      // why nothing that is there may be changed; nil: it may
	// Until when they may write: see [web.Ends].
	gone    <-chan struct{}
	expires time.Time
}

func authorOf(c *fiber.Ctx) author {
	if !web.IsKnown(c) { // whoever it is may do all
		return author{}
	}
	a := author{name: web.AuthorOf(c), area: web.AreaOf(c), edit: web.Permit(c, auth.Edit)}
	a.gone, a.expires = web.Ends(c)
	return a
}

// over says that the author may not write any more, or nil.
func (a *author) over() error {
	select {
	case <-a.gone:
	default:
		if a.expires.IsZero() || time.Now().Before(a.expires) {
			return nil
		}
	}
	return &web.Problem{Status: http.StatusUnauthorized, Detail: "the access key was removed or has expired since the upload began"}
}

// mayUse says why the author may not write in the mode, or nil.
func (a *author) mayUse(m onConflict) error {
	if m == replace {
		return a.edit
	}
	return nil
}

// sign makes the event the author's, or says why it cannot be. Where the point is that
// it changes, only the projector knows.
func (a *author) sign(e *event.Event) *event.FieldError {
	e.Author = a.name
	if a.area != nil && e.Type != event.Created {
		e.If = e.If.Within(a.area)
	}
	if a.area == nil || e.Type == event.Deleted || a.area.Has(e.Point.Position.Lon(), e.Point.Position.Lat()) {
		return nil
	}
	return &event.FieldError{Reason: "the point is outside the area that this key holds for"}
}
