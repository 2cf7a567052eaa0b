package query

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"cairn/query/filter"
	"cairn/query/plan"
)

// An itemsQuery is what GET /points or GET /collections/{collection}/items was asked.
type itemsQuery struct {
	plan.Query
	restrictions
	view        view // whose request it is
	sortby      string
	properties  []string // nil: all
	form        string   // the parameter f
	counted     bool     // numberMatched is asked for
	limited     bool     // the limit was given, so that the caller knows of pages
	nextLimit   int      // the limit of the page behind, where it is another
	spreadsheet bool     // a table is for one
}

var (
	itemsParameters = []string{"bbox", "datetime", "name", "near", "author", "filter", "filter-lang", "filter-crs", "bbox-crs", "crs", "sortby",
		"properties", "limit", "cursor", "min_position", "f"}
	itemParameters = []string{"crs", "min_position", "f"}
	// pointsParameters are those of GET /points.
	pointsParameters   = []string{"bbox", "datetime", "name", "near", "author", "filter", "filter-lang", filter.PropertyPrefix + "NAME", "sortby", "limit", "cursor", "min_position", "numberMatched"}
	downloadParameters = []string{"bbox", "datetime", "name", "near", "author", "filter", "filter-lang", "filter-crs", "bbox-crs", "properties", "spreadsheet"}
)

const (
	crs84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
	// maxFilterBytes bounds a filter: a request's head has 16 KiB.
	maxFilterBytes = 12 << 10
	// maxWanted bounds the properties that are selected.
	maxWanted = 200
)

// parseItems reads the query string of GET /collections/{collection}/items, or of a
// download, which knows fewer parameters.
func parseItems(raw string, known []string) (*itemsQuery, error) {
	q := &itemsQuery{Query: plan.Query{Limit: defaultLimit}}
	if err := q.parse(raw, known); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *itemsQuery) parse(raw string, known []string) error {
	var cursor string
	err := q.read(raw, slices.Concat(known, propertyParameters(raw)), func(name, value string) (mine bool, err error) {
		switch name {
		case "crs", "bbox-crs", "filter-crs":
			err = checkCRS(value)
		case "sortby":
			err = q.parseSort(value)
		case "properties":
			q.properties, err = parseProperties(value)
		case "limit":
			q.limited = true
			q.Limit, err = parseLimit(value)
		case "cursor":
			if cursor = value; cursor == "" {
				err = errCursor
			}
		case "f":
			q.form = value
		case "spreadsheet":
			if q.spreadsheet = value == "true"; !q.spreadsheet && value != "false" {
				err = errors.New("it must be true or false")
			}
		case "numberMatched":
			if q.counted = value == "true"; !q.counted && value != "false" {
				err = errors.New("it must be true or false")
			}
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return q.complete(cursor)
}

// askedItems is the request's query of what the caller may see.
func askedItems(c *fiber.Ctx, known []string) (*itemsQuery, error) {
	q := &itemsQuery{Query: plan.Query{Limit: defaultLimit}}
	return q, q.ask(c, known)
}

func (q *itemsQuery) ask(c *fiber.Ctx, known []string) error {
	// The text outlives the request, whose buffers fiber uses again.
	return q.askText(c, string(c.Request().URI().QueryString()), known)
}

// askText is ask with a query string that is not quite the request's.
func (q *itemsQuery) askText(c *fiber.Ctx, raw string, known []string) error {
	if err := q.parse(raw, known); err != nil {
		return err
	}
	q.view = viewOf(c)
	err := checkAuthors(c, q.Filter)
	q.Filter = q.view.within(q.Filter)
	return err
}

// propertyParameters are the names of parameters that restrict properties: any may
// be given.
func propertyParameters(raw string) (names []string) {
	for part := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(part, "=")
		if name, err := url.QueryUnescape(name); err == nil && strings.HasPrefix(name, filter.PropertyPrefix) {
			names = append(names, name)
		}
	}
	return names
}

// complete puts the parts together.
func (q *itemsQuery) complete(cursor string) error {
	q.Filter = q.expr()
	for _, p := range q.parameters {
		if near, ok := p.Expr.(filter.Near); ok && q.sortby == "" {
			q.Sort, q.Near = plan.ByDistance, near
		}
	}
	if cursor == "" {
		return nil
	}
	sort, key, err := parseCursor(cursor)
	if err == nil && sort != q.Sort {
		err = errCursorOrder
	}
	if err != nil {
		return badParameter("cursor", "cursor: %v", err)
	}
	q.After = key
	return nil
}

func checkCRS(value string) error {
	if value != crs84 {
		return fmt.Errorf("there is only %s: longitude and latitude", crs84)
	}
	return nil
}

// parseSort reads one key with a sign before it. A + that was sent as it is comes as
// a space.
func (q *itemsQuery) parseSort(s string) error {
	name := strings.TrimLeft(s, "+- ")
	q.Ascending = !strings.HasPrefix(s, "-")
	switch {
	case len(s)-len(name) > 1:
	case name == "position":
		q.Sort = plan.ByPosition
		q.sortby = s
		return nil
	case name == "time":
		q.Sort = plan.ByTime
		q.sortby = s
		return nil
	}
	return errors.New("it must be one of position, -position, time, -time")
}

// parseProperties reads names with commas between them; none is none.
func parseProperties(s string) ([]string, error) {
	names := []string{}
	for name := range strings.SplitSeq(s, ",") {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > maxWanted {
		return nil, fmt.Errorf("there are more than %d names", maxWanted)
	}
	return names, nil
}

// plainer makes escaped text of a query easier to read: what RFC 3986, section 3.4,
// lets stand is not escaped. A + would be read as a space by some and as itself by
// others.
var plainer = strings.NewReplacer("+", "%20", "%2C", ",", "%3A", ":", "%2F", "/")

// text is the query string that parseItems reads back as the same; after is where
// the page begins, if it is not the first.
func (q *itemsQuery) text(after *plan.Key) string {
	var b strings.Builder
	add := func(name, value string) {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(plainer.Replace(url.QueryEscape(name) + "=" + url.QueryEscape(value)))
	}
	for _, p := range q.parameters {
		add(p.Name, p.Value)
	}
	if q.cqlExpr != nil {
		add("filter", q.cql)
		if q.lang != "" {
			add("filter-lang", q.lang)
		}
	}
	if q.sortby != "" {
		sign := "-"
		if q.Ascending {
			sign = ""
		}
		add("sortby", sign+strings.TrimLeft(q.sortby, "+- "))
	}
	if q.properties != nil {
		add("properties", strings.Join(q.properties, ","))
	}
	if q.limited || q.Limit != defaultLimit {
		add("limit", strconv.Itoa(q.Limit))
	}
	if q.counted {
		add("numberMatched", "true")
	}
	if after != nil {
		add("cursor", string(appendCursor(nil, q.Sort, after)))
	}
	return b.String()
}
