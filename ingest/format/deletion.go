package format

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// A Deletion is a row that is no point, but the id of one that is to be deleted:
//
//	{"delete": "ci37868143"}
//
// Next returns it in the place of an error. Lines and sequences may have it.
type Deletion struct {
	ID jsontext.Value // a JSON string or number, good as long as it is kept
}

func (*Deletion) Error() string { return "it is a deletion, where a point is wanted" }

// isDeletion reports whether the first member of an object is named delete.
func isDeletion(text []byte) bool {
	if len(text) < len(`{"delete"`) || text[0] != '{' || text[1] == '"' && text[2] != 'd' { // nearly all
		return false
	}
	return bytes.HasPrefix(bytes.TrimLeft(text[1:], jsonSpace), []byte(`"delete"`))
}

// readDeletion reads such a row. It returns a *Deletion or a *event.FieldError.
func readDeletion(text []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(text))
	for range 2 { // the brace and the name
		if _, err := d.ReadToken(); err != nil {
			return event.AsFieldError(err)
		}
	}
	id, err := d.ReadValue()
	if err != nil {
		return event.AsFieldError(err)
	}
	id = bytes.Clone(id)
	switch {
	case id.Kind() != '"' && id.Kind() != '0':
		return &event.FieldError{Pointer: "/delete", Reason: "it must be the id of the point: a string or a number"}
	case d.PeekKind() == '"':
		return &event.FieldError{Reason: `a deletion has no other member than "delete"`}
	}
	if _, err := d.ReadToken(); err != nil {
		return event.AsFieldError(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return &event.FieldError{Reason: "something follows the deletion"}
	}
	if err := checkID(id); err != nil {
		return &event.FieldError{Pointer: "/delete", Reason: err.Error()}
	}
	return &Deletion{ID: id}
}
