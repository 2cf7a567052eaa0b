// Package device reads what tracking programs send, unmodified: OwnTracks, Overland,
// OsmAnd and Traccar Client, and others that are described by forms. Each message is
// converted to GeoJSON Features, which the one reader of GeoJSON then accepts or
// refuses: nothing here decides what a valid point is.
//
// Fields keep the names of the program's own documentation. The device becomes the
// point's name, and the time of the fix its time, so that the points of all programs
// can be queried alike.
package device

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"cairn/event"
)

// MaxFixes is how many positions one message may have: Overland sends 100 to 1,000.
const MaxFixes = event.MaxIndex

// A Fix is one position of a device.
type Fix struct {
	Program string
	Device  string    // "" where the message does not say
	Time    time.Time // when it was observed; zero where the message does not say
	Feature []byte    // GeoJSON
}

// ErrNoPlace says that a message has no position, and need not have one.
var ErrNoPlace = errors.New("the message has no position")

// Key is the primary key of the point: the same when the device sends the fix again
// because an answer was lost, so that nothing is stored twice. Keys of a device
// stand side by side and rise with time. ok is false where device or time are not
// known: then nothing tells two fixes apart.
func (f *Fix) Key() (key uuid.UUID, ok bool) {
	if f.Device == "" || f.Time.IsZero() {
		return key, false
	}
	sum := sha256.Sum256([]byte("cairn device\x00" + f.Program + "\x00" + f.Device))
	copy(key[:10], sum[:10])
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(f.Time.UnixMilli())) //nolint:gosec // 48 bits hold the years 1970 to 10889
	copy(key[10:], at[2:])
	key[6] = key[6]&0x0f | 0x80 // version 8 (RFC 9562, section 5.8)
	key[8] = key[8]&0x3f | 0x80
	return key, true
}

// refuse is an error about one value.
func refuse(pointer, format string, args ...any) error {
	return &event.FieldError{Pointer: pointer, Reason: fmt.Sprintf(format, args...)}
}

// An object is a JSON object whose members are looked up and kept as they came.
type object struct {
	names  []string
	values []jsontext.Value
}

// readObject reads one JSON object; pointer is where it stands, for errors.
func readObject(raw []byte, pointer string) (*object, error) {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	if d.PeekKind() != '{' {
		if _, err := d.ReadValue(); err != nil {
			return nil, event.AsFieldError(err)
		}
		return nil, refuse(pointer, "it must be an object")
	}
	_, _ = d.ReadToken() // the brace
	o := &object{}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, event.AsFieldError(err)
		}
		text := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, event.AsFieldError(err)
		}
		o.names, o.values = append(o.names, text), append(o.values, value.Clone())
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, event.AsFieldError(err)
	}
	return o, nil
}

// get is the member of that name; nil where there is none or it is null.
func (o *object) get(name string) jsontext.Value {
	for i, n := range o.names {
		if n == name && o.values[i].Kind() != 'n' {
			return o.values[i]
		}
	}
	return nil
}

// text is the member of that name as text: a string, or a number as it is written.
func (o *object) text(name string) string {
	v := o.get(name)
	switch v.Kind() {
	case '"':
		b, err := jsontext.AppendUnquote(nil, v)
		if err != nil {
			return ""
		}
		return string(b)
	case '0':
		return string(v)
	}
	return ""
}

// A feature is written in order: geometry, then properties.
type feature struct {
	b       []byte
	written map[string]bool // names of properties
}

// begin writes the geometry; the numbers are as the device wrote them.
func begin(longitude, latitude, altitude string) *feature {
	f := &feature{b: make([]byte, 0, 512), written: map[string]bool{}}
	f.b = append(f.b, `{"type":"Feature","geometry":{"type":"Point","coordinates":[`...)
	f.b = append(append(append(f.b, longitude...), ','), latitude...)
	if altitude != "" {
		f.b = append(append(f.b, ','), altitude...)
	}
	f.b = append(f.b, `]},"properties":{`...)
	return f
}

// property writes one, unless one of that name was: then what comes first counts.
func (f *feature) property(name string, value []byte) {
	if f.written[name] {
		return
	}
	if len(f.written) > 0 {
		f.b = append(f.b, ',')
	}
	f.written[name] = true
	f.b, _ = jsontext.AppendQuote(f.b, name) // who reads has seen to it that it is UTF-8
	f.b = append(append(f.b, ':'), value...)
}

func (f *feature) text(name, value string) {
	if value != "" {
		quoted, _ := jsontext.AppendQuote(nil, value)
		f.property(name, quoted)
	}
}

func (f *feature) end(at time.Time) []byte {
	f.b = append(f.b, '}')
	if !at.IsZero() {
		f.b = append(f.b, `,"time":"`...)
		f.b = append(at.UTC().AppendFormat(f.b, time.RFC3339Nano), '"')
	}
	return append(f.b, '}')
}

// isNumber reports whether the text is a number as JSON has it.
func isNumber(s string) bool {
	v := jsontext.Value(s)
	return v.Kind() == '0' && v.IsValid()
}

// number is a decimal number from a query, as JSON has it: +4.5, .5 and 007 become
// what they mean. ok is false for what is no number.
func number(s string) (text string, ok bool) {
	s = strings.TrimSpace(s)
	if isNumber(s) {
		return s, true
	}
	if strings.Trim(s, "0123456789+-.eE") != "" {
		return "", false
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return "", false
	}
	return string(event.AppendFloat(nil, n)), true
}

const (
	// From this many on, an epoch time is in milliseconds: as seconds it would be
	// in the year 5138, and as milliseconds it is in 1973.
	leastMillis = 100_000_000_000
	// The year 10000, which no RFC 3339 time has.
	endMillis = 253_402_300_800_000
)

// when reads the time of a fix: epoch seconds or milliseconds, RFC 3339, or the
// same with a space for the T or without a zone, which is then UTC.
func when(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		if !(n >= 0 && n < endMillis) {
			return time.Time{}, fmt.Errorf("%q is no epoch time in seconds or milliseconds", s)
		}
		if n >= leastMillis {
			n /= 1000
		}
		return time.UnixMicro(int64(n * 1e6)).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC().Truncate(time.Microsecond), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: it must be epoch seconds or milliseconds, or like 2026-11-21T22:43:01Z", s)
}
