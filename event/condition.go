package event

import (
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A Condition is what has to hold of a point for an event to be applied to it.
// The zero value asks for nothing.
type Condition struct {
	kind     conditionKind
	revision Position
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

// IsZero tells whether nothing is asked for.
func (c Condition) IsZero() bool { return c.kind == ifAnyway }

// None tells whether there must be no point.
func (c Condition) None() bool { return c.kind == ifNone }

// Any tells whether there must be a point, of whatever revision.
func (c Condition) Any() bool { return c.kind == ifAny }

// Revision is the revision asked for, if one is.
func (c Condition) Revision() (Position, bool) { return c.revision, c.kind == ifRevision }

// append appends the event's member "if", with a comma before it.
func (c Condition) append(dst []byte) []byte {
	switch c.kind {
	case ifNone:
		return append(dst, `,"if":"none"`...)
	case ifAny:
		return append(dst, `,"if":"any"`...)
	case ifRevision:
		return strconv.AppendInt(append(dst, `,"if":`...), int64(c.revision), 10)
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
	if raw.Kind() == '0' {
		if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil && n >= 0 {
			return IfRevision(Position(n)), nil
		}
	}
	return Condition{}, &UnknownError{What: fmt.Sprintf("condition %.100s", raw)}
}

// An UnknownError says that an event has a type or a condition that this version
// does not know: a newer one wrote it. It must be neither applied nor passed over.
type UnknownError struct{ What string }

func (e *UnknownError) Error() string { return "unknown " + e.What }
