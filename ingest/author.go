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
	area *auth.Area     // nil: everywhere
	who  *auth.Identity // nil: whoever it is may do all
}

func authorOf(c *fiber.Ctx) author {
	who := web.Caller(c)
	if who == nil {
		return author{}
	}
	return author{name: who.Name, area: who.Area, who: who}
}

// over says that the author may not write any more, or nil.
func (a *author) over() error {
	if a.who == nil {
		return nil
	}
	select {
	case <-a.who.Gone():
	default:
		if a.who.Expires.IsZero() || time.Now().Before(a.who.Expires) {
			return nil
		}
	}
	return &web.Problem{Status: http.StatusUnauthorized, Detail: "the access key was removed or has expired since the upload began"}
}

// mayUse says why the author may not write in the mode, or nil.
func (a *author) mayUse(m onConflict) error {
	if m == replace {
		return a.mayEdit()
	}
	return nil
}

// mayEdit says why the author may change nothing that is there, or nil. It is asked
// where that matters only: to say why costs more than all else that asks for a key.
func (a *author) mayEdit() error {
	if a.who == nil {
		return nil
	}
	return web.PermitAs(a.who, auth.Edit)
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
