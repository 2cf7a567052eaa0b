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

// changeWait bounds the wait for the projector, which has the database: more than its own
// bound on a change.
const changeWait = 5 * time.Second

// A resource is a kind of thing that is stored beside the points, fences or hooks, under
// an id that the client chooses.
type resource struct {
	kind, path string
	scope      auth.Scope
	max        int // bytes of a body
	// check reads a body as the projector will, and returns what to send to it.
	check func(id string, body []byte) ([]byte, error)
}

var resources = []resource{
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

// resourceRoutes are those by which such things change; the query role shows them.
func (h *handler) resourceRoutes() (out []web.Route) {
	for _, k := range resources {
		out = append(out,
			web.Route{Method: http.MethodPut, Path: k.path + "/:id", Scope: k.scope, Handler: h.putResource(k)},
			web.Route{Method: http.MethodDelete, Path: k.path + "/:id", Scope: k.scope, Handler: h.deleteResource(k)})
	}
	return out
}

// resourceID is the id in the path.
func resourceID(c *fiber.Ctx) (string, error) {
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

// putResource creates or replaces:
//
//	PUT /fences/{id}
//
// The answer is what is stored, when it is.
func (h *handler) putResource(k resource) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := oneType(c, "a "+k.kind+" is sent as "+onePointTypes); err != nil {
			return err
		}
		id, err := resourceID(c)
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
		result, err := h.requestChange(c, bus.ResourceChange{Kind: k.kind, ID: id, Body: body})
		if err != nil {
			return err
		}
		status := http.StatusOK
		if result.Outcome == bus.OutcomeCreated {
			status = http.StatusCreated
			c.Set(fiber.HeaderLocation, h.prefix(c)+k.path+"/"+id)
		}
		c.Status(status)
		c.Set(fiber.HeaderContentType, "application/json")
		if k.kind == bus.KindFence {
			c.Set(fiber.HeaderContentType, "application/geo+json")
		}
		return c.Send(result.Body)
	}
}

// deleteResource deletes:
//
//	DELETE /fences/{id}
func (h *handler) deleteResource(k resource) fiber.Handler {
	return func(c *fiber.Ctx) error {
		id, err := resourceID(c)
		if err != nil {
			return err
		}
		if _, err := h.requestChange(c, bus.ResourceChange{Kind: k.kind, ID: id}); err != nil {
			return err
		}
		c.Status(http.StatusNoContent)
		return nil
	}
}

func (h *handler) requestChange(c *fiber.Ctx, k bus.ResourceChange) (bus.ResourceResult, error) {
	ctx, cancel := context.WithTimeout(h.stop, changeWait)
	defer cancel()
	result, err := h.changeResource(ctx, k)
	switch {
	case err != nil:
		h.log.Warn("a change could not be result", "kind", k.Kind, "id", k.ID, "error", err)
		return result, web.Unavailable(fmt.Sprintf("the projector, which keeps the %ss, does not answer: the change may be made or not, try again", k.Kind), unavailableRetry)
	case result.Refusal != nil:
		return result, &web.Problem{Status: result.Refusal.Status, Pointer: format.ClipPointer(result.Refusal.Pointer), Detail: format.ClipReason(result.Refusal.Detail)}
	}
	return result, nil
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
