package event

import (
	"bytes"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// ClashPrefix stands before the names of the properties that Cairn adds to a Feature
// where the user has one of that name: cairn_time beside a time of the user's own.
const ClashPrefix = "cairn_"

// A shown has the members of a Feature beside its properties, as raw JSON: those
// that Cairn wrote, if the Feature was read from Cairn.
type shown struct {
	position, revision, received, author jsontext.Value
	time                                 bool
}

// fromCairn reports whether the Feature has the marks of one that Cairn wrote.
func (s *shown) fromCairn() bool { return s.position.Kind() == '0' && s.received.Kind() == '"' }

// withoutShown takes out of the properties what Cairn repeated in them when it
// wrote the Feature, so that a point which was read from Cairn goes in again as it
// was. Cairn's are those that say the same as the member beside the properties;
// any other is the user's, whatever its name.
func (p *Point) withoutShown(s *shown) {
	if !s.fromCairn() || len(p.Properties) <= len("{}") {
		return
	}
	var d jsontext.Decoder
	d.Reset(bytes.NewBuffer(p.Properties))
	if _, err := d.ReadToken(); err != nil {
		return
	}
	kept := append(make(jsontext.Value, 0, len(p.Properties)), '{')
	for d.PeekKind() == '"' {
		token, err := d.ReadValue()
		if err != nil {
			return // the Decoder has read it already
		}
		name := bytes.Clone(token)
		value, err := d.ReadValue()
		if err != nil {
			return
		}
		if p.repeats(s, name, value) {
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(append(append(kept, name...), ':'), value...)
	}
	if kept = append(kept, '}'); len(kept) == len("{}") {
		kept = nil // as null, which is what Cairn makes of a point without properties
	}
	p.Properties = kept
}

// repeats reports whether a property is what Cairn wrote.
func (p *Point) repeats(s *shown, name, value []byte) bool {
	var own jsontext.Value
	switch string(ownName(name)) {
	case `"id"`:
		if p.ExternalID == nil {
			return false
		}
		text, err := IDText(p.ExternalID)
		if err != nil {
			return false
		}
		own, _ = jsontext.AppendQuote(nil, text)
	case `"position"`:
		own = s.position
	case `"revision"`:
		own = s.revision
	case `"received"`:
		own = s.received
	case `"time"`:
		if s.time {
			own = append(p.Time.AppendFormat(jsontext.Value{'"'}, time.RFC3339Nano), '"')
		}
	}
	return own != nil && bytes.Equal(own, value)
}

// ownName is the name that Cairn has for a property, as JSON, without the prefix.
func ownName(name []byte) []byte {
	if rest, ok := bytes.CutPrefix(name, []byte(`"`+ClashPrefix)); ok {
		return append([]byte{'"'}, rest...)
	}
	return name
}

// readOnly are the properties that Cairn gives every Feature and no client sets, with
// the kind of JSON that they are.
var readOnly = map[string]jsontext.Kind{`"id"`: '"', `"received"`: '"', `"position"`: '0', `"revision"`: '0',
	`"` + ClashPrefix + `id"`: '"', `"` + ClashPrefix + `received"`: '"', `"` + ClashPrefix + `position"`: '0', `"` + ClashPrefix + `revision"`: '0', `"` + ClashPrefix + `time"`: '"'}

// DropReadOnly takes out of the properties what a program that edits sends back of
// what it was shown, by the schema that it was given: those that Cairn makes, as they
// are made or null. What is of another kind is the user's.
func (p *Point) DropReadOnly() {
	var d jsontext.Decoder
	d.Reset(bytes.NewBuffer(p.Properties))
	if _, err := d.ReadToken(); err != nil {
		return
	}
	kept := append(make(jsontext.Value, 0, len(p.Properties)), '{')
	for d.PeekKind() == '"' {
		token, err := d.ReadValue()
		if err != nil {
			return
		}
		name := bytes.Clone(token)
		value, err := d.ReadValue()
		if err != nil {
			return
		}
		if kind, ours := readOnly[string(name)]; ours && (value.Kind() == kind || value.Kind() == 'n') {
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(append(append(kept, name...), ':'), value...)
	}
	p.Properties = append(kept, '}')
}
