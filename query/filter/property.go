package filter

import (
	"bytes"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// reader walks over one object of JSON.
type reader struct {
	buffer  bytes.Buffer
	decoder *jsontext.Decoder
}

var readers = sync.Pool{New: func() any {
	r := &reader{}
	// What is in the database is valid, and what is checked again costs time.
	r.decoder = jsontext.NewDecoder(&r.buffer, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return r
}}

// member is the value of an object's member; nil where it has none of that name.
func member(object []byte, name string) jsontext.Value {
	if len(object) == 0 || len(name) > len(object) {
		return nil
	}
	r := readers.Get().(*reader)
	defer readers.Put(r)
	r.buffer = *bytes.NewBuffer(object)
	r.decoder.Reset(&r.buffer, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if t, err := r.decoder.ReadToken(); err != nil || t.Kind() != '{' {
		return nil
	}
	for r.decoder.PeekKind() == '"' {
		t, err := r.decoder.ReadToken()
		if err != nil {
			return nil
		}
		if t.String() != name {
			if r.decoder.SkipValue() != nil {
				return nil
			}
			continue
		}
		v, err := r.decoder.ReadValue()
		if err != nil {
			return nil
		}
		return v.Clone() // the next to use the reader overwrites it
	}
	return nil
}
