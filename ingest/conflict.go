package ingest

import (
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/web"
)

// An onConflict is what becomes of a point whose id is there already with other
// content. The same content is always unchanged.
type onConflict int

const (
	park    onConflict = iota // it is parked, and what is there stays
	replace                   // it takes the place of what is there
	skip                      // what is there stays, and nothing is parked
)

const onConflictParameter = "on-conflict"

var onConflicts = map[string]onConflict{"park": park, "replace": replace, "skip": skip}

// apply makes the event of a new point one of this mode.
func (m onConflict) apply(e *event.Event) {
	e.Type, e.If = event.Created, event.Condition{}
	switch m {
	case replace:
		e.Type = event.Put
	case skip:
		e.If = event.IfNone()
	}
}

// onConflictOf takes the parameter out of the query string; the rest is the
// format's.
func onConflictOf(c *fiber.Ctx) (m onConflict, rest string, err error) {
	query := c.Context().URI().QueryString()
	if len(query) == 0 {
		return park, "", nil
	}
	var others []string
	given := false
	for _, pair := range strings.Split(string(query), "&") {
		name, value, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err != nil || plain != onConflictParameter {
			others = append(others, pair)
			continue
		}
		mode, known := onConflicts[value]
		switch {
		case given:
			return park, "", web.BadRequest(`the query parameter "on-conflict" is given twice`)
		case !known:
			return park, "", web.BadRequest("on-conflict must be park, replace or skip")
		}
		m, given = mode, true
	}
	return m, strings.Join(others, "&"), nil
}
