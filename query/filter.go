package query

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cairn/event"
	"cairn/internal/web"
	tree "cairn/query/filter"
)

const (
	// defaultLimit is a page that Postgres makes in a few milliseconds.
	defaultLimit = 1_000
	// maxLimit bounds what one request may ask of everybody's database.
	maxLimit = 10_000
)

// A filter is what a page may hold. Equal filters are the same question.
type filter struct {
	bbox   *box
	when   *interval // of the time observed, else received
	name   string    // "": any
	limit  int
	before event.Position // only positions below it
}

// A listQuery is what GET /points was asked.
type listQuery struct {
	filter
	minPosition event.Position // 0: any will do
}

var (
	listParameters = []string{"bbox", "datetime", "name", "limit", "cursor", "min_position"}
	oneParameters  = []string{"min_position"}
)

// parseList reads the query string of GET /points.
func parseList(raw string) (listQuery, error) {
	q := listQuery{filter: filter{limit: defaultLimit, before: newest}}
	err := eachParameter(raw, listParameters, func(name, value string) (err error) {
		switch name {
		case "bbox":
			q.bbox, err = parseBox(value)
		case "datetime":
			q.when, err = parseInterval(value)
		case "name":
			q.name, err = parseName(value)
		case "limit":
			q.limit, err = parseLimit(value)
		case "cursor":
			q.before, err = parseCursor(value)
		case "min_position":
			q.minPosition, err = parsePosition(value)
		}
		return err
	})
	return q, err
}

// parseOne reads the query string of GET /points/{id}.
func parseOne(raw string) (minPosition event.Position, err error) {
	err = eachParameter(raw, oneParameters, func(_, value string) (err error) {
		minPosition, err = parsePosition(value)
		return err
	})
	return minPosition, err
}

// eachParameter calls f with every parameter. It refuses what is not in known,
// for a typing mistake would silently ask another question, and what is there
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

// isProperty tells whether the name is of a property, where known has those.
func isProperty(name string, known []string) bool {
	return strings.HasPrefix(name, tree.PropertyPrefix) && slices.Contains(known, tree.PropertyPrefix+"NAME")
}

func badParameter(name, format string, args ...any) error {
	p := web.BadRequest(fmt.Sprintf(format, args...))
	p.Members = map[string]any{"parameter": name}
	return p
}

// parseName reads a name that a point may have.
func parseName(s string) (string, error) {
	switch n := utf8.RuneCountInString(s); {
	case n == 0 || n > event.MaxNameRunes:
		return "", fmt.Errorf("a name has 1 to %d characters, not %d", event.MaxNameRunes, n)
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return "", errors.New("it is not text in UTF-8")
	}
	return s, nil
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

// parsePosition reads a position as Cairn gives it: a positive integer.
func parsePosition(s string) (event.Position, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || !isDigits(s) {
		return 0, fmt.Errorf("it must be a position, a positive integer below 2^63, not %q", s)
	}
	return event.Position(n), nil
}

// href is where the filter's page is: what parseList reads back as the same.
func (f *filter) href() string {
	dst := append(make([]byte, 0, 160), "/points"...)
	separator := byte('?')
	add := func(name string) {
		dst = append(append(append(dst, separator), name...), '=')
		separator = '&'
	}
	if f.bbox != nil {
		add("bbox")
		dst = f.bbox.append(dst)
	}
	if f.when != nil {
		add("datetime")
		dst = f.when.append(dst)
	}
	if f.name != "" {
		add("name")
		dst = append(dst, url.QueryEscape(f.name)...)
	}
	if f.limit != defaultLimit {
		add("limit")
		dst = strconv.AppendInt(dst, int64(f.limit), 10)
	}
	if f.before != newest {
		add("cursor")
		dst = appendCursor(dst, f.before)
	}
	return string(dst)
}

// expr is the filter as a tree, without its position and limit.
func (f *filter) expr() tree.Expr {
	var parts []tree.Expr
	if b := f.bbox; b != nil {
		parts = append(parts, tree.Box{West: b.west, South: b.south, East: b.east, North: b.north})
	}
	if f.when != nil {
		parts = append(parts, tree.During(tree.Time, f.when.from, f.when.to))
	}
	if f.name != "" {
		name, _ := tree.TextValue(f.name)
		parts = append(parts, tree.Compare{Field: tree.Name, Value: name})
	}
	return tree.All(parts...)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
