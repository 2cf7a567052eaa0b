package ingest

import (
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"cairn/ingest/format"
	"cairn/internal/auth"
	"cairn/internal/web"
)

// itemsPath is where OGC API Features has the points; the query role answers GET
// there.
const itemsPath = "/collections/points/items"

// itemRoutes are those of OGC API Features, part 4: the same points under the paths
// that they are read from, for programs that edit. They wait for the outcome, for
// such a program reads the point at once.
func (h *handler) itemRoutes() []web.Route {
	const one = itemsPath + "/:id"
	return []web.Route{
		{Method: http.MethodPost, Path: itemsPath, Scope: auth.Write, Areas: true, Handler: h.item(h.postItem)},
		{Method: http.MethodPut, Path: one, Scope: auth.Edit, Areas: true, Handler: h.item(h.putPoint)},
		{Method: http.MethodPatch, Path: one, Scope: auth.Edit, Areas: true, Handler: h.item(h.patchPoint)},
		{Method: http.MethodDelete, Path: one, Scope: auth.Edit, Areas: true, Handler: h.item(h.deletePoint)},
	}
}

// isItem marks a request that came by one of those paths.
type isItem struct{}

// item prepares a request for the handlers of /point, and says in the answer where
// the item is. Without a condition a change is of a point that is there: PUT replaces,
// and makes nothing (part 4, section 8).
func (h *handler) item(handle fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := checkCRS(c); err != nil {
			return err
		}
		c.Locals(isItem{}, true)
		head := &c.Request().Header
		// A field with nothing in it is a condition, too: one that nothing meets.
		conditional := fieldOf(c, fiber.HeaderIfMatch) != nil || fieldOf(c, fiber.HeaderIfNoneMatch) != nil
		if !conditional && !h.requireConditions && c.Method() != http.MethodPost {
			head.Set(fiber.HeaderIfMatch, "*")
		}
		if err := handle(c); err != nil {
			return err
		}
		if at, ok := strings.CutPrefix(string(c.Response().Header.Peek(fiber.HeaderLocation)), h.prefix(c)+"/points/"); ok {
			id, _, _ := strings.Cut(at, "?") // QGIS takes all that follows as the id
			c.Set(fiber.HeaderLocation, h.base(c)+itemsPath+"/"+id)
		}
		return nil
	}
}

// checkCRS refuses coordinates of a reference system that is not the one there is: read
// as degrees, metres or swapped axes would be stored elsewhere without a word (part 4,
// section 9; QGIS sends the URI, without the brackets).
func checkCRS(c *fiber.Ctx) error {
	field := c.Get("Content-Crs")
	switch strings.TrimSuffix(strings.TrimPrefix(field, "<"), ">") {
	case "", crs84, crs84h:
		return nil
	}
	return web.BadRequest("Content-Crs: coordinates are taken as longitude, latitude and height in " + crs84 + " only")
}

const (
	crs84  = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
	crs84h = "http://www.opengis.net/def/crs/OGC/0/CRS84h"
)

// postItem creates a point of a GeoJSON Feature:
//
//	POST /collections/points/items
//
// The answer is 201 when it is visible.
func (h *handler) postItem(c *fiber.Ctx) error {
	if err := oneType(c, "POST takes one point here, as "+onePointTypes+"; POST /point takes many"); err != nil {
		return err
	}
	if err := format.NoParameters(c.Context().URI().QueryString()); err != nil {
		return err
	}
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	r := pointRequests.Get().(*pointRequest)
	defer pointRequests.Put(r)
	if r.body, err = readPoint(c, r.body[:0]); err != nil {
		return err
	}
	r.reset()
	if err := format.NewObjectDecoder(&r.options).Decode(r.body, &r.event().Point); err != nil {
		h.submit.rejected.Inc()
		return pointProblem(err)
	}
	if err := h.notOfMany(web.AuthorOf(c), key); err != nil {
		return err
	}
	r.event().Point.DropReadOnly()
	return h.create(c, r, key, park)
}
