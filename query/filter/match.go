package filter

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Match reports whether the row passes, as SQL's where does: what is neither true
// nor false does not.
func Match(e Expr, r *Row) bool { return e == nil || eval(e, r) == yes }

// A truth is one of SQL's three; their order is that of and (the least) and or
// (the greatest).
type truth int8

const (
	no      truth = -1
	unknown truth = 0
	yes     truth = 1
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func eval(e Expr, r *Row) truth {
	switch e := e.(type) {
	case And:
		t := yes
		for _, part := range e {
			if t = min(t, eval(part, r)); t == no {
				break
			}
		}
		return t
	case Or:
		t := no
		for _, part := range e {
			if t = max(t, eval(part, r)); t == yes {
				break
			}
		}
		return t
	case Not:
		return -eval(e.Expr, r)
	case Compare:
		return compare(e.Field, r, e.Op, e.Value)
	case In:
		t := no
		for _, v := range e.Values {
			t = max(t, compare(e.Field, r, Equal, v))
		}
		return t
	case Like:
		s, ok := textOf(e.Field, r)
		if !ok {
			return unknown
		}
		return truthOf(like(s, e.Pattern))
	case IsNull:
		return truthOf(isNull(e.Field, r))
	case Box:
		return truthOf(e.Has(r.X, r.Y))
	case Area:
		return truthOf(e.has(r.X, r.Y))
	case Near:
		return truthOf(Distance(e.Longitude, e.Latitude, r.X, r.Y) <= e.Metres)
	}
	panic("filter: an expression of no known type")
}

// Has reports whether the place is in the box.
func (b Box) Has(x, y float64) bool {
	inside := b.West <= x && x <= b.East
	if b.West > b.East {
		inside = b.West <= x || x <= b.East
	}
	return inside && b.South <= y && y <= b.North
}

func compare(f Field, r *Row, op Op, v Value) truth {
	switch f.kind {
	case when:
		return truthOf(op.holds(order(r.Time, v.number)))
	case received:
		return truthOf(op.holds(order(r.Received, v.number)))
	case position:
		return compareNumber(parsed(int64(r.Position)), op, v)
	case revision:
		return compareNumber(parsed(int64(r.Revision)), op, v)
	case altitude:
		if math.IsNaN(r.Altitude) {
			return unknown
		}
		return truthOf(op.holds(order(r.Altitude, float(v.text))))
	case name, author:
		s, ok := textOf(f, r)
		if !ok {
			return unknown
		}
		return truthOf(op.holds(strings.Compare(s, v.text)))
	}
	if f.end != whole {
		s, _ := textOf(f, r)
		at, ok := timeOf(s, f.end)
		if !ok {
			return unknown
		}
		return truthOf(op.holds(order(at, v.number)))
	}
	if v.kind == Text {
		s, ok := textOf(f, r)
		if !ok {
			return unknown
		}
		return truthOf(op.holds(strings.Compare(s, v.text)))
	}
	return compareProperty(member(r.Properties, f.name), op, v)
}

func order[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareNumber(d decimal, op Op, v Value) truth {
	o, _ := parseDecimal(v.text)
	return truthOf(op.holds(d.compare(o)))
}

// compareProperty compares what is no text.
func compareProperty(raw jsontext.Value, op Op, v Value) truth {
	switch kind := raw.Kind(); {
	case kind == '0' && v.kind == Number:
		d, ok := parseDecimal(string(raw))
		if !ok {
			return unknown
		}
		return compareNumber(d, op, v)
	case (kind == 't' || kind == 'f') && v.kind == Boolean:
		var is int64
		if kind == 't' {
			is = 1
		}
		return truthOf(op.holds(order(is, v.number)))
	}
	return unknown
}

func textOf(f Field, r *Row) (s string, ok bool) {
	if f.fold {
		f.fold = false
		s, ok = textOf(f, r)
		return FoldText(s), ok
	}
	switch f.kind {
	case name:
		return r.Name, r.Name != ""
	case author:
		return r.Author, r.Author != ""
	}
	raw := member(r.Properties, f.name)
	if raw.Kind() != '"' {
		return "", false
	}
	b, err := jsontext.AppendUnquote(nil, raw)
	return string(b), err == nil
}

func isNull(f Field, r *Row) bool {
	switch f.kind {
	case name:
		return r.Name == ""
	case author:
		return r.Author == ""
	case altitude:
		return math.IsNaN(r.Altitude)
	case property:
		kind := member(r.Properties, f.name).Kind()
		return kind == jsontext.KindInvalid || kind == 'n'
	default:
		return false
	}
}

// like matches a whole text: % any characters, _ one, \ takes the next as it is.
// It looks back to the last % only, so the time is at most the product of the two
// lengths.
func like(s, pattern string) bool {
	back, resume := -1, 0 // after the last %, and what it has taken up to
	i, j := 0, 0
	for i < len(s) {
		size, ok := 0, false
		if j < len(pattern) {
			switch c := pattern[j]; {
			case c == '%':
				j++
				back, resume = j, i
				continue
			case c == '_':
				_, size = utf8.DecodeRuneInString(s[i:])
				if size > 0 {
					i, j, ok = i+size, j+1, true
				}
			default:
				k := j
				if c == '\\' {
					k++
				}
				if pattern[k] == s[i] {
					i, j, ok = i+1, k+1, true
				}
			}
		}
		if ok {
			continue
		}
		if back < 0 {
			return false
		}
		_, size = utf8.DecodeRuneInString(s[resume:])
		resume += size
		i, j = resume, back
	}
	return strings.Trim(pattern[j:], "%") == ""
}
