package filter

import (
	"slices"
	"strconv"
	"strings"

	"cairn/event"
)

// Canonical is the canonical text of an expression: expressions with the same text are
// the same request. The order of what And and Or join does not count.
func Canonical(e Expr) string {
	switch e := e.(type) {
	case nil:
		return ""
	case And:
		return joined("and", e)
	case Or:
		return joined("or", e)
	case Not:
		return "not(" + Canonical(e.Expr) + ")"
	case Compare:
		return e.Field.String() + e.Op.String() + e.Value.String()
	case In:
		values := make([]string, len(e.Values))
		for i, v := range e.Values {
			values[i] = v.String()
		}
		slices.Sort(values)
		return e.Field.String() + " in(" + strings.Join(slices.Compact(values), ",") + ")"
	case Like:
		return e.Field.String() + " like " + quote(e.Pattern)
	case IsNull:
		return e.Field.String() + " is null"
	case Box:
		return "box(" + floats(e.West, e.South, e.East, e.North) + ")"
	case Area:
		if e.Touching {
			return "intersects(" + e.text + ")"
		}
		return "within(" + e.text + ")"
	case Near:
		return "near(" + floats(e.Longitude, e.Latitude, e.Metres) + ")"
	}
	panic("filter: an expression of no known type")
}

func joined(word string, parts []Expr) string {
	texts := make([]string, len(parts))
	for i, e := range parts {
		texts[i] = Canonical(e)
	}
	slices.Sort(texts)
	return word + "(" + strings.Join(slices.Compact(texts), ",") + ")"
}

func (v Value) String() string {
	switch v.kind {
	case Text:
		return quote(v.text)
	case Number:
		return v.text
	case Boolean:
		return strconv.FormatBool(v.number == 1)
	default:
		return "t" + strconv.FormatInt(v.number, 10)
	}
}

func floats(list ...float64) string {
	var dst []byte
	for i, f := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendFloat(dst, f)
	}
	return string(dst)
}

func quote(s string) string { return strconv.Quote(s) }
