package format

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"cairn/internal/web"
)

// parameters reads a query string whose names are all in known. Unlike
// url.ParseQuery it takes a bare semicolon, which is a delimiter of CSV.
func parameters(query string, known []string) (map[string]string, error) {
	if query == "" {
		return nil, nil
	}
	values := map[string]string{}
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err2 != nil && name == "time-format" {
			value, err2 = unescapeSome(rawValue), nil
		}
		switch {
		case err != nil || err2 != nil || !utf8.ValidString(name) || !utf8.ValidString(value):
			return nil, web.BadRequest("the query string cannot be read at " + Quote(pair))
		case !slices.Contains(known, name):
			return nil, web.BadRequest(fmt.Sprintf("unknown query parameter %s: %s", Quote(name), suggest(name, known)))
		}
		if _, twice := values[name]; twice {
			return nil, web.BadRequest(fmt.Sprintf("the query parameter %q is given twice", name))
		}
		values[name] = value
	}
	return values, nil
}

// NoParameters is for the forms that take none.
func NoParameters(query []byte) error {
	_, err := parameters(string(query), nil)
	return err
}

// unescapeSome decodes the escapes there are and leaves a % that begins none, as
// in %d.%m.%Y%20%H, which people type as it stands.
func unescapeSome(raw string) string {
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		if raw[i] == '%' && i+2 < len(raw) {
			if one, err := url.QueryUnescape(raw[i : i+3]); err == nil {
				b.WriteString(one)
				i += 2
				continue
			}
		}
		if raw[i] == '+' {
			b.WriteByte(' ')
		} else {
			b.WriteByte(raw[i])
		}
	}
	return b.String()
}
