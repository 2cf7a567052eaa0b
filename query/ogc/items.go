package ogc

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"cairn/event"
)

// ItemsLinks are the links of a page of items, whose query string this is.
func (s Site) ItemsLinks(c *Collection, query string) []Link {
	path := s.Base + c.Items()
	self, html := path, path+"?f=html"
	if query != "" {
		self, html = path+"?"+query, path+"?"+query+"&f=html"
	}
	return []Link{
		{self, "self", GeoJSON, "This page"},
		{html, "alternate", HTML, "This page as HTML"},
		{s.Base + c.Path(), "collection", JSON, c.Title},
	}
}

// ItemLinks are the links of one item; id is escaped.
func (s Site) ItemLinks(c *Collection, id string) []Link {
	path := s.Base + c.Items() + "/" + id
	return []Link{
		{path, "self", GeoJSON, "This point"},
		{path + "?f=html", "alternate", HTML, "This point as HTML"},
		{s.Base + c.Path(), "collection", JSON, c.Title},
	}
}

// A feature is one as the views read it.
type feature struct {
	ID       json.RawMessage
	Geometry struct{ Coordinates []json.Number }
	// Each value as it stands.
	Properties map[string]json.RawMessage
	Links      json.RawMessage
}

func (f *feature) id() string { return raw(f.ID) }

func (f *feature) place() string {
	parts := make([]string, len(f.Geometry.Coordinates))
	for i, n := range f.Geometry.Coordinates {
		parts[i] = n.String()
	}
	return strings.Join(parts, ", ")
}

// raw is a JSON value as people read it.
func raw(v json.RawMessage) string {
	var text string
	if json.Unmarshal(v, &text) == nil {
		return text
	}
	return string(v)
}

// maxViewColumns bounds a list's columns: what fits a wide screen.
const maxViewColumns = 12

// ViewItems is a page of items, given as GeoJSON, as HTML.
func (s Site) ViewItems(c *Collection, body []byte) (*View, error) {
	var page struct {
		Features       []feature
		Links          []Link
		NumberMatched  *int64
		NumberReturned int64
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, fmt.Errorf("read a page for its view: %w", err)
	}
	lead := fmt.Sprintf("%d points", page.NumberReturned)
	if page.NumberMatched != nil {
		lead = fmt.Sprintf("%d of %d points", page.NumberReturned, *page.NumberMatched)
	}
	v := s.view(c.Title, lead, c.Items())
	columns := viewColumns(page.Features)
	t := Table{Head: append([]string{"Id", "Longitude, latitude"}, columns...)}
	for i := range page.Features {
		f := &page.Features[i]
		line := []Cell{{f.id(), s.Base + c.Items() + "/" + url.PathEscape(f.id()) + "?f=html"}, {Text: f.place()}}
		for _, name := range columns {
			line = append(line, Cell{Text: raw(f.Properties[name])})
		}
		t.Rows = append(t.Rows, line)
	}
	v.Tables = append(v.Tables, t)
	for _, l := range page.Links {
		if l.Rel == "next" {
			v.Pages = append(v.Pages, Link{Href: withForm(l.Href), Rel: "next", Title: "Next page"})
		} else if l.Rel == "self" {
			v.Alternates = []Link{{Href: l.Href, Type: GeoJSON}}
			v.Links = append(v.Links, Link{Href: l.Href, Rel: "alternate", Type: GeoJSON, Title: "This page as GeoJSON"})
		}
	}
	return v, nil
}

func withForm(href string) string {
	if strings.Contains(href, "?") {
		return href + "&f=html"
	}
	return href + "?f=html"
}

// firstColumns are what people look for first, where the points have it, and lastColumns
// what they look for last.
var (
	firstColumns = []string{"name", "title", "time", event.ClashPrefix + "time"}
	lastColumns  = []string{"received", "position", "revision"}
)

// viewColumns are the properties that most of the features have.
func viewColumns(features []feature) []string {
	count := map[string]int{}
	for i := range features {
		for name := range features[i].Properties {
			if name != "id" && name != event.ClashPrefix+"id" { // in a column of its own
				count[name]++
			}
		}
	}
	for _, name := range firstColumns {
		if count[name] > 0 {
			count[name] = len(features) + 1
		}
	}
	names := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(count[b]-count[a], strings.Compare(a, b))
	})
	names = names[:min(len(names), maxViewColumns)]
	place := func(name string) int {
		if i := slices.Index(firstColumns, name); i >= 0 {
			return i
		}
		return len(firstColumns) + 1 + slices.Index(lastColumns, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(place(a)-place(b), strings.Compare(a, b)) })
	return names
}

// ViewItem is one item, given as GeoJSON, as HTML.
func (s Site) ViewItem(c *Collection, id string, body []byte) (*View, error) {
	var f feature
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, fmt.Errorf("read a point for its view: %w", err)
	}
	path := c.Items() + "/" + url.PathEscape(id)
	title := "Point " + id
	for _, name := range [...]string{"name", "title"} {
		if text := raw(f.Properties[name]); text != "" && text != "null" {
			title = text
			break
		}
	}
	v := s.view(title, f.place(), path)
	t := Table{Head: []string{"Property", "Value"}}
	for _, name := range slices.Sorted(maps.Keys(f.Properties)) {
		t.Rows = append(t.Rows, []Cell{{Text: name}, {Text: raw(f.Properties[name])}})
	}
	v.Tables = append(v.Tables, t)
	v.Alternates = []Link{{Href: s.Base + path, Type: GeoJSON}}
	v.Links = []Link{{Href: s.Base + path, Rel: "alternate", Type: GeoJSON, Title: "This point as GeoJSON"}}
	return v, nil
}
