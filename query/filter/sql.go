package filter

import (
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// PostgresEpoch is where Postgres counts microseconds from: 2000-01-01, UTC, as
// microseconds since 1970.
const PostgresEpoch = 946_684_800_000_000

// A Builder writes a statement: text, and the parameters that it takes. Values are
// never in the text, so that statements of one shape are one prepared statement.
type Builder struct {
	strings.Builder
	Args []any
}

// Arg adds a parameter and returns how it is spelled, its type said.
func (b *Builder) Arg(v any, sqlType string) string {
	b.Args = append(b.Args, v)
	return "$" + strconv.Itoa(len(b.Args)) + "::" + sqlType
}

// Where returns the expression as a condition on a row of a segment. No index
// answers to its spatial part: see [Builder.Touches] for what does.
func (b *Builder) Where(e Expr) string {
	switch e := e.(type) {
	case nil:
		return "true"
	case And:
		return b.join(" and ", "true", e)
	case Or:
		return b.join(" or ", "false", e)
	case Not:
		return "not " + b.Where(e.Expr)
	case Compare:
		return b.compare(e)
	case In:
		return b.in(e)
	case Like:
		return b.typed(e.Field, Text, func(text string) string { return text + " like " + b.Arg(e.Pattern, "text") })
	case IsNull:
		if e.Field.kind == property {
			return "((properties ->> " + b.Arg(e.Field.name, "text") + ") is null)"
		}
		return "(" + columns[e.Field.kind] + " is null)"
	case Box:
		return b.within(e)
	case Area:
		return b.area(e)
	case Near:
		return "(" + b.Distance(e) + " <= " + b.Arg(e.Metres, "float8") + ")"
	}
	panic("filter: an expression of no known type")
}

// columns are the fields as SQL has them.
var columns = map[kind]string{
	name:     `name collate "C"`, // the order of code points, whatever the database's locale
	author:   `author collate "C"`,
	position: `position`,
	revision: `coalesce(revision, position)`,
	when:     When,
	received: `received_at`,
	altitude: `altitude`,
}

// When is the time that datetime means, as the index over it has it.
const When = `coalesce(observed_at, received_at)`

func (b *Builder) join(word, empty string, parts []Expr) string {
	if len(parts) == 0 {
		return empty
	}
	texts := make([]string, len(parts))
	for i, e := range parts {
		texts[i] = b.Where(e)
	}
	return "(" + strings.Join(texts, word) + ")"
}

func (b *Builder) compare(e Compare) string {
	return b.typed(e.Field, e.Value.kind, func(field string) string {
		v, sqlType := e.Value.arg(e.Field)
		return field + " " + e.Op.String() + " " + b.Arg(v, sqlType)
	})
}

func (b *Builder) in(e In) string {
	return b.typed(e.Field, e.Values[0].kind, func(field string) string {
		values, sqlType := list(e.Field, e.Values)
		return field + " = any(" + b.Arg(values, sqlType) + ")"
	})
}

// typed hands the field to f as SQL of that type. A property of another type
// is null.
func (b *Builder) typed(field Field, t Type, f func(sql string) string) string {
	if field.kind != property {
		column := columns[field.kind]
		if field.fold {
			column = b.foldSQL(column)
		}
		return "(" + f(column) + ")"
	}
	member := "(properties -> " + b.Arg(field.name, "text") + ")"
	word, sql := "string", `(`+strings.Replace(member, "->", "->>", 1)+` collate "C")`
	switch t {
	case Number:
		word, sql = "number", member+"::numeric"
	case Boolean:
		word, sql = "boolean", member+"::boolean"
	case Text:
		if field.fold {
			sql = b.foldSQL(sql)
		}
	case Instant:
		sql = b.timeSQL(sql, field.end)
	}
	return "(case when jsonb_typeof(" + member + ") = '" + word + "' then " + f(sql) + " end)"
}

// arg is the value as a parameter that is compared with the field.
func (v Value) arg(f Field) (arg any, sqlType string) {
	switch v.kind {
	case Number:
		switch f.kind {
		case altitude:
			return float(v.text), "float8"
		case position: // a whole number stays one: an index takes it
			if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
				return n, "bigint"
			}
		}
		return numeric(v.text), "numeric"
	case Boolean:
		return v.number == 1, "boolean"
	case Instant:
		return timestamp(v.number), "timestamptz"
	default:
		return v.text, "text"
	}
}

