// Package cql2 reads the Common Query Language 2 (OGC 21-065), as text and as
// JSON, into one syntax tree. It knows the language and nothing of points: which
// properties there are, and what may be compared with what, is the caller's to
// decide.
//
// Both parsers bound what they read: its size, its depth, its nodes and the
// vertices of its geometries, so that no filter costs more than its bytes
// suggest. Every error says where it is.
package cql2

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

const (
	// MaxBytes bounds a filter. A request's head has 16 KiB anyhow.
	MaxBytes = 64 << 10
	// maxDepth bounds what is inside what: people stay below 10.
	maxDepth = 64
	// maxNodes bounds the tree that each row is compared with.
	maxNodes = 1_000
	// maxVertices bounds a geometry: the outline of a country in some detail.
	maxVertices = 5_000
)

// A Kind says what a Node is.
type Kind int

// What a Node may be.
const (
	Property  Kind = iota // Text is its name
	String                // Text
	Number                // Number; Text is how it was written
	Boolean               // Bool
	Date                  // Text, a date such as 2026-11-21
	Timestamp             // Text, an RFC 3339 time
	Interval              // Args: two of Date, Timestamp, Open or Property
	Open                  // the end ".." of an interval
	Geometry              // Shape
	List                  // Args: what "in" chooses from
	Call                  // Text is an operator or a function, in lower case; Args
)

// A Node is an expression. Operators and functions are one kind, named as CQL2's
// JSON names them, in lower case: and, or, not, =, <>, <, <=, >, >=, like,
// between, in, isnull, casei, accenti, s_intersects, t_after and so on.
type Node struct {
	Kind   Kind
	Text   string
	Number float64
	Bool   bool
	Args   []*Node
	Shape  *Shape
	Where  Where
}

// Where is a place in the filter: a byte of its text, or a JSON pointer.
type Where struct {
	Offset  int
	Pointer string // for JSON; "" for text, and for the whole of the JSON
	json    bool
}

func (w Where) String() string {
	switch {
	case !w.json:
		return "at character " + strconv.Itoa(w.Offset+1)
	case w.Pointer == "":
		return "at its top"
	}
	return "at " + w.Pointer
}

// An Error says what is wrong with a filter, and where.
type Error struct {
	Where  Where
	Reason string
}

func (e *Error) Error() string { return e.Where.String() + ": " + e.Reason }

// Fail is an error about this node.
func (n *Node) Fail(format string, args ...any) error {
	return &Error{Where: n.Where, Reason: fmt.Sprintf(format, args...)}
}

// A Shape is a geometry in longitudes and latitudes.
type Shape struct {
	Type string // of GeoJSON, or BBOX
	// Polygons are those of a Polygon or MultiPolygon, the outer ring first.
	// A Point, MultiPoint or LineString is one polygon with one ring; a
	// MultiLineString has one polygon a line.
	Polygons [][][][2]float64
	// Box is west, south, east, north, for BBOX.
	Box [4]float64
}

// what names a kind for people.
func (n *Node) what() string {
	switch n.Kind {
	case Property:
		return "the property " + n.Text
	case String:
		return "a text"
	case Number:
		return "a number"
	case Boolean:
		return "a boolean"
	case Date:
		return "a date"
	case Timestamp:
		return "a timestamp"
	case Interval, Open:
		return "an interval"
	case Geometry:
		return "a geometry"
	case List:
		return "a list"
	}
	return "the result of " + strings.ToUpper(n.Text)
}

// What names the node for people: "a number", "the property mag".
func (n *Node) What() string { return n.what() }

// arity are the operators and functions that are read, with the number of their
// arguments. Those of text and of JSON are the same.
var arity = map[string]int{
	"and": -2, "or": -2, "not": 1, // -2: two or more
	"=": 2, "<>": 2, "<": 2, "<=": 2, ">": 2, ">=": 2,
	"like": 2, "between": 3, "in": 2, "isnull": 1, "casei": 1, "accenti": 1,

	"s_intersects": 2, "s_within": 2, "s_contains": 2, "s_disjoint": 2, "s_equals": 2,
	"s_touches": 2, "s_crosses": 2, "s_overlaps": 2,

	"t_after": 2, "t_before": 2, "t_contains": 2, "t_disjoint": 2, "t_during": 2, "t_equals": 2,
	"t_finishedby": 2, "t_finishes": 2, "t_intersects": 2, "t_meets": 2, "t_metby": 2,
	"t_overlappedby": 2, "t_overlaps": 2, "t_startedby": 2, "t_starts": 2,
}

// checkCall refuses what is no operator, and a wrong number of arguments.
func checkCall(n *Node) error {
	want, known := arity[n.Text]
	got := len(n.Args)
	switch {
	case !known:
		return n.Fail("there is no function or operator %q here", n.Text)
	case want < 0 && got < -want:
		return n.Fail("%q takes %d arguments or more, not %d", n.Text, -want, got)
	case want >= 0 && got != want:
		return n.Fail("%q takes %d arguments, not %d", n.Text, want, got)
	}
	return nil
}

// IsPredicate reports whether the node is true or false (or unknown).
func (n *Node) IsPredicate() bool {
	return n.Kind == Boolean || n.Kind == Call && n.Text != "casei" && n.Text != "accenti"
}

// finite parses a number as both languages write them.
func finite(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !math.IsInf(f, 0)
}

// checkShape refuses coordinates that are nowhere, and rings that are none.
func checkShape(s *Shape) error {
	if s.Type == "BBOX" {
		return checkBox(s.Box)
	}
	vertices := 0
	for _, polygon := range s.Polygons {
		for _, ring := range polygon {
			if vertices += len(ring); vertices > maxVertices {
				return fmt.Errorf("the geometry has more than %d vertices", maxVertices)
			}
			for _, c := range ring {
				if c[0] < -180 || c[0] > 180 || c[1] < -90 || c[1] > 90 {
					return fmt.Errorf("%v, %v is not a longitude from -180 to 180 and a latitude from -90 to 90", c[0], c[1])
				}
			}
			if err := checkRing(s.Type, ring); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkRing(kind string, ring [][2]float64) error {
	switch kind {
	case "Polygon", "MultiPolygon":
		if len(ring) < 4 || ring[0] != ring[len(ring)-1] {
			return fmt.Errorf("a ring of a polygon has four positions or more, and the last is the first again")
		}
	case "LineString", "MultiLineString":
		if len(ring) < 2 {
			return fmt.Errorf("a line has two positions or more")
		}
	}
	return nil
}

// checkBox bounds the longitudes to one turn to either side, as maps send them.
func checkBox(b [4]float64) error {
	switch {
	case b[1] < -90 || b[1] > 90 || b[3] < -90 || b[3] > 90:
		return fmt.Errorf("a latitude is from -90 to 90")
	case b[1] > b[3]:
		return fmt.Errorf("the box's south is north of its north; the order is west, south, east, north")
	case math.Abs(b[0]) > 540 || math.Abs(b[2]) > 540:
		return fmt.Errorf("a longitude is from -180 to 180")
	}
	return nil
}
