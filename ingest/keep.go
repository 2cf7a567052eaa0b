package ingest

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/bus"
	"cairn/fence"
	"cairn/hook"
	"cairn/ingest/format"
	"cairn/internal/auth"
	"cairn/internal/web"
)

// keepWait bounds the wait for the projector, which has the database: more than its own
// bound on a change.
const keepWait = 5 * time.Second

// A keeper is a kind of what is kept beside the points, by an id that the client chooses.
type keeper struct {
	kind, path string
	scope      auth.Scope
	max        int // bytes of a body
	// check reads a body as the projector will, and returns what to send to it.
	check func(id string, body []byte) ([]byte, error)
}

var keepers = []keeper{
	{bus.KindFence, "/fences", auth.Edit, fence.MaxBytes, func(id string, body []byte) ([]byte, error) {
		f, err := fence.Parse(id, body)
		if err != nil {
			return nil, err
		}
		return f.Append(nil), nil
	}},
	// A hook makes this service send to an address that its maker chooses.
	{bus.KindHook, "/hooks", auth.Edit | auth.Admin, hook.MaxBytes, func(id string, body []byte) ([]byte, error) {
		h, err := hook.Parse(id, body)
		if err != nil {
			return nil, err
		}
		return h.JSON(), nil
	}},
}

// keepRoutes are those by which such things change; the query role shows them.
func (h *handler) keepRoutes() (out []web.Route) {
	for _, k := range keepers {
		out = append(out,
			web.Route{Method: http.MethodPut, Path: k.path + "/:id", Scope: k.scope, Handler: h.putKept(k)},
			web.Route{Method: http.MethodDelete, Path: k.path + "/:id", Scope: k.scope, Handler: h.deleteKept(k)})
	}
	return out
}

// keptID is the id in the path.
func keptID(c *fiber.Ctx) (string, error) {
	id, err := pathID(c.Params("id"))
	if err == nil {
		err = format.NoParameters(c.Context().URI().QueryString())
	}
	if err != nil {
		return "", err
	}
	if err := fence.CheckID(id); err != nil {
		return "", web.BadRequest(err.Error())
	}
	return id, nil
}

// putKept creates or replaces:
//
//	PUT /fences/{id}
//
// The answer is what is kept, when it is.
func (h *handler) putKept(k keeper) fiber.Handler {
	return func(c *fiber.Ctx) error {
		m, err := format.ReadType(string(c.Request().Header.ContentType()))
		if err == nil && (m.Kind != format.JSON && m.Kind != format.GeoJSON || m.Coded()) {
			err = &web.Problem{Status: http.StatusUnsupportedMediaType, Detail: "a " + k.kind + " is sent as " + onePointTypes}
		}
		if err != nil {
			c.Set(fiber.HeaderAccept, onePointTypes)
			return err
		}
		id, err := keptID(c)
		if err != nil {
			return err
		}
		body, err := readBounded(c, k.max)
		if err != nil {
			return err
		}
		if body, err = k.check(id, body); err != nil {
			return pointProblem(err)
		}
		kept, err := h.askToKeep(c, bus.Keep{Kind: k.kind, ID: id, Body: body})
		if err != nil {
			return err
		}
		status := http.StatusOK
		if kept.Outcome == bus.OutcomeCreated {
			status = http.StatusCreated
			c.Set(fiber.HeaderLocation, h.prefix(c)+k.path+"/"+id)
		}
		c.Status(status)
		c.Set(fiber.HeaderContentType, "application/json")
		if k.kind == bus.KindFence {
			c.Set(fiber.HeaderContentType, "application/geo+json")
		}
		return c.Send(kept.Body)
	}
}

// deleteKept deletes:
//
//	DELETE /fences/{id}
func (h *handler) deleteKept(k keeper) fiber.Handler {
	return func(c *fiber.Ctx) error {
		id, err := keptID(c)
		if err != nil {
			return err
		}
		if _, err := h.askToKeep(c, bus.Keep{Kind: k.kind, ID: id}); err != nil {
			return err
		}
		c.Status(http.StatusNoContent)
		return nil
	}
}

func (h *handler) askToKeep(c *fiber.Ctx, k bus.Keep) (bus.Kept, error) {
	ctx, cancel := context.WithTimeout(h.stop, keepWait)
	defer cancel()
	kept, err := h.keep(ctx, k)
	switch {
	case err != nil:
		h.log.Warn("a change could not be kept", "kind", k.Kind, "id", k.ID, "error", err)
		return kept, web.Unavailable(fmt.Sprintf("the projector, which keeps the %ss, does not answer: the change may be made or not, try again", k.Kind), unavailableRetry)
	case kept.Refusal != nil:
		return kept, &web.Problem{Status: kept.Refusal.Status, Pointer: format.ClipPointer(kept.Refusal.Pointer), Detail: format.ClipReason(kept.Refusal.Detail)}
	}
	return kept, nil
}

// readBounded reads a body of at most so many bytes.
func readBounded(c *fiber.Ctx, most int) ([]byte, error) {
	in, err := openInput(c)
	if err != nil {
		return nil, err
	}
	defer in.close()
	body, whole, err := readUpTo(in, nil, most)
	if err == nil && !whole {
		err = &web.Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body may have at most %d bytes", most)}
	}
	return body, err
}