func timestamp(micros int64) time.Time { return time.UnixMicro(micros + PostgresEpoch).UTC() }

// list are the values as one parameter.
func list(f Field, values []Value) (arg any, sqlType string) {
	switch kind := values[0].kind; {
	case kind == Boolean:
		return collect(values, func(v Value) bool { return v.number == 1 }), "boolean[]"
	case kind == Instant:
		return collect(values, func(v Value) time.Time { return timestamp(v.number) }), "timestamptz[]"
	case kind == Number && f.kind == altitude:
		return collect(values, func(v Value) float64 { return float(v.text) }), "float8[]"
	case kind == Number:
		return collect(values, func(v Value) pgtype.Numeric { return numeric(v.text) }), "numeric[]"
	}
	return collect(values, func(v Value) string { return v.text }), "text[]"
}

func collect[T any](values []Value, f func(Value) T) []T {
	out := make([]T, len(values))
	for i, v := range values {
		out[i] = f(v)
	}
	return out
}

// float is the number as the database keeps altitudes; what is too large is
// infinite, which no altitude is.
func float(text string) float64 {
	f, _ := strconv.ParseFloat(text, 64)
	return f
}

func numeric(text string) pgtype.Numeric {
	d, _ := parseDecimal(text)
	n := pgtype.Numeric{Int: new(big.Int), Exp: int32(d.exponent - len(d.digits)), Valid: true} //nolint:gosec // NumberValue bounds both
	n.Int.SetString("0"+d.digits, 10)
	if d.negative {
		n.Int.Neg(n.Int)
	}
	return n
}

// within compares exactly, in float64: what an index holds is rounded to float32.
func (b *Builder) within(e Box) string {
	word := " and "
	if e.West > e.East {
		word = " or "
	}
	return "((" + b.Arg(e.West, "float8") + " <= ST_X(geom)" + word + "ST_X(geom) <= " + b.Arg(e.East, "float8") + ")" +
		" and ST_Y(geom) between " + b.Arg(e.South, "float8") + " and " + b.Arg(e.North, "float8") + ")"
}

// Touches returns a condition that an index over geom answers to, and that is true
// for all that lies in one of the boxes, and for a little more.
func (b *Builder) Touches(boxes []Box) string {
	var texts []string
	for _, box := range boxes {
		for _, half := range box.halves() {
			texts = append(texts, "geom && ST_MakeEnvelope("+b.Arg(half.West, "float8")+", "+b.Arg(half.South, "float8")+", "+
				b.Arg(half.East, "float8")+", "+b.Arg(half.North, "float8")+", 4326)")
		}
	}
	return "(" + strings.Join(texts, " or ") + ")"
}

// Distance is the distance of a row from the place, in metres.
func (b *Builder) Distance(e Near) string {
	return "ST_Distance(geom::geography, ST_SetSRID(ST_MakePoint(" + b.Arg(e.Longitude, "float8") + ", " + b.Arg(e.Latitude, "float8") + "), 4326)::geography)"
}

// Parts are two boxes that are the box together, for what answers to several only.
func (e Box) Parts() []Box {
	if all := e.halves(); len(all) > 1 {
		return all
	}
	middle := e.West + (e.East-e.West)/2
	return []Box{{e.West, e.South, middle, e.North}, {middle, e.South, e.East, e.North}}
}

// halves are one box, or two where it crosses the antimeridian.
func (e Box) halves() []Box {
	if e.West <= e.East {
		return []Box{e}
	}
	return []Box{{e.West, e.South, 180, e.North}, {-180, e.South, e.East, e.North}}
}
