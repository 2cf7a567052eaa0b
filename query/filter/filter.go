// Package filter is the one form of every restriction on points: the
// query parameters of GET /points and GET /stream, and CQL2, become an [Expr].
//
// An expression has three back ends. [Builder] writes it as SQL for PostGIS, with
// every value a parameter; [Match] decides it for a row in memory; [Canonical] is its
// canonical text, which is a cache key. The first two agree on every row, and a
// property test against PostGIS says so: a stream sends what a page shows.
//
// # Comparisons
//
// They follow SQL. A comparison with something that a point does not have is
// neither true nor false, and neither is its negation: a point without a name
// matches neither name='x' nor not(name='x'). Only [IsNull] finds it.
//
//   - Numbers compare exactly, as decimals: 1, 1.0 and 1e0 are equal.
//   - Text compares by code point (in "C"), whatever the database's locale.
//   - A property compares only with a value of its own JSON type; with another, it
//     counts as absent. One that holds a time as text compares with times by [First]
//     and [Last].
//   - False is less than true.
package filter

import (
	"slices"

	"cairn/event"
)

// An Expr is a node of the tree: one of the types of this package. A nil Expr
// lets everything through.
type Expr interface{ expr() }

// And is true where all are; an empty one is true.
type And []Expr

// Or is true where any is; an empty one is false.
type Or []Expr

// Not is true where the expression is false.
type Not struct{ Expr Expr }

// A Compare compares a field with a value.
type Compare struct {
	Field Field
	Op    Op
	Value Value
}

// In is true where the field equals one of the values, which are of one type.
// There is at least one.
type In struct {
	Field  Field
	Values []Value
}

// Like is true where the text of a field matches a pattern, in which % stands for
// any characters, _ for one, and a backslash takes what follows as it is. Make it
// with [NewLike].
type Like struct {
	Field   Field
	Pattern string
}

// IsNull is true where a point does not have the field. A property that is JSON's
// null counts as absent.
type IsNull struct{ Field Field }

// A Box is a bounding box in degrees of WGS 84, its edges included. West of it
// greater than east means that it crosses the antimeridian (RFC 7946, section
// 5.2).
type Box struct{ West, South, East, North float64 }

// Near is true within so many metres, on the ellipsoid of WGS 84, of a place.
type Near struct{ Longitude, Latitude, Metres float64 }

func (And) expr()     {}
func (Or) expr()      {}
func (Not) expr()     {}
func (Compare) expr() {}
func (In) expr()      {}
func (Like) expr()    {}
func (IsNull) expr()  {}
func (Box) expr()     {}
func (Near) expr()    {}

// An Op is a comparison.
type Op uint8

// The comparisons. There is no between: it is an [And] of two.
const (
	Equal Op = iota
	NotEqual
	Less
	LessOrEqual
	Greater
	GreaterOrEqual
)

func (o Op) String() string { return [...]string{"=", "<>", "<", "<=", ">", ">="}[o] }

// holds reports whether the comparison holds for an order (-1, 0, 1).
func (o Op) holds(order int) bool {
	switch o {
	case Equal:
		return order == 0
	case NotEqual:
		return order != 0
	case Less:
		return order < 0
	case LessOrEqual:
		return order <= 0
	case Greater:
		return order > 0
	default:
		return order >= 0
	}
}

// A Field is what a comparison is about.
type Field struct {
	kind kind
	name string // of a property
	fold bool   // its text in small letters
	end  end    // of the time that a property holds
}

type kind uint8

const (
	name kind = iota
	author
	position
	revision
	when
	received
	altitude
	property
)

// The fields of a point. Name and Author are text; Position and Revision whole
// numbers; Time is the time observed, else the time received; Altitude is in
// metres.
var (
	Name     = Field{kind: name}
	Author   = Field{kind: author}
	Position = Field{kind: position}
	Revision = Field{kind: revision}
	Time     = Field{kind: when}
	Received = Field{kind: received}
	Altitude = Field{kind: altitude}
)

// Property is the member of that name of a point's properties.
func Property(name string) Field { return Field{kind: property, name: name} }

// PropertyName is the name of a property; ok is false for another field.
func (f Field) PropertyName() (name string, ok bool) { return f.name, f.kind == property }

// Takes reports whether the field can be compared with values of the type.
func (f Field) Takes(t Type) bool {
	switch f.kind {
	case name, author:
		return t == Text
	case position, revision, altitude:
		return t == Number
	case when, received:
		return t == Instant
	default:
		return (t == Instant) == (f.end != whole)
	}
}

func (f Field) String() string {
	if f.fold {
		f.fold = false
		return "casei(" + f.String() + ")"
	}
	switch f.end {
	case first:
		return "first(" + Property(f.name).String() + ")"
	case last:
		return "last(" + Property(f.name).String() + ")"
	}
	switch f.kind {
	case property:
		return "properties." + quote(f.name)
	default:
		return [...]string{"name", "author", "position", "revision", "time", "received", "altitude"}[f.kind]
	}
}

// A Row is what [Match] looks at: a point as it is in the database. Filling it
// copies nothing.
type Row struct {
	X, Y     float64 // longitude, latitude
	Altitude float64 // metres; NaN where there is none
	Time     int64   // observed, else received: microseconds since 2000-01-01 UTC, as Postgres counts
	Received int64
	Position event.Position
	Revision event.Position // of the last change; Position where there was none
	Name     string         // "" where there is none
	Author   string         // "" where there is none
	// Properties is the JSON object, as it came or as jsonb writes it; nil for
	// null. It is looked into only where a filter asks for a property.
	Properties []byte
}

// All is an And without its empty parts: what combines a request's parameters.
func All(parts ...Expr) Expr {
	var kept And
	for _, e := range parts {
		switch e := e.(type) {
		case nil:
		case And:
			kept = append(kept, e...)
		default:
			kept = append(kept, e)
		}
	}
	switch len(kept) {
	case 0:
		return nil
	case 1:
		return kept[0]
	}
	return kept
}

// MaxComparisons bounds those of a filter from outside, in whatever syntax it is written:
// a stream asks them of every row that comes, a page of every row that it may have to look
// at, and Postgres takes a large row's properties apart for each. People stay below 20.
const MaxComparisons = 100

// Comparisons is how many an expression has. A list of values is one; so is an area, and
// a box is none.
func Comparisons(e Expr) (n int) {
	switch e := e.(type) {
	case nil, Box:
		return 0
	case And:
		for _, part := range e {
			n += Comparisons(part)
		}
		return n
	case Or:
		for _, part := range e {
			n += Comparisons(part)
		}
		return n
	case Not:
		return Comparisons(e.Expr)
	}
	return 1
}

// Names reports whether the expression has a comparison with the field.
func Names(e Expr, f Field) bool {
	any := func(parts []Expr) bool { return slices.ContainsFunc(parts, func(e Expr) bool { return Names(e, f) }) }
	is := func(named Field) bool { return named.kind == f.kind && named.name == f.name }
	switch e := e.(type) {
	case And:
		return any(e)
	case Or:
		return any(e)
	case Not:
		return Names(e.Expr, f)
	case Compare:
		return is(e.Field)
	case In:
		return is(e.Field)
	case Like:
		return is(e.Field)
	case IsNull:
		return is(e.Field)
	}
	return false
}

// Without is the expression without a part that it combines with others.
func Without(e Expr, part Near) Expr {
	if e == part {
		return nil
	}
	all, ok := e.(And)
	if !ok {
		return e
	}
	kept := make(And, 0, len(all))
	for _, e := range all {
		if e != part {
			kept = append(kept, e)
		}
	}
	return All(kept...)
}
