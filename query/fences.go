package query

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"

	"cairn/fence"
	"cairn/internal/auth"
	"cairn/internal/web"
)

const (
	// fencesPage is how many fences a page has unless it is told, and maxFencesPage at
	// most: a fence may have 10,000 vertices.
	fencesPage, maxFencesPage = 100, 1000
	// fencesPageBytes bounds a page, which ends behind the fence that passes it.
	fencesPageBytes = 4 << 20
	// fenceEventsPage and maxFenceEventsPage are the same of crossings.
	fenceEventsPage, maxFenceEventsPage = 100, 1000

	fencesEverywhere = "fences tell of all points, wherever they are: a key that holds for an area may not ask"
)

// fenceRoutes are those that show fences. They change under the same paths, where ingest
// answers, or it is passed on to.
func (s *service) fenceRoutes() []web.Route {
	out := []web.Route{
		{Method: http.MethodGet, Path: "/fences", Scope: auth.Read, Handler: s.getFences},
		{Method: http.MethodGet, Path: "/fences/:id", Scope: auth.Read, Handler: s.getFence},
		{Method: http.MethodGet, Path: "/fences/:id/events", Scope: auth.Read, Handler: s.getFenceEvents},
	}
	if s.forwarder != nil {
		out = append(out,
			web.Route{Method: http.MethodPut, Path: "/fences/:id", Scope: auth.Edit, Handler: s.forwarder.forward},
			web.Route{Method: http.MethodDelete, Path: "/fences/:id", Scope: auth.Edit, Handler: s.forwarder.forward})
	}
	return out
}

// A pageOf is which page is asked for.
type pageOf struct {
	limit  int
	cursor string // behind which; "": from the beginning
}

// parsePageOf reads the parameters limit and cursor.
func parsePageOf(c *fiber.Ctx, usual, most int) (p pageOf, err error) {
	p.limit = usual
	err = eachParameter(string(c.Request().URI().QueryString()), []string{"limit", "cursor"}, func(name, value string) (err error) {
		if name == "limit" {
			p.limit, err = parseLimit(value)
			p.limit = min(p.limit, most)
			return err
		}
		text, err := base64.RawURLEncoding.Strict().DecodeString(value)
		if p.cursor = string(text); err != nil || p.cursor == "" || fence.CheckID(p.cursor) != nil {
			return errCursor
		}
		return nil
	})
	return p, err
}

// next is the URL of the page behind.
func (p pageOf) next(s *service, c *fiber.Ctx, last string) string {
	return s.server.Base(c) + string(c.Request().URI().PathOriginal()) + "?" + url.Values{
		"limit": {strconv.Itoa(p.limit)}, "cursor": {base64.RawURLEncoding.EncodeToString([]byte(last))}}.Encode()
}

// sendPage sends a body, and says where the next page is.
func sendPage(c *fiber.Ctx, body []byte, next, media string) error {
	if next != "" {
		body = append(append(body, `,"links":[{"rel":"next","type":"`+media+`","href":"`...), next...)
		body = append(body, `"}]`...)
		c.Set(fiber.HeaderLink, `<`+next+`>; rel="next"; type="`+media+`"`)
	}
	c.Set(fiber.HeaderContentType, media)
	return sendSmall(c, append(body, '}'))
}

// GET /fences: a page of the fences, in the order of their ids, as a GeoJSON
// FeatureCollection.
func (s *service) getFences(c *fiber.Ctx) error {
	p, err := parsePageOf(c, fencesPage, maxFencesPage)
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	rows, err := s.pool.Query(ctx, `select id, definition from fences where id > $1 order by id limit $2`, p.cursor, p.limit+1)
	if err != nil {
		return s.refuse(c, err)
	}
	defer rows.Close()
	body, n, last, more := []byte(`{"type":"FeatureCollection","features":[`), 0, "", false
	for rows.Next() {
		if more = n == p.limit || len(body) > fencesPageBytes; more {
			break
		}
		var definition string
		if err := rows.Scan(&last, &definition); err != nil {
			return s.refuse(c, err)
		}
		if n++; n > 1 {
			body = append(body, ',')
		}
		body = append(body, definition...)
	}
	if err := rows.Err(); err != nil {
		return s.refuse(c, err)
	}
	next := ""
	if more {
		next = p.next(s, c, last)
	}
	return sendPage(c, append(body, ']'), next, mediaGeoJSON)
}

// fenceID is the id in the path.
func fenceID(c *fiber.Ctx) (string, error) {
	id, err := pathID(c)
	if err != nil {
		return "", err
	}
	if err := fence.CheckID(id); err != nil {
		return "", web.BadRequest(err.Error())
	}
	return strings.Clone(id), nil
}

// GET /fences/{id}: one fence, as a GeoJSON Feature.
func (s *service) getFence(c *fiber.Ctx) error {
	if err := eachParameter(string(c.Request().URI().QueryString()), nil, nil); err != nil {
		return err
	}
	id, err := fenceID(c)
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	definition, err := s.fence(ctx, c, id)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, mediaGeoJSON)
	return sendSmall(c, []byte(definition))
}

func (s *service) fence(ctx context.Context, c *fiber.Ctx, id string) (definition string, err error) {
	err = s.pool.QueryRow(ctx, `select definition from fences where id = $1`, id).Scan(&definition)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no fence %q", id)}
	}
	if err != nil {
		return "", s.refuse(c, err)
	}
	return definition, nil
}

// GET /fences/{id}/events: who entered and left the area, the newest first.
func (s *service) getFenceEvents(c *fiber.Ctx) error {
	p, err := parsePageOf(c, fenceEventsPage, maxFenceEventsPage)
	if err != nil {
		return err
	}
	id, err := fenceID(c)
	if err != nil {
		return err
	}
	before, n, err := p.before()
	if err != nil {
		return err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	if _, err := s.fence(ctx, c, id); err != nil {
		return err
	}
	rows, err := s.pool.Query(ctx, `select `+fenceEventColumns+` from fence_events where fence = $1 and position <= $2 and (position, n) < ($2, $3)
		order by position desc, n desc limit $4`, id, before, n, p.limit+1)
	if err != nil {
		return s.refuse(c, err)
	}
	var r eventRow
	var last string
	body, count := []byte(`{"events":[`), 0
	_, err = pgx.ForEachRow(rows, r.fields(), func() error {
		if count++; count > p.limit {
			return nil
		}
		e := r.event()
		if last = e.ID(); count > 1 {
			body = append(body, ',')
		}
		body = e.Append(body)
		return nil
	})
	if err != nil {
		return s.refuse(c, err)
	}
	next := ""
	if count > p.limit {
		next = p.next(s, c, last)
	}
	return sendPage(c, append(body, ']'), next, "application/json")
}

const (
	// maxPosition is beyond all.
	maxPosition = 1<<63 - 1
	// maxEventNumber is beyond what one position brings about.
	maxEventNumber = 1<<15 - 1
)
