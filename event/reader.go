package event

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A FieldError says what is wrong with one value of a JSON document.
type FieldError struct {
	Pointer string // RFC 6901; empty for the whole document
	Reason  string
}

func (e *FieldError) Error() string {
	if e.Pointer == "" {
		return e.Reason
	}
	return e.Pointer + ": " + e.Reason
}

// AsFieldError says, of an error of jsontext, what is wrong with the JSON and
// where; other errors it leaves as they are.
func AsFieldError(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &FieldError{Reason: "not JSON: it ends too early"}
	case !errors.As(err, &syntax):
		return err
	case errors.Is(err, jsontext.ErrDuplicateName):
		return &FieldError{Pointer: string(syntax.JSONPointer), Reason: "it is given twice: duplicate names are refused"}
	}
	return &FieldError{Pointer: string(syntax.JSONPointer), Reason: "not JSON: " + syntax.Err.Error()}
}

// A Reader reads JSON as all do here that read points: what it returns aliases the
// input, and what is wrong is a [*FieldError], with where that is. The zero value
// waits for Start.
type Reader struct {
	jsontext.Decoder
	source bytes.Buffer // jsontext reads a Buffer in place
	raw    []byte
}

// Start begins with another document.
func (r *Reader) Start(raw []byte) {
	r.raw = raw
	r.source = *bytes.NewBuffer(raw)
	r.Reset(&r.source)
}

// From is the input from an offset to where the reader is.
func (r *Reader) From(begin int) jsontext.Value {
	end := int(r.InputOffset())
	return jsontext.Value(r.raw[begin:end:end])
}

// Members reads an object and calls f with each name, in quotes and with no
// needless escapes, when its value is next.
func (r *Reader) Members(f func(name []byte) error) error {
	if r.PeekKind() != '{' {
		return r.FailNext("it must be an object")
	}
	if _, err := r.ReadToken(); err != nil {
		return err
	}
	for r.PeekKind() == '"' {
		name, err := r.ReadValue()
		if err != nil {
			return err
		}
		if bytes.IndexByte(name, '\\') >= 0 { // "\u0074ime" is the name "time"
			if name, err = canonicalName(name); err != nil {
				return err
			}
		}
		if err := f(name); err != nil {
			return err
		}
	}
	_, err := r.ReadToken() // the end, or what is wrong here
	return err
}

// canonicalName is the one way to write a name in quotes.
func canonicalName(name []byte) ([]byte, error) {
	text, err := jsontext.AppendUnquote(nil, name)
	if err != nil {
		return nil, err
	}
	return jsontext.AppendQuote(nil, text)
}

// Value reads the next value; it aliases the input.
func (r *Reader) Value() (jsontext.Value, error) {
	v, err := r.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(r.InputOffset())
	return jsontext.Value(r.raw[end-len(v) : end : end]), nil
}

// Text reads a string.
func (r *Reader) Text() (string, error) {
	v, err := r.ReadValue()
	switch {
	case err != nil:
		return "", err
	case v[0] != '"':
		return "", r.Fail("it must be a string")
	case string(v) == `"Feature"`: // nearly always, of a type
		return "Feature", nil
	case string(v) == `"Point"`:
		return "Point", nil
	case bytes.IndexByte(v, '\\') < 0:
		return string(v[1 : len(v)-1]), nil
	}
	text, err := jsontext.AppendUnquote(nil, v)
	return string(text), err
}

// Number reads a number that a float64 can be.
func (r *Reader) Number() (float64, error) {
	v, err := r.ReadValue()
	if err != nil {
		return 0, err
	}
	if kind := v.Kind(); kind != '0' {
		return 0, r.Fail("it must be a number, not %s", kindName(kind))
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil {
		return 0, r.Fail("the number is out of range")
	}
	return f, nil
}

// Time reads a string that is an RFC 3339 time.
func (r *Reader) Time() (time.Time, error) {
	s, err := r.Text()
	if err != nil {
		return time.Time{}, err
	}
	t, err := ParseTime(s)
	if err != nil {
		return time.Time{}, r.Fail("%s", err.Error())
	}
	return t, nil
}

// Fail is an error about the value that was read last.
func (r *Reader) Fail(format string, args ...any) error {
	return &FieldError{Pointer: string(r.StackPointer()), Reason: fmt.Sprintf(format, args...)}
}

// FailNext is an error about the value that is next; where that is not even
// JSON, it says so instead.
func (r *Reader) FailNext(format string, args ...any) error {
	if err := r.SkipValue(); err != nil {
		return err
	}
	return r.Fail(format, args...)
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "a number"
}
