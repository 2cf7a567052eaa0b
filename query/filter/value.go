package filter

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Type is that of a value.
type Type uint8

// The types of values.
const (
	Text Type = iota
	Number
	Boolean
	Instant
)

func (t Type) String() string { return [...]string{"text", "a number", "a boolean", "a time"}[t] }

// A Value is what a field is compared with.
type Value struct {
	kind   Type
	text   string // of a text, or of a number in the form of JSON
	number int64  // microseconds since 2000-01-01 UTC of an instant; 1 for true
	exact  *exact // of a number
}

// An exact is a number, and the same as the database keeps altitudes.
type exact struct {
	decimal decimal
	float   float64
}

// Type is the value's.
func (v Value) Type() Type { return v.kind }

const (
	// maxNumberBytes and maxExponent bound a number in a filter: beyond what
	// any float64 or int64 needs, and within what Postgres' numeric takes.
	maxNumberBytes = 400
	maxExponent    = 400
)

var errText = errors.New("it is not text in UTF-8, or has a NUL in it")

// TextValue is text; Postgres takes it only in UTF-8 and without NUL.
func TextValue(s string) (Value, error) {
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return Value{}, errText
	}
	return Value{kind: Text, text: s}, nil
}

// NumberValue is a number, written as JSON has it (RFC 8259, section 6).
func NumberValue(s string) (Value, error) {
	d, ok := parseDecimal(s)
	if !ok || len(s) > maxNumberBytes || d.exponent > maxExponent || d.exponent < -maxExponent {
		return Value{}, fmt.Errorf("%q is not a number, or one with an exponent beyond %d", s, maxExponent)
	}
	return numberValue(d), nil
}

func numberValue(d decimal) Value {
	text := d.String()
	d, _ = parseDecimal(text)
	return Value{kind: Number, text: text, exact: &exact{d, float(text)}}
}

func parsed(n int64) decimal {
	d, _ := parseDecimal(strconv.FormatInt(n, 10))
	return d
}

// BoolValue is a boolean.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: Boolean, number: 1}
	}
	return Value{kind: Boolean}
}

// InstantValue is a time, in microseconds since 2000-01-01 UTC.
func InstantValue(micros int64) Value { return Value{kind: Instant, number: micros} }

// NewLike checks the pattern: what Postgres would refuse is refused here.
func NewLike(f Field, pattern string) (Like, error) {
	if !f.Takes(Text) {
		return Like{}, fmt.Errorf("%v is not text", f)
	}
	if _, err := TextValue(pattern); err != nil {
		return Like{}, err
	}
	trailing := len(pattern) - len(strings.TrimRight(pattern, `\`))
	if trailing%2 == 1 {
		return Like{}, errors.New("the pattern ends with a backslash that takes nothing")
	}
	return Like{Field: f, Pattern: pattern}, nil
}

// Check says what is wrong with a comparison's types, for those who build
// expressions from outside.
func (c Compare) Check() error {
	if !c.Field.Takes(c.Value.kind) {
		return fmt.Errorf("%v is not compared with %v", c.Field, c.Value.kind)
	}
	return nil
}
