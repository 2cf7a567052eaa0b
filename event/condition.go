package event

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A Condition is what has to hold of a point for an event to be applied to it.
// The zero value asks for nothing.
type Condition struct {
	kind     conditionKind
	revision Position
	bounded  bool
	area     Area
}

type conditionKind uint8

const (
	ifAnyway conditionKind = iota
	ifNone
	ifAny
	ifRevision
)

// IfNone asks that there be no point with this id (If-None-Match: *, RFC 9110,
// section 13.1.2), or one that was deleted.
func IfNone() Condition { return Condition{kind: ifNone} }

// IfAny asks that there be a point with this id that was not deleted (If-Match: *,
// RFC 9110, section 13.1.1).
func IfAny() Condition { return Condition{kind: ifAny} }

// IfRevision asks that there be one whose last change has this position.
func IfRevision(revision Position) Condition {
	return Condition{kind: ifRevision, revision: revision}
}

// Within asks besides that a point which is there lie in the area: to whoever holds a
// key for it, there are no others.
func (c Condition) Within(a *Area) Condition {
	if c.bounded = a != nil; c.bounded {
		c.area = *a
	}
	return c
}

// Area is the area asked for, nil for none.
func (c Condition) Area() *Area {
	if !c.bounded {
		return nil
	}
	return &c.area
}

// IsZero reports whether nothing is asked for.
func (c Condition) IsZero() bool { return c.kind == ifAnyway && !c.bounded }

// None reports whether there must be no point.
func (c Condition) None() bool { return c.kind == ifNone }

// Any reports whether there must be a point, of whatever revision.
func (c Condition) Any() bool { return c.kind == ifAny }

// Revision is the revision asked for, if one is.
func (c Condition) Revision() (Position, bool) { return c.revision, c.kind == ifRevision }

// append appends the event's member "if", with a comma before it. With an area it is
// an object, which a version that knows no areas stops at: to pass it over would
// change what must not be.
//
//	"if":"any"   "if":4096   "if":{"within":[-5,42,9,51]}   "if":{"within":[-5,42,9,51],"is":"any"}
func (c Condition) append(dst []byte) []byte {
	if !c.bounded {
		return c.appendKind(dst, `,"if":`)
	}
	dst = c.area.append(append(dst, `,"if":{"within":`...))
	return append(c.appendKind(dst, `,"is":`), '}')
}

func (c Condition) appendKind(dst []byte, name string) []byte {
	switch c.kind {
	case ifNone:
		return append(append(dst, name...), `"none"`...)
	case ifAny:
		return append(append(dst, name...), `"any"`...)
	case ifRevision:
		return strconv.AppendInt(append(dst, name...), int64(c.revision), 10)
	}
	return dst
}

// readCondition reads the value of "if". One that it does not know is an
// [*UnknownError]: to leave a condition out would apply what must not be.
func readCondition(raw jsontext.Value) (Condition, error) {
	switch string(raw) {
	case `"none"`:
		return IfNone(), nil
	case `"any"`:
		return IfAny(), nil
	}
	if raw.Kind() == '{' {
		return readWithin(raw)
	}
	if raw.Kind() == '0' {
		if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil && n >= 0 {
			return IfRevision(Position(n)), nil
		}
	}
	return Condition{}, &UnknownError{What: fmt.Sprintf("condition %.100s", raw)}
}

// readWithin reads a condition with an area.
func readWithin(raw jsontext.Value) (c Condition, _ error) {
	unknown := &UnknownError{What: fmt.Sprintf("condition %.100s", raw)}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(raw, &members); err != nil {
		return c, unknown
	}
	for name, value := range members {
		switch {
		case name == "is" && value.Kind() != '{':
			is, err := readCondition(value)
			if err != nil {
				return c, unknown
			}
			c.kind, c.revision = is.kind, is.revision
		case name == "within":
			a, err := readArea(value)
			if err != nil {
				return c, unknown
			}
			c = c.Within(a)
		default:
			return c, unknown
		}
	}
	if !c.bounded {
		return c, unknown
	}
	return c, nil
}

// An UnknownError says that an event has a type or a condition that this version
// does not know: a newer one wrote it. It must be neither applied nor passed over.
type UnknownError struct{ What string }

func (e *UnknownError) Error() string { return "unknown " + e.What }
