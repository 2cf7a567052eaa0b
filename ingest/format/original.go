package format

import (
	"encoding/json"
	"maps"
)

// Original is the row that Next was about last, as it was written: the cells of a
// table with its header and delimiter, or the text of a JSON row; nothing where
// neither can be told. It is good until the next call of Next.
func Original(r Rows) (text []byte, header, record []string, delimiter rune) {
	switch r := r.(type) {
	case *table:
		return nil, r.layout.header, r.record, r.csv.Comma
	case *lines:
		return r.text, nil, nil, 0
	case *sequence:
		return r.text, nil, nil, 0
	case *collection:
		if r.text == nil && r.queue.last != nil {
			return r.queue.last.original(), nil, nil, 0
		}
		return r.text, nil, nil, 0
	case *xmlReader:
		return r.last.original(), nil, nil, 0
	}
	return nil, nil, nil, 0
}

// original is a point of XML as a Feature that can be corrected: its position as it
// was written where that is none, and its properties.
func (p *foundPoint) original() []byte {
	position := any(p.position)
	if p.err != nil {
		position = p.text
	}
	geometry := any(map[string]any{"type": "Point", "coordinates": position})
	if p.text == nil && p.position == nil {
		geometry = nil // it has lines, or nothing
	}
	properties := maps.Clone(p.properties)
	if p.time != "" && properties != nil {
		properties["time"] = p.time
	}
	raw, err := json.Marshal(struct {
		Type       string         `json:"type"`
		Geometry   any            `json:"geometry"`
		Properties map[string]any `json:"properties"`
	}{"Feature", geometry, properties})
	if err != nil {
		return nil
	}
	return raw
}

// Tabs says that the cells of a table are divided by tabs, unless it was said
// otherwise.
func Tabs(o Options) Options {
	if o.delimiter == 0 {
		o.delimiter = '\t'
	}
	return o
}
