package query

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/web"
	"cairn/query/answer"
	tree "cairn/query/filter"
	"cairn/query/ogc"
	"cairn/query/plan"
	"cairn/query/recent"
)

// countTimeout bounds the counting of what matches, which a page waits for: without
// an answer by then the page goes out without numberMatched.
const countTimeout = 5 * time.Second

// htmlLimit is how many points a page of HTML has where nobody says: what a person
// looks through.
const htmlLimit = 100

// GDAL's driver asks for pages of gdalLimit points where nobody tells it otherwise,
// as versions before 3.7 do, and for nothing but what it accepts: 21,000 requests for
// 210,000 points. Nobody looks at its pages, so those behind the first are larger.
const (
	gdalLimit  = 10
	gdalAccept = "application/geo+json, application/json"
)

// itemRoutes are those of a collection's items.
func (s *service) itemRoutes(collection *ogc.Collection) []web.Route {
	items := collection.Items()
	out := []web.Route{
		{Method: http.MethodGet, Path: items, Scope: auth.Read, Areas: true, Handler: func(c *fiber.Ctx) error { return s.getItems(c, collection) }},
		{Method: http.MethodGet, Path: items + "/:id", Scope: auth.Read, Areas: true, Handler: func(c *fiber.Ctx) error { return s.getItem(c, collection) }},
	}
	if s.forwarder != nil {
		out = append(out, s.forwarder.routes(collection)...)
	}
	return out
}

// GET /collections/{collection}/items: a page of what the filters let through, as a
// GeoJSON FeatureCollection or as HTML.
func (s *service) getItems(c *fiber.Ctx, collection *ogc.Collection) error {
	site := s.site(c)
	raw, err := s.withQueryables(c)
	if err != nil {
		return err
	}
	q := &itemsQuery{Query: plan.Query{Limit: defaultLimit}}
	if err := q.askText(c, raw, itemsParameters); err != nil {
		return err
	}
	sent, err := form(c, ogc.GeoJSON)
	if err != nil {
		return err
	}
	if sent == ogc.HTML && c.Query("limit") == "" {
		q.Limit = htmlLimit
	}
	if q.limited && q.Limit == gdalLimit && c.Get(fiber.HeaderAccept) == gdalAccept {
		q.nextLimit = defaultLimit
	}
	key := site.Base + " " + collection.Items() + "?" + q.text(q.After) + " " + strconv.Itoa(q.nextLimit) + q.view.key()
	r := s.cache.Add(key, "", func() (answer.Answer, error) { return s.items(site, collection, q) })
	return s.sendItems(c, r, q.minPosition, sent, func(body []byte) (*ogc.View, error) { return site.ViewItems(collection, body) })
}

// GET /collections/{collection}/items/{id}: one of them.
func (s *service) getItem(c *fiber.Ctx, collection *ogc.Collection) error {
	var least event.Position
	err := eachParameter(string(c.Request().URI().QueryString()), itemParameters, func(name, value string) (err error) {
		switch name {
		case "crs":
			err = checkCRS(value)
		case "min_position":
			least, err = parsePosition(value)
		}
		return err
	})
	if err != nil {
		return err
	}
	sent, err := form(c, ogc.GeoJSON)
	if err != nil {
		return err
	}
	id, err := pathID(c)
	if err != nil {
		return err
	}
	id, site, v := string([]byte(id)), s.site(c), viewOf(c) // fiber's text is the request's own buffer
	key := site.Base + " " + collection.Items() + "/" + url.PathEscape(id) + v.key()
	r := s.cache.Add(key, "", func() (answer.Answer, error) {
		a, err := s.one(event.Key(id), v)
		if a.Found {
			a.Body = withLinks(a.Body, site.ItemLinks(collection, url.PathEscape(id)))
		}
		return a, err
	})
	return s.sendItems(c, r, least, sent, func(body []byte) (*ogc.View, error) { return site.ViewItem(collection, id, body) })
}

// sendItems answers from the cache, in the form that the client wants.
func (s *service) sendItems(c *fiber.Ctx, r *answer.Request, named event.Position, sent string, view func([]byte) (*ogc.View, error)) error {
	least, err := minPosition(c)
	if err != nil {
		return err
	}
	a, age, stale, err := s.cache.Get(r, max(least, named).Sequence())
	if err != nil {
		return s.refuse(c, err)
	}
	if stale {
		setAge(c, age)
	}
	if sent != ogc.HTML || a.Content == nil {
		c.Set("Content-Crs", "<"+crs84+">") // part 2, section 6.3
		err := s.send(c, r, a, mediaGeoJSON)
		c.Vary(fiber.HeaderAccept)
		return err
	}
	v, err := view(s.cache.Form(r, a, nil).Bytes)
	if err != nil {
		return err
	}
	c.Response().Header.SetBytesV(headerPosition, a.Position)
	return sendView(c, v)
}

