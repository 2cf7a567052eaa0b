package device

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// fields are what a message has, by name: as text, and as the JSON that a property of
// that name gets.
type fields struct {
	names []string // in order
	text  map[string]string
	raw   map[string][]byte
}

func newFields() *fields { return &fields{text: map[string]string{}, raw: map[string][]byte{}} }

func (f *fields) clone() *fields {
	return &fields{slices.Clone(f.names), maps.Clone(f.text), maps.Clone(f.raw)}
}

var errNotText = errors.New("it is not UTF-8 text")

// set notes the values of a parameter: of several, an array.
func (f *fields) set(name string, texts ...string) error {
	if !utf8.ValidString(name) || slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) }) {
		return errNotText
	}
	if len(texts) == 0 {
		return nil
	}
	raw := queryValue(texts[0])
	if len(texts) > 1 {
		raw = append([]byte{'['}, raw...)
		for _, t := range texts[1:] {
			raw = append(append(raw, ','), queryValue(t)...)
		}
		raw = append(raw, ']')
	}
	f.note(name, texts[0], raw)
	return nil
}

// setJSON notes a member of an object: text and numbers can be places and times, all can
// be properties. Null is no value.
func (f *fields) setJSON(name string, value jsontext.Value) {
	text := ""
	switch value.Kind() {
	case 'n':
		return
	case '"':
		b, _ := jsontext.AppendUnquote(nil, value) // it was read before
		text = string(b)
	case '0':
		text = string(value)
	}
	f.note(name, text, value)
}

// note keeps a value; of two of one name, the later.
func (f *fields) note(name, text string, raw []byte) {
	if _, known := f.raw[name]; !known {
		f.names = append(f.names, name)
	}
	f.text[name], f.raw[name] = text, raw
}

// match reports whether all these fields have these values.
func (f *fields) match(want map[string]string) bool {
	for name, value := range want {
		if text, ok := f.text[name]; !ok || text != value {
			return false
		}
	}
	return true
}

// distinct are the values that are not empty, each once.
func distinct(values []string) (out []string) {
	for _, v := range values {
		if v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// queryValue is a number, true or false where the text is one, else a string.
func queryValue(s string) []byte {
	if s == "true" || s == "false" || isNumber(s) {
		return []byte(s)
	}
	quoted, _ := jsontext.AppendQuote(nil, s)
	return quoted
}

// isObject reports whether a body is JSON's, not a form's.
func isObject(body []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) }
