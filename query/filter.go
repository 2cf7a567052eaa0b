package query

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"cairn/event"
	"cairn/internal/web"
	"cairn/query/filter"
	"cairn/query/ogc"
)

const (
	// defaultLimit is a page that Postgres makes in a few milliseconds.
	defaultLimit = 1_000
	// maxLimit bounds what one request may ask of everybody's database.
	maxLimit = 10_000
)

var oneParameters = []string{"min_position"}

// parseOne reads the query string of GET /points/{id}.
func parseOne(raw string) (minPosition event.Position, err error) {
	err = eachParameter(raw, oneParameters, func(_, value string) (err error) {
		minPosition, err = parsePosition(value)
		return err
	})
	return minPosition, err
}

// eachParameter calls f with every parameter. It refuses what is not in known,
// for a typing mistake would silently ask another request, and what is there
// twice, for nobody could say which one holds.
func eachParameter(raw string, known []string, f func(name, value string) error) error {
	seen := make([]string, 0, len(known))
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return web.BadRequest("a parameter's name is not percent-encoded as RFC 3986 has it")
		}
		if !slices.Contains(known, name) && !isProperty(name, known) {
			return badParameter(name, "there is no parameter %q; %s", name, suggest(name, known))
		}
		if slices.Contains(seen, name) {
			return badParameter(name, "the parameter %s is given more than once", name)
		}
		seen = append(seen, name)
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return badParameter(name, "%s: it is not percent-encoded as RFC 3986 has it", name)
		}
		if err := f(name, value); err != nil {
			return badParameter(name, "%s: %v", name, err)
		}
	}
	return nil
}

// isProperty reports whether the name is of a property, where known has those.
func isProperty(name string, known []string) bool {
	return strings.HasPrefix(name, filter.PropertyPrefix) && slices.Contains(known, filter.PropertyPrefix+"NAME")
}

func badParameter(name, format string, args ...any) error {
	p := web.BadRequest(fmt.Sprintf(format, args...))
	p.Members = map[string]any{"parameter": name}
	return p
}

// parseLimit reads a positive integer; more than maxLimit is maxLimit.
func parseLimit(s string) (int, error) {
	if !isDigits(s) || strings.Trim(s, "0") == "" {
		return 0, fmt.Errorf("it must be a positive integer, not %q", s)
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > maxLimit { // out of range is more, too
		return maxLimit, nil
	}
	return n, nil
}

// parseLanguage reads the parameter filter-lang.
func parseLanguage(s string) (string, error) {
	if s != ogc.CQL2Text && s != ogc.CQL2JSON {
		return "", fmt.Errorf("there is no language %q, only %s and %s", s, ogc.CQL2Text, ogc.CQL2JSON)
	}
	return s, nil
}

// parseFilter reads the parameter filter; nil, of nothing, lets all through.
func parseFilter(text, language string) (filter.Expr, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxFilterBytes {
		return nil, badParameter("filter", "filter: it has more than %d bytes", maxFilterBytes)
	}
	e, err := ogc.ParseFilter(text, language)
	if err != nil {
		return nil, badParameter("filter", "filter: %v", err)
	}
	return e, nil
}

// parsePosition reads a position as Cairn gives it: a positive integer.
func parsePosition(s string) (event.Position, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || !isDigits(s) {
		return 0, fmt.Errorf("it must be a position, a positive integer below 2^63, not %q", s)
	}
	return event.Position(n), nil
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
