package query

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/gofiber/fiber/v2"

	"cairn/bus"
	"cairn/internal/web"
)

// An answer is an encoded body and what its statement read with it.
type answer struct {
	body     []byte
	sequence uint64 // of the checkpoint: the answer is true for bus.EndOf of it
	found    bool   // whether there was anything at all
	next     string // where the next page is; "" where there is none
}

// GET /points: a page of the points in a box, newest first, as a GeoJSON
// FeatureCollection.
func (s *service) getPoints(c *fiber.Ctx) error {
	q, err := parseList(string(c.Request().URI().QueryString()))
	if err != nil {
		return err
	}
	a, err := s.fresh(q.minPosition, func() (answer, error) { return s.page(q.filter) })
	if err != nil {
		return refuse(c, err)
	}
	setPosition(c, a.sequence)
	if a.next != "" {
		c.Set(fiber.HeaderLink, `<`+a.next+`>; rel="next"; type="`+mediaGeoJSON+`"`) // RFC 8288
	}
	c.Set(fiber.HeaderContentType, mediaGeoJSON)
	return c.Send(a.body)
}

// GET /points/{id}: one point, as a GeoJSON Feature.
func (s *service) getPoint(c *fiber.Ctx) error {
	least, err := parseOne(string(c.Request().URI().QueryString()))
	if err != nil {
		return err
	}
	id, err := url.PathUnescape(c.Params("id"))
	if err != nil {
		return web.BadRequest("the id in the path is not percent-encoded as RFC 3986 has it")
	}
	key := bus.Key(id)
	a, err := s.fresh(least, func() (answer, error) { return s.one(key) })
	if err != nil {
		return refuse(c, err)
	}
	setPosition(c, a.sequence)
	if !a.found {
		return &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no point %q", id)}
	}
	c.Set(fiber.HeaderContentType, mediaGeoJSON)
	return c.Send(a.body)
}
