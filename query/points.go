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
)

// An answer is an encoded body and what its statement read with it.
type answer struct {
	body     []byte
	sequence uint64 // of the checkpoint: the answer is true for event.EndOf of it
	found    bool   // whether there was anything at all
	next     string // where the next page is; "" where there is none
}

// GET /points: a page of the points that the filters let through, newest first,
// as a GeoJSON FeatureCollection.
func (s *service) getPoints(c *fiber.Ctx) error { return s.get(c, s.listQuestion) }

// GET /points/{id}: one point, as a GeoJSON Feature.
func (s *service) getPoint(c *fiber.Ctx) error { return s.get(c, s.oneQuestion) }

// get answers. Whoever asks what was asked before, in the same bytes, has it
// from memory, without anything being parsed.
func (s *service) get(c *fiber.Ctx, parse func(*fiber.Ctx) (*question, event.Position, error)) error {
	least, err := minPosition(c)
	if err != nil {
		return err
	}
	q := s.cache.find(c.Request().Header.RequestURI())
	if q == nil {
		var named event.Position
		if q, named, err = parse(c); err != nil {
			return err
		}
		least = max(least, named)
	}
	k, stale := q.fresh(s.tracker, least.Sequence()), false
	if k != nil {
		s.metrics.hits.Inc()
	} else if k, stale, err = s.answer(q, least.Sequence()); err != nil {
		return refuse(c, err)
	}
	if stale {
		s.metrics.stale.Inc()
		setAge(c, s.tracker.now()-s.tracker.since(k.sequence, k.at))
	}
	return s.send(c, q, k)
}

func (s *service) listQuestion(c *fiber.Ctx) (*question, event.Position, error) {
	l, err := parseList(string(c.Request().URI().QueryString()))
	if err != nil {
		return nil, 0, err
	}
	q := &question{key: l.href(), ask: func() (answer, error) { return s.page(l.filter) }}
	return s.cache.add(q, name(c, l.minPosition)), l.minPosition, nil
}

func (s *service) oneQuestion(c *fiber.Ctx) (*question, event.Position, error) {
	least, err := parseOne(string(c.Request().URI().QueryString()))
	if err != nil {
		return nil, 0, err
	}
	id, err := pathID(c)
	if err != nil {
		return nil, 0, err
	}
	key := event.Key(id)
	q := &question{key: "/points/" + key.String(), ask: func() (answer, error) { return s.one(key) }}
	return s.cache.add(q, name(c, least)), least, nil
}

// name is what the question is found under when it comes again, which it does
// not with a position: that is another one every time.
func name(c *fiber.Ctx, least event.Position) string {
	if least > 0 {
		return ""
	}
	return string(c.Request().Header.RequestURI())
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
	field := c.Request().Header.Peek(headerMinPosition)
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
func (s *service) send(c *fiber.Ctx, q *question, k *kept) error {
	h := &c.Response().Header
	h.SetBytesV(headerPosition, k.position)
	h.Set(fiber.HeaderCacheControl, "no-cache") // ask every time: it costs a 304
	if k.content == nil {
		id, err := pathID(c)
		if err != nil {
			return err
		}
		return &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no point %q", id)}
	}
	in := &c.Request().Header
	f, made := k.in(choose(in.Peek(fiber.HeaderAcceptEncoding), len(k.plain.bytes)))
	if made > 0 {
		s.metrics.packed.Inc()
		s.cache.grow(q, made)
	}
	h.SetBytesV(fiber.HeaderETag, f.tag)
	h.Set(fiber.HeaderVary, fiber.HeaderAcceptEncoding)
	if k.link != nil {
		h.SetBytesV(fiber.HeaderLink, k.link)
	}
	if field := in.Peek(fiber.HeaderIfNoneMatch); len(field) > 0 && matches(field, f.tag) {
		c.Response().SetStatusCode(http.StatusNotModified)
		return nil
	}
	h.SetContentType(mediaGeoJSON)
	if f.name != "" {
		h.SetContentEncoding(f.name)
	}
	c.Response().SetBodyRaw(f.bytes) // shared, and changed by nobody
	return nil
}

// setAge labels an answer that may not be what the database would say now (RFC
// 9111, section 5.1).
func setAge(c *fiber.Ctx, age time.Duration) {
	c.Set(fiber.HeaderAge, strconv.Itoa(int(max(age, 0).Seconds())))
}
