package query

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/web"
	"cairn/query/answer"
)

// GET /points: a page of the points that the filters let through, newest first,
// as a GeoJSON FeatureCollection.
func (s *service) getPoints(c *fiber.Ctx) error { return s.get(c, s.listRequest) }

// GET /points/{id}: one point, as a GeoJSON Feature.
func (s *service) getPoint(c *fiber.Ctx) error { return s.get(c, s.oneRequest) }

// get answers. The caller what was asked before, in the same bytes, has it
// from memory, without anything being parsed.
func (s *service) get(c *fiber.Ctx, parse func(*fiber.Ctx) (*answer.Request, event.Position, error)) error {
	least, err := minPosition(c)
	if err != nil {
		return err
	}
	var room [512]byte // most names fit, and cost no allocation
	r := s.cache.Find(s.appendName(room[:0], c))
	if r == nil {
		var named event.Position
		if r, named, err = parse(c); err != nil {
			return err
		}
		least = max(least, named)
	}
	a, age, stale, err := s.cache.Get(r, least.Sequence())
	if err != nil {
		return s.refuse(c, err)
	}
	if stale {
		setAge(c, age)
	}
	return s.send(c, r, a, mediaGeoJSON)
}

func (s *service) listRequest(c *fiber.Ctx) (*answer.Request, event.Position, error) {
	// The text outlives the request, whose buffers fiber uses again.
	q, err := askedItems(c, pointsParameters)
	if err != nil {
		return nil, 0, err
	}
	base := s.server.Base(c)
	key := base + " /points"
	if text := q.text(q.After); text != "" {
		key += "?" + text
	}
	run := func() (answer.Answer, error) { return s.page(base, q) }
	return s.cache.Add(key+q.view.key(), s.name(c, q.minPosition), run), q.minPosition, nil
}

func (s *service) oneRequest(c *fiber.Ctx) (*answer.Request, event.Position, error) {
	least, err := parseOne(string(c.Request().URI().QueryString()))
	if err != nil {
		return nil, 0, err
	}
	id, err := pathID(c)
	if err != nil {
		return nil, 0, err
	}
	key, v := event.Key(id), viewOf(c)
	run := func() (answer.Answer, error) { return s.one(key, v) }
	return s.cache.Add("/points/"+key.String()+v.key(), s.name(c, least), run), least, nil
}

// name is what the request is found under when it comes again, which it does
// not with a position: that is another one every time.
func (s *service) name(c *fiber.Ctx, least event.Position) string {
	if least > 0 {
		return ""
	}
	return string(s.appendName(nil, c))
}

// appendName appends the base URL, which the links in an answer begin with, what is
// asked for, and what the caller may see of it. Behind the base is a space, which is
// not in it: no prefix that a proxy tells makes one path look like another.
func (s *service) appendName(dst []byte, c *fiber.Ctx) []byte {
	dst = append(append(s.server.AppendBase(dst, c), ' '), c.Request().Header.RequestURI()...)
	return viewOf(c).appendKey(dst)
}

func pathID(c *fiber.Ctx) (string, error) {
	id, err := url.PathUnescape(c.Params("id"))
	if err != nil {
		return "", web.BadRequest("the id in the path is not percent-encoded as RFC 3986 has it")
	}
	return id, nil
}

// minPosition reads the header field of that name: what a client carries that
// never wants to see less than it has seen.
func minPosition(c *fiber.Ctx) (event.Position, error) {
	field := web.FieldOf(c, web.MinPosition)
	if len(field) == 0 {
		return 0, nil
	}
	p, err := parseSince(string(field)) // 0 is what an empty database's answers say
	if err != nil {
		return 0, web.BadRequest(fmt.Sprintf("the field %s: %v", headerMinPosition, err))
	}
	return p, nil
}

// send writes the answer in the coding that the client likes best, or 304 where
// the client has it already.
func (s *service) send(c *fiber.Ctx, r *answer.Request, a *answer.Cached, media string) error {
	h := &c.Response().Header
	h.SetBytesV(headerPosition, a.Position)
	if a.Content == nil {
		web.Revalidated(c, false)
		id, err := pathID(c)
		if err != nil {
			return err
		}
		if a.Gone {
			return &web.Problem{Status: http.StatusGone, Detail: fmt.Sprintf("the point %q was deleted", id)}
		}
		return &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no point %q", id)}
	}
	f := s.cache.Form(r, a, web.FieldOf(c, web.AcceptEncoding))
	h.SetBytesV(fiber.HeaderETag, f.Tag)
	web.Revalidated(c, f.Varies) // ask every time: it costs a 304
	if a.Next != "" {
		h.Set(fiber.HeaderLink, `<`+a.Next+`>; rel="next"; type="`+mediaGeoJSON+`"`) // RFC 8288
	}
	if field := web.FieldOf(c, web.IfNoneMatch); len(field) > 0 && answer.Matches(field, f.Tag) {
		c.Response().SetStatusCode(http.StatusNotModified)
		return nil
	}
	if a.Content.Empty() { // a tile without points
		c.Response().SetStatusCode(http.StatusNoContent)
		return nil
	}
	h.SetContentType(media)
	if f.Name != "" {
		h.SetContentEncoding(f.Name)
	}
	c.Response().SetBodyRaw(f.Bytes) // shared, and changed by nobody
	return nil
}

// setAge labels an answer that may not be what the database would say now (RFC
// 9111, section 5.1).
func setAge(c *fiber.Ctx, age time.Duration) {
	c.Set(fiber.HeaderAge, strconv.Itoa(int(max(age, 0).Seconds())))
}
