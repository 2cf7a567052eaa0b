package format

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"time"

	"cairn/event"

	"github.com/go-json-experiment/json/jsontext"
)

// Cairn's own tables, as GET /points.csv gives them, come back as they were: these
// columns are no properties, those of properties with such a name have a prefix, and
// the last column has, as JSON, what cells cannot tell.
var (
	ownColumns = []string{"id", "longitude", "latitude", "altitude", "time", "received", "position", "revision"}
	ownRoles   = map[role]string{idRole: "id", longitude: "longitude", latitude: "latitude", altitude: "altitude", timeRole: "time"}
)

var errOwnRest = errors.New("it is no JSON object")

const (
	ownPrefix = "properties."
	ownRest   = "other_properties"
)

func isOwn(header []string) bool {
	return !slices.ContainsFunc(ownColumns, func(name string) bool { return !slices.Contains(header, name) })
}

// findOwn reports whether the header is that of a table of Cairn's, and lays it out.
func (l *layout) findOwn(header []string, o *Options) bool {
	if !isOwn(header) {
		return false
	}
	for r := range roles {
		if o.columns[r] != "" && o.columns[r] != ownRoles[r] {
			return false
		}
		l.index[r] = -1
	}
	l.own, l.date, l.rest = true, -1, -1
	for i, name := range header {
		switch {
		case slices.Contains(ownColumns, name):
			l.columns[i].key = nil
		case name == ownRest:
			l.rest, l.columns[i].key = i, nil
		case strings.HasPrefix(name, ownPrefix):
			key, err := jsontext.AppendQuote(nil, name[len(ownPrefix):])
			if err != nil {
				return false
			}
			l.columns[i].key = append(key, ':')
		}
	}
	for r, name := range ownRoles {
		l.index[r] = slices.Index(header, name)
	}
	return true
}

// ownRow makes a Feature of a row, which the one reader of Features takes.
func (t *table) ownRow(record []string, p *event.Point) (err error) {
	l := t.layout
	if err := t.position(record, p); err != nil {
		return err
	}
	b := append(t.properties[:0], `{"type":"Feature",`...)
	if id := record[l.index[idRole]]; id != "" {
		b = append(b, `"id":`...)
		if b, err = t.cell(b, id, l.index[idRole]); err != nil {
			return &event.FieldError{Reason: err.Error()}
		}
		b = append(b, ',')
	}
	b = append(b, `"geometry":{"type":"Point","coordinates":[`...)
	b = append(event.AppendFloat(b, p.Position[0]), ',')
	b = event.AppendFloat(b, p.Position[1])
	if p.HasAltitude() {
		b = event.AppendFloat(append(b, ','), p.Altitude)
	}
	b = append(b, `]},"properties":`...)
	if b, err = t.ownProperties(b, record); err != nil {
		return err
	}
	t.properties = append(b, '}')
	if err := t.feature.Decode(t.properties, p); err != nil {
		return err
	}
	p.Time = time.Time{} // whatever a property says: the column is what was known
	if at := record[l.index[timeRole]]; at != "" {
		return t.options.observe(p, t.number, "time", at)
	}
	return nil
}

// ownProperties appends the properties of cells, and those that the last column has.
// That says of a cell what exactly it stands for; a cell that was changed since wins.
func (t *table) ownProperties(b []byte, record []string) (_ []byte, err error) {
	exact := map[string]jsontext.Value{} // by the name as JSON, with its colon
	var names []string
	if t.layout.rest >= 0 && record[t.layout.rest] != "" {
		if exact, names, err = namedMembers(record[t.layout.rest]); err != nil {
			return b, &event.FieldError{Reason: "the column " + ownRest + " is no JSON object"}
		}
	}
	b = append(b, '{')
	add := func(key, value []byte) {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(append(b, key...), value...)
	}
	for i := range t.layout.columns {
		key := t.layout.columns[i].key
		if key == nil {
			continue
		}
		value, ok := exact[string(key)]
		delete(exact, string(key))
		if ok && shown(value) == record[i] {
			add(key, value)
		} else if record[i] != "" {
			cell, err := ownCell(record[i])
			if err != nil {
				return b, &event.FieldError{Reason: "the column " + Quote(t.layout.header[i]) + ": " + err.Error()}
			}
			add(key, cell)
		}
	}
	for _, name := range names {
		if value, ok := exact[name]; ok {
			add([]byte(name), value)
		}
	}
	if b[len(b)-1] == '{' && (t.layout.rest < 0 || record[t.layout.rest] == "") {
		return append(b[:len(b)-1], "null"...), nil // not the same as an empty object
	}
	return append(b, '}'), nil
}

// ownCell is what a cell stands for: numbers, true, false, objects and lists are what
// they look like, everything else is text.
func ownCell(cell string) ([]byte, error) {
	if v := jsontext.Value(cell); strings.IndexByte("-0123456789{[tf", cell[0]) >= 0 && v.IsValid() {
		return v, nil
	}
	quoted, err := jsontext.AppendQuote(nil, cell)
	if err != nil {
		return nil, errCellText
	}
	return quoted, nil
}

// shown is a value as its cell has it, after a reader of CSV.
func shown(v jsontext.Value) string {
	switch v.Kind() {
	case 'n':
		return ""
	case '"':
		text, err := jsontext.AppendUnquote(nil, v)
		if err != nil {
			return ""
		}
		return strings.ReplaceAll(string(text), "\r\n", "\n")
	}
	return string(v)
}

// namedMembers are an object's members by name, and the names in their order.
func namedMembers(object string) (map[string]jsontext.Value, []string, error) {
	d := jsontext.NewDecoder(bytes.NewReader([]byte(object)))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil, nil, errOwnRest
	}
	all, names := map[string]jsontext.Value{}, []string(nil)
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, nil, err
		}
		key, err := jsontext.AppendQuote(nil, name.String())
		if err != nil {
			return nil, nil, err
		}
		value, err := d.ReadValue()
		if err != nil {
			return nil, nil, err
		}
		names = append(names, string(key)+":")
		all[names[len(names)-1]] = value.Clone()
	}
	if t, err := d.ReadToken(); err != nil || t.Kind() != '}' {
		return nil, nil, errOwnRest
	}
	return all, names, nil
}
