package format

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// maxExploded bounds what one MultiPoint becomes, in bytes: each of its points
// has all of its properties.
const maxExploded = 64 * MaxRowBytes

// explode makes a Feature for each point of one with a MultiPoint, and nil of any
// other. An id is followed by / and the number of the point, from 1.
func explode(raw []byte) ([][]byte, error) {
	if !bytes.Contains(raw, []byte(`"MultiPoint"`)) {
		return nil, nil
	}
	var f struct {
		ID       jsontext.Value `json:"id"`
		Geometry struct {
			Type        string           `json:"type"`
			Coordinates []jsontext.Value `json:"coordinates"`
		} `json:"geometry"`
		Rest jsontext.Value `json:",embed"`
	}
	if err := json.Unmarshal(raw, &f); err != nil || f.Geometry.Type != "MultiPoint" {
		return nil, nil // the decoder says what is wrong
	}
	n := len(f.Geometry.Coordinates)
	switch {
	case n == 0:
		return nil, &event.FieldError{Pointer: "/geometry/coordinates", Reason: "it has no points"}
	case n*len(f.Rest) > maxExploded:
		return nil, &event.FieldError{Reason: fmt.Sprintf("its %d points would take up more than %d bytes, for each has all of the properties", n, maxExploded)}
	}
	id := ""
	if kind := f.ID.Kind(); kind != 'n' && kind != jsontext.KindInvalid {
		if kind != '"' && kind != '0' {
			return nil, &event.FieldError{Pointer: "/id", Reason: "the id must be a string or a number"}
		}
		var err error
		if id, err = event.IDText(f.ID); err != nil {
			return nil, &event.FieldError{Pointer: "/id", Reason: err.Error()}
		}
	}
	features := make([][]byte, 0, n)
	for i, position := range f.Geometry.Coordinates {
		b := []byte(`{"geometry":{"type":"Point","coordinates":`)
		b = append(append(b, position...), '}')
		if id != "" {
			b = append(b, `,"id":`...)
			b, _ = jsontext.AppendQuote(b, id+"/"+strconv.Itoa(i+1))
		}
		if rest := bytes.TrimSpace(f.Rest); len(rest) > len("{}") {
			b = append(append(b, ','), rest[1:len(rest)-1]...)
		}
		features = append(features, append(b, '}'))
	}
	return features, nil
}

// An exploder is a reader of JSON in whose place each MultiPoint is as many rows
// as it has points; so rows are counted by points.
type exploder struct {
	decoder *ObjectDecoder
	pending [][]byte
	number  int64
}

// next reads what is pending.
func (e *exploder) next(p *event.Point) error {
	raw := e.pending[0]
	e.pending = e.pending[1:]
	e.number++
	e.decoder.at(e.number)
	return e.decoder.Decode(raw, p)
}

// one reads an object, the first of its points if it has many.
func (e *exploder) one(raw []byte, p *event.Point) error {
	features, err := explode(raw)
	if err != nil || features == nil {
		e.number++
		e.decoder.at(e.number)
		if err == nil {
			err = e.decoder.Decode(raw, p)
		}
		return err
	}
	e.pending = features
	return e.next(p)
}
