package ogc

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
)

//go:embed view.html
var viewHTML string

var viewTemplate = template.Must(template.New("view").Parse(viewHTML))

// A View is a page of HTML.
type View struct {
	Title, Lead string
	Path        []Link // from the landing page to here
	Tables      []Table
	Pages       []Link // of a list that has several
	Links       []Link
	Alternates  []Link // the same in other forms
}

// A Table is one of a View.
type Table struct {
	Title string
	Head  []string
	Rows  [][]Cell
}

// A Cell is text, which may lead somewhere.
type Cell struct{ Text, Href string }

// Render writes the page.
func (v *View) Render() ([]byte, error) {
	var b bytes.Buffer
	if err := viewTemplate.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("write HTML: %w", err)
	}
	return b.Bytes(), nil
}

// view begins a page at a path.
func (s Site) view(title, lead, path string) *View {
	v := &View{Title: title, Lead: lead, Alternates: []Link{{Href: s.Base + path + "?f=json", Type: JSON}}}
	v.Path = []Link{{Href: s.Base + "/?f=html", Title: "Cairn"}}
	at := ""
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if part != "" {
			at += "/" + part
			v.Path = append(v.Path, Link{Href: s.Base + at + "?f=html", Title: part})
		}
	}
	return v
}

// ViewDocument is a document of this package as a page: its links, and a row for each
// of its other members.
func (s Site) ViewDocument(path string, d map[string]any) *View {
	title, _ := d["title"].(string)
	if title == "" {
		title = strings.TrimPrefix(path, "/")
	}
	lead, _ := d["description"].(string)
	v := s.view(title, lead, path)
	v.Links, _ = d["links"].([]Link)
	if properties, ok := d["properties"].(map[string]any); ok {
		v.Tables = append(v.Tables, fieldTable(properties))
		return v
	}
	if list, ok := d["collections"].([]map[string]any); ok {
		t := Table{Head: []string{"Collection", "What it is"}}
		for _, c := range list {
			t.Rows = append(t.Rows, []Cell{{fmt.Sprint(c["title"]), s.Base + path + "/" + fmt.Sprint(c["id"]) + "?f=html"}, {Text: fmt.Sprint(c["description"])}})
		}
		v.Tables = append(v.Tables, t)
		return v
	}
	t := Table{}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		switch name {
		case "title", "description", "links", "$schema", "$id", "type":
			continue
		}
		t.Rows = append(t.Rows, []Cell{{Text: name}, {Text: plain(d[name])}})
	}
	if len(t.Rows) > 0 {
		v.Tables = append(v.Tables, t)
	}
	return v
}

// ViewTiles is a page about tiles.
func (s Site) ViewTiles(path, title string, about Table) *View {
	v := s.view(title, "", path)
	v.Tables = []Table{about}
	return v
}

func fieldTable(properties map[string]any) Table {
	t := Table{Head: []string{"Property", "Type", "What it is"}}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		d, _ := properties[name].(map[string]any)
		what := plain(d["description"])
		if what == "" {
			what = plain(d["title"])
		}
		kind := plain(d["type"])
		if format := plain(d["format"]); format != "" {
			kind = strings.TrimSpace(kind + " " + format)
		}
		t.Rows = append(t.Rows, []Cell{{Text: name}, {Text: kind}, {Text: what}})
	}
	return t
}

// plain is a value as people read it.
func plain(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []string:
		return strings.Join(v, "\n")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// ViewAPI is the API's definition as a page.
func (s Site) ViewAPI(d map[string]any) *View {
	info, _ := d["info"].(map[string]any)
	v := s.view("The API", plain(info["description"]), "/api")
	paths, _ := d["paths"].(map[string]map[string]any)
	components, _ := d["components"].(map[string]any)
	known, _ := components["parameters"].(map[string]any)
	t := Table{Title: "Operations", Head: []string{"Request", "What it does", "Parameters"}}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, method := range slices.Sorted(maps.Keys(paths[path])) {
			operation, _ := paths[path][method].(map[string]any)
			names := []string{}
			parameters, _ := operation["parameters"].([]map[string]any)
			for _, p := range parameters {
				if of, ok := known[strings.TrimPrefix(plain(p["$ref"]), "#/components/parameters/")].(map[string]any); ok {
					p = of
				}
				names = append(names, plain(p["name"]))
			}
			t.Rows = append(t.Rows, []Cell{{Text: strings.ToUpper(method) + " " + path}, {Text: plain(operation["summary"])}, {Text: strings.Join(names, ", ")}})
		}
	}
	v.Tables = append(v.Tables, t)
	t = Table{Title: "Parameters", Head: []string{"Name", "In", "What it means"}}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		p, _ := known[name].(map[string]any)
		t.Rows = append(t.Rows, []Cell{{Text: plain(p["name"])}, {Text: plain(p["in"])}, {Text: plain(p["description"])}})
	}
	v.Tables = append(v.Tables, t)
	return v
}
