package ingest

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/web"
)

// maxTags bounds the entity tags of one If-Match: a client has seen one, or a few.
const maxTags = 32

const oneCondition = "give If-Match or If-None-Match, not both: no point can meet the two"

// A precondition is what a request wants to be true of the point before it is
// changed (RFC 9110, section 13.1). The zero value wants nothing.
type precondition struct {
	given  bool
	any    bool             // If-Match: *, there must be a point
	absent bool             // If-None-Match: *, there must be none
	tags   []event.Position // If-Match: the point must be at one of these revisions
}

// preconditionOf reads If-Match and If-None-Match. A point's entity tag is its
// revision in quotes, so that other strong tags match nothing, and neither do weak
// ones: If-Match compares strongly (RFC 9110, section 13.1.1). There is no time of
// modification to go with If-Unmodified-Since, so it is ignored, as section 13.1.4
// has it.
func preconditionOf(c *fiber.Ctx) (precondition, error) {
	match := fieldOf(c, fiber.HeaderIfMatch)
	noneMatch := fieldOf(c, fiber.HeaderIfNoneMatch)
	switch {
	case match != nil && noneMatch != nil:
		return precondition{}, &web.Problem{Status: http.StatusPreconditionFailed, Detail: oneCondition}
	case match != nil:
		return parseIfMatch(match)
	case noneMatch == nil:
		return precondition{}, nil
	case string(bytes.TrimSpace(noneMatch)) != "*":
		return precondition{}, web.BadRequest("If-None-Match with a change is taken as * only: there must be no such point. To change a certain revision, send If-Match: \"REVISION\"")
	}
	return precondition{given: true, absent: true}, nil
}

// fieldOf is the field's value, that of several lines joined (RFC 9110, section
// 5.3); nil where there is none.
func fieldOf(c *fiber.Ctx, name string) []byte {
	lines := c.Request().Header.PeekAll(name)
	if len(lines) == 0 {
		return nil
	}
	return append([]byte{}, bytes.Join(lines, []byte(", "))...)
}

func parseIfMatch(field []byte) (precondition, error) {
	wrong := web.BadRequest(`If-Match must be * or a revision in double quotes, as the ETag of GET /points/{id} has it: If-Match: "4096"`)
	p := precondition{given: true}
	rest := bytes.TrimSpace(field)
	if string(rest) == "*" {
		p.any = true
		return p, nil
	}
	for tags := 0; len(rest) > 0; {
		if rest[0] == ',' { // RFC 9110, section 5.6.1.2: empty elements
			rest = bytes.TrimLeft(rest[1:], " \t")
			continue
		}
		if tags++; tags > maxTags {
			return p, web.BadRequest("If-Match has more than " + strconv.Itoa(maxTags) + " entity tags")
		}
		var weak bool
		if rest, weak = bytes.CutPrefix(rest, []byte("W/")); len(rest) == 0 || rest[0] != '"' {
			return p, wrong
		}
		end := bytes.IndexByte(rest[1:], '"')
		if end < 0 {
			return p, wrong
		}
		if revision, ok := parseRevision(rest[1 : 1+end]); ok && !weak {
			p.tags = append(p.tags, revision)
		}
		if rest = bytes.TrimLeft(rest[end+2:], " \t"); len(rest) > 0 && rest[0] != ',' {
			return p, wrong
		}
	}
	return p, nil
}

// parseRevision reads what the text of a point's entity tag is.
func parseRevision(text []byte) (event.Position, bool) {
	if len(text) == 0 || text[0] < '1' || text[0] > '9' {
		return 0, false
	}
	revision, err := strconv.ParseInt(string(text), 10, 64)
	return event.Position(revision), err == nil
}

// impossible reports whether no revision of any point can meet it.
func (p *precondition) impossible() bool {
	return p.given && !p.any && !p.absent && len(p.tags) == 0
}
