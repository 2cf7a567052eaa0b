package query

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"

	"cairn/query/filter"
	"cairn/query/ogc"
)

// withQueryables is the request's query string with each parameter that is the name of
// a queryable written as what it means (OGC API Features, part 3, section 6.4): a
// property of the users' as properties.NAME, and one of Cairn's as a part of filter.
// GDAL asks for country = 'FR' as country=FR. A name that is a parameter already
// means that, and one that nothing has stays, to be refused.
func (s *service) withQueryables(c *fiber.Ctx) (string, error) {
	raw := string(c.Request().URI().QueryString())
	parts := strings.Split(raw, "&")
	var seen []ogc.Seen
	var conditions []string
	for i, part := range parts {
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if part == "" || err != nil || err2 != nil || slices.Contains(itemsParameters, name) || strings.HasPrefix(name, filter.PropertyPrefix) {
			continue
		}
		if condition := ownCondition(name, value); condition != "" {
			conditions, parts[i] = append(conditions, condition), ""
			continue
		}
		if seen == nil {
			seen = s.seen(viewOf(c))
		}
		if slices.ContainsFunc(seen, func(p ogc.Seen) bool { return p.Name == name }) {
			parts[i] = url.QueryEscape(filter.PropertyPrefix+name) + "=" + url.QueryEscape(exactly(value))
		}
	}
	if len(conditions) > 0 {
		var err error
		if parts, err = addConditions(parts, conditions); err != nil {
			return "", err
		}
	}
	return strings.Join(parts, "&"), nil
}

// ownCondition is what the parameter means if it is a queryable of Cairn's.
func ownCondition(name, value string) string {
	for _, f := range ogc.Points.Fields {
		if f.Name == name && f.Queryable {
			if f.Schema["type"] == "string" {
				value = "'" + strings.ReplaceAll(value, "'", "''") + "'"
			}
			return name + " = " + value
		}
	}
	return ""
}

// exactly writes a value that properties.NAME would read as a range, or without its
// quotes, so that it means itself.
func exactly(value string) string {
	if strings.Contains(value, "..") || strings.HasPrefix(value, `"`) {
		quoted, _ := jsontext.AppendQuote(nil, strings.ToValidUTF8(value, "\uFFFD")) // fails for nothing else
		return string(quoted)
	}
	return value
}

// addConditions puts them into the parameter filter.
func addConditions(parts, conditions []string) ([]string, error) {
	all := strings.Join(conditions, " AND ")
	for i, part := range parts {
		rawName, rawValue, _ := strings.Cut(part, "=")
		switch rawName {
		case "filter":
			text, err := url.QueryUnescape(rawValue)
			if err != nil {
				return nil, badParameter("filter", "filter: it is not percent-encoded as RFC 3986 has it")
			}
			parts[i] = ""
			if text != "" {
				all = fmt.Sprintf("(%s) AND %s", text, all)
			}
		case "filter-lang":
			if rawValue == ogc.CQL2JSON {
				return nil, badParameter("filter-lang", "filter-lang: with %s, write the other conditions into the filter too: %s", ogc.CQL2JSON, all)
			}
		}
	}
	return append(parts, "filter="+url.QueryEscape(all)), nil
}
