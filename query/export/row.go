package export

import (
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"cairn/event"
	"cairn/query/filter"
	"cairn/query/plan"

	"github.com/go-json-experiment/json/jsontext"
)

// appendID appends the point's id as text.
func appendID(dst []byte, r plan.Row) ([]byte, error) {
	if external := r[plan.ColExternalID]; external != nil {
		return append(dst, external...), nil
	}
	key := r[plan.ColID]
	if len(key) != 16 {
		return dst, plan.ErrRow
	}
	for i, part := range [...][]byte{key[:4], key[4:6], key[6:8], key[8:10], key[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst, nil
}

// appendTime appends microseconds of Postgres as RFC 3339 has it, in UTC.
func appendTime(dst []byte, micros int64) []byte {
	return time.UnixMicro(micros+filter.PostgresEpoch).UTC().AppendFormat(dst, time.RFC3339Nano)
}

// A place is where a row is.
type place struct {
	longitude, latitude, altitude float64
	high                          bool // it has an altitude
}

func placeOf(r plan.Row) (p place, err error) {
	var ok, ok2 bool
	p.longitude, ok = r.Float64(plan.ColLongitude)
	p.latitude, ok2 = r.Float64(plan.ColLatitude)
	p.altitude, p.high = r.Float64(plan.ColAltitude)
	if !ok || !ok2 {
		return p, plan.ErrRow
	}
	return p, nil
}

func appendFloat(dst []byte, f float64) []byte { return event.AppendFloat(dst, f) }

// A property is a member of a row's properties, as jsonb writes it.
type property struct {
	name  []byte // in quotes
	value []byte
}

// eachProperty hands every property to f. What is not as jsonb writes it is an
// error.
func eachProperty(r plan.Row, f func(property)) error {
	raw := r[plan.ColProperties]
	if raw == nil {
		return nil
	}
	if len(raw) < len("\x01{}") || raw[0] != 1 || raw[1] != '{' {
		return plan.ErrRow
	}
	rest := raw[2:]
	for len(rest) > 0 && rest[0] != '}' {
		name, ok := cut(&rest, ": ")
		if !ok {
			return plan.ErrRow
		}
		value, ok := cut(&rest, ", ")
		if !ok {
			return plan.ErrRow
		}
		f(property{name, value})
	}
	return nil
}

// cut takes a JSON value from rest, and the separator behind it. The last value has
// the object's end behind it.
func cut(rest *[]byte, separator string) (value []byte, ok bool) {
	b, depth, quoted := *rest, 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{', c == '[':
			depth++
		case depth == 0 && c == separator[0] && i+1 < len(b) && b[i+1] == separator[1]:
			*rest = b[i+2:]
			return b[:i], i > 0
		case depth == 0 && c == '}':
			*rest = b[i:]
			return b[:i], i > 0
		case c == '}', c == ']':
			depth--
		}
	}
	return nil, false
}

// text is a JSON value as people read it: a string without its quotes and escapes,
// nothing for null, and everything else as it stands.
func text(dst []byte, value []byte) []byte {
	if len(value) == 0 || string(value) == "null" {
		return dst
	}
	if value[0] != '"' {
		return append(dst, value...)
	}
	inner := value[1 : len(value)-1]
	if !slices.Contains(inner, '\\') {
		return append(dst, inner...)
	}
	out, err := jsontext.AppendUnquote(dst, value)
	if err != nil {
		return append(dst, inner...)
	}
	return out
}

// nameOf is what a row is called: its property name or title.
func nameOf(r plan.Row) (name []byte, err error) {
	var title []byte
	err = eachProperty(r, func(p property) {
		switch {
		case len(p.value) == 0 || p.value[0] != '"':
		case string(p.name) == `"name"`:
			name = text(nil, p.value)
		case string(p.name) == `"title"`:
			title = text(nil, p.value)
		}
	})
	if name == nil {
		name = title
	}
	return name, err
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
