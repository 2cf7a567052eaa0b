package query

import (
	"bytes"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/query/answer"
	"cairn/query/filter"
	"cairn/query/plan"
)

var latestParameters = []string{"bbox", "datetime", "name", "near", "author", filter.PropertyPrefix + "NAME", "filter", "filter-lang", "limit", "cursor", "min_position"}

// GET /latest: the newest point of each name, by the time observed, else received, as
// a page of a GeoJSON FeatureCollection. A filter is about the newest points: who was
// in a box and has left it is not in the answer.
func (s *service) getLatest(c *fiber.Ctx) error { return s.get(c, s.latestRequest) }

func (s *service) latestRequest(c *fiber.Ctx) (*answer.Request, event.Position, error) {
	q := &itemsQuery{Query: plan.Query{Limit: defaultLimit, Sort: plan.ByName, Wide: true}}
	if err := q.ask(c, latestParameters); err != nil {
		return nil, 0, err
	}
	base := s.server.Base(c)
	key := base + " /latest"
	if text := q.text(q.After); text != "" {
		key += "?" + text
	}
	run := func() (answer.Answer, error) { return s.latest(base, q) }
	return s.cache.Add(key+q.view.key(), s.name(c, q.minPosition), run), q.minPosition, nil
}

// latest makes a page.
func (s *service) latest(base string, q *itemsQuery) (answer.Answer, error) {
	return s.inTurn(q.Limit, func(bound int, buf *[]byte) (answer.Answer, error) { return s.latestWithin(base, q, bound, buf) })
}

func (s *service) latestWithin(base string, q *itemsQuery, bound int, buf *[]byte) (answer.Answer, error) {
	ctx, cancel := s.bounded()
	defer cancel()
	w := pageWriter{body: append((*buf)[:0], pageHead...), bound: bound, query: &q.Query, authors: q.view.authors}
	one := q.Query
	one.Limit++ // more than the page holds, to know whether there is another page
	fresh, err := s.reader.Latest(ctx, one, w.add)
	*buf = w.body
	if err == nil && w.large {
		err = errLarge
	}
	if err != nil {
		return answer.Answer{}, err
	}
	s.metrics.rows.Add(float64(w.features))
	// If the table is behind the database, this is the best answer there is, and does
	// not mean that the database was restored to an older state.
	a := answer.Answer{Found: true, Sequence: fresh.Sequence, Remembered: fresh.Sequence < fresh.Checkpoint}
	if w.more {
		a.Next = base + "/latest?" + q.text(&w.last)
	}
	*buf = w.finish(-1, a.Next, false)
	a.Body = bytes.Clone(*buf)
	return a, nil
}