// items makes a page.
func (s *service) items(site ogc.Site, collection *ogc.Collection, q *itemsQuery) (answer.Answer, error) {
	return s.inTurn(q.Limit, func(bound int, buf *[]byte) (answer.Answer, error) {
		return s.itemsWithin(site, collection, q, bound, buf)
	})
}

func (s *service) itemsWithin(site ogc.Site, collection *ogc.Collection, q *itemsQuery, bound int, buf *[]byte) (answer.Answer, error) {
	ctx, cancel := s.bounded()
	defer cancel()
	w := itemsWriter{body: append((*buf)[:0], pageHead...), bound: bound, query: q}
	sequence, remembered, err := s.readItems(ctx, &w)
	*buf = w.body
	if err == nil && w.large {
		err = errLarge
	}
	if err != nil {
		return answer.Answer{}, err
	}
	s.metrics.rows.Add(float64(w.features))
	matched, known := int64(w.features), q.After == nil && !w.more
	if !known {
		matched, known = s.count(q)
	}
	a := answer.Answer{Sequence: sequence, Found: true, Remembered: remembered && known && matched == int64(w.features)}
	links := site.ItemsLinks(collection, q.text(q.After))
	if w.more {
		next := *q
		if q.nextLimit > 0 {
			next.Limit = q.nextLimit
		}
		a.Next = site.Base + collection.Items() + "?" + next.text(&w.last)
		links = append(links, ogc.Link{Href: a.Next, Rel: "next", Type: ogc.GeoJSON, Title: "The next page"})
	}
	if !known {
		matched = -1
	}
	if *buf, err = w.finish(matched, links); err != nil {
		return answer.Answer{}, err
	}
	a.Body = bytes.Clone(*buf)
	return a, nil
}

// readItems reads a page: newest first it begins in memory, as far as that goes, and
// the rest comes from the database. remembered: there was no rest.
func (s *service) readItems(ctx context.Context, w *itemsWriter) (sequence uint64, remembered bool, err error) {
	asked := w.query.Query
	asked.Wide = w.query.view.authors
	asked.Limit++ // one more, to know whether there is another page
	if asked.Sort != plan.ByPosition || asked.Ascending || w.query.properties != nil {
		sequence, err = s.reader.Page(ctx, asked, w.add)
		return sequence, false, err
	}
	before := newest
	if asked.After != nil {
		before = asked.After.Position
	}
	begin := len(w.body)
	q := recent.Query{Filter: asked.Filter, Before: before, Limit: asked.Limit}
	from, held, ok := s.walk(ctx, &q, w.addFeature)
	switch {
	case !ok:
		*w = itemsWriter{body: w.body[:begin], bound: w.bound, query: w.query}
	case w.more || from <= 0:
		s.memory.pagesWhole.Inc()
		return held, true, nil
	default:
		asked.After, asked.Joined = &plan.Key{Position: min(from, before)}, true
		if asked.Limit -= w.features; w.features > 0 {
			s.memory.pagesBegun.Inc()
		}
	}
	sequence, err = s.reader.Page(ctx, asked, w.add)
	if ok {
		sequence = min(sequence, held)
	}
	return sequence, false, err
}

// count is how many points pass, counted once for all pages of a filter while nothing
// changes.
func (s *service) count(q *itemsQuery) (n int64, known bool) {
	e := q.Filter
	r := s.cache.Add("count "+tree.Canonical(e), "", func() (answer.Answer, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.stopping), countTimeout)
		defer cancel()
		n, sequence, err := s.reader.Count(ctx, e)
		return answer.Answer{Body: strconv.AppendInt(nil, n, 10), Sequence: sequence, Found: true}, err
	})
	a, _, _, err := s.cache.Get(r, 0)
	if err == nil {
		n, err = strconv.ParseInt(string(s.cache.Form(r, a, nil).Bytes), 10, 64)
	}
	if err != nil {
		s.log.Warn("a page goes out without its number of matches", "error", err)
	}
	return n, err == nil
}

// An itemsWriter encodes Features until the page is full.
type itemsWriter struct {
	body     []byte
	query    *itemsQuery
	row      row
	features int
	last     plan.Key // of the last Feature written
	more     bool
	bound    int  // bytes
	large    bool // the bound is smallPage's, and too low
}

func (w *itemsWriter) add(r plan.Row) (bool, error) {
	if w.features == w.query.Limit {
		w.more = true
		return false, nil
	}
	key, err := keyOf(w.query.Sort, r)
	if err != nil {
		return false, err
	}
	begin := len(w.body)
	if w.features > 0 {
		w.body = append(w.body, ',')
	}
	w.row = rowOf(w.row, r)
	if w.body, err = appendSelected(w.body, w.row, w.query.properties); err != nil {
		return false, err
	}
	if w.query.Sort == plan.ByDistance {
		w.body = appendDistance(w.body, w.row, key.Distance)
	}
	if w.query.view.authors {
		w.body = appendAuthor(w.body, begin, string(r[plan.ColAuthor]))
	}
	return w.end(begin, key), nil
}

// addFeature writes a row that is encoded already, and says whether it wants another.
func (w *itemsWriter) addFeature(r *recent.Row) bool {
	if w.features == w.query.Limit {
		w.more = true
		return false
	}
	begin := len(w.body)
	if w.features > 0 {
		w.body = append(w.body, ',')
	}
	w.body = append(w.body, r.Feature...)
	if w.query.view.authors {
		w.body = appendAuthor(w.body, begin, r.Author)
	}
	return w.end(begin, plan.Key{Position: r.Position})
}

// end takes back what began there if the page is too large with it.
func (w *itemsWriter) end(begin int, key plan.Key) bool {
	if len(w.body) > w.bound && w.features > 0 {
		w.body, w.more, w.large = w.body[:begin], true, w.bound < largePage
		return false
	}
	w.features++
	w.last = key
	return true
}

func keyOf(sort plan.Sort, r plan.Row) (k plan.Key, err error) {
	if k.Position, err = r.Position(); err != nil {
		return k, err
	}
	switch sort {
	case plan.ByTime:
		k.Time, err = r.Time()
	case plan.ByDistance:
		k.Distance, _ = r.Float64(plan.ColDistance)
	case plan.ByName:
		k.Name = string(r[plan.ColName])
	}
	return k, err
}

// finish writes what follows the Features (OGC API Features, part 1, section 7.16).
// A number that is not known is negative.
func (w *itemsWriter) finish(matched int64, links []ogc.Link) ([]byte, error) {
	text, err := json.Marshal(links)
	if err != nil {
		return w.body, fmt.Errorf("write links: %w", err)
	}
	w.body = append(w.body, `],"numberReturned":`...)
	w.body = strconv.AppendInt(w.body, int64(w.features), 10)
	if matched >= 0 {
		w.body = append(w.body, `,"numberMatched":`...)
		w.body = strconv.AppendInt(w.body, matched, 10)
	}
	w.body = append(append(w.body, `,"links":`...), text...)
	return append(w.body, '}'), nil
}

// withLinks adds links to a Feature, unless it has a member of that name itself.
func withLinks(feature []byte, links []ogc.Link) []byte {
	if hasMember(feature, `"links": `) || len(feature) < 2 {
		return feature
	}
	text, err := json.Marshal(links)
	if err != nil {
		return feature
	}
	return append(append(append(feature[:len(feature)-1:len(feature)-1], `,"links":`...), text...), '}')
}

// rowOf puts the columns of a row of plan's where the encoder has them.
func rowOf(dst row, r plan.Row) row {
	if dst == nil {
		dst = make(row, colCount)
	}
	dst[colID], dst[colExternalID], dst[colExternalIDNumber] = r[plan.ColID], r[plan.ColExternalID], r[plan.ColExternalIDNumber]
	dst[colPosition], dst[colRevision] = r[plan.ColPosition], r[plan.ColRevision]
	dst[colLongitude], dst[colLatitude], dst[colAltitude] = r[plan.ColLongitude], r[plan.ColLatitude], r[plan.ColAltitude]
	dst[colObserved], dst[colReceived] = r[plan.ColObserved], r[plan.ColReceived]
	dst[colProperties], dst[colMembers] = r[plan.ColProperties], r[plan.ColMembers]
	return dst
}
