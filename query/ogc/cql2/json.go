package cql2

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// ParseJSON reads CQL2's JSON form (OGC 21-065, section 9).
func ParseJSON(raw []byte) (*Node, error) {
	top := Where{json: true}
	if len(raw) > MaxBytes {
		return nil, &Error{top, fmt.Sprintf("it has more than %d bytes", MaxBytes)}
	}
	var value any
	if err := json.Unmarshal(raw, &value, json.WithUnmarshalers(json.UnmarshalFromFunc(keepNumber))); err != nil {
		at := top
		field, ok := event.AsFieldError(err).(*event.FieldError) //nolint:errorlint // it is what AsFieldError makes
		if !ok {
			return nil, &Error{top, "not JSON"}
		}
		at.Pointer = field.Pointer
		return nil, &Error{at, field.Reason}
	}
	j := &reader{}
	n, err := j.expression(value, top)
	if err != nil {
		return nil, err
	}
	return n, predicate(n)
}

// A number is one as it was written: a float64 would lose a large integer's end.
type number string

func keepNumber(d *jsontext.Decoder, v *any) error {
	if d.PeekKind() != '0' {
		return errors.ErrUnsupported
	}
	raw, err := d.ReadValue()
	*v = number(raw)
	return err
}

// A reader makes nodes of JSON values.
type reader struct{ nodes, depth, vertices int }

func (w Where) child(name string) Where {
	w.Pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	return w
}

func (j *reader) node(kind Kind, at Where) (*Node, error) {
	n := &Node{Kind: kind, Where: at}
	if j.nodes++; j.nodes > maxNodes {
		return nil, n.Fail("the filter has more than %d parts", maxNodes)
	}
	return n, nil
}

func (j *reader) expression(value any, at Where) (*Node, error) {
	if j.depth++; j.depth > maxDepth {
		return nil, &Error{at, fmt.Sprintf("the filter is nested deeper than %d levels", maxDepth)}
	}
	defer func() { j.depth-- }()
	switch v := value.(type) {
	case map[string]any:
		return j.object(v, at)
	case []any:
		return nil, &Error{at, "a list is not expected here"}
	case nil:
		return nil, &Error{at, `null is not expected here; the operator is "isNull"`}
	default:
		return j.literal(v, at)
	}
}

func (j *reader) literal(value any, at Where) (*Node, error) {
	n, err := j.node(Boolean, at)
	if err != nil {
		return nil, err
	}
	switch v := value.(type) {
	case bool:
		n.Bool = v
	case string:
		n.Kind, n.Text = String, v
		if strings.ContainsRune(v, 0) {
			return nil, n.Fail("a text has no NUL in it")
		}
	case number:
		f, ok := finite(string(v))
		if !ok {
			return nil, n.Fail("the number is out of range")
		}
		n.Kind, n.Text, n.Number = Number, string(v), f
	}
	return n, nil
}

// object tells by its member what an object is.
func (j *reader) object(v map[string]any, at Where) (*Node, error) {
	for _, member := range [...]struct {
		name string
		read func(map[string]any, Where) (*Node, error)
	}{
		{"op", j.call}, {"property", j.property}, {"date", j.instant}, {"timestamp", j.instant},
		{"interval", j.interval}, {"bbox", j.box}, {"coordinates", j.geometry},
	} {
		// A GeoJSON geometry may have a bbox of its own.
		_, isGeometry := v["coordinates"]
		if _, ok := v[member.name]; ok && (member.name != "bbox" || !isGeometry) {
			return member.read(v, at)
		}
	}
	if _, ok := v["geometries"]; ok {
		return nil, &Error{at, errCollection.Error()}
	}
	return nil, &Error{at, `an object must have one of "op", "property", "date", "timestamp", "interval", "bbox" or "coordinates"`}
}

func (j *reader) text(v map[string]any, name string, at Where) (string, error) {
	s, ok := v[name].(string)
	if !ok || strings.ContainsRune(s, 0) {
		return "", &Error{at.child(name), "it must be a text"}
	}
	return s, nil
}

func (j *reader) property(v map[string]any, at Where) (*Node, error) {
	n, err := j.node(Property, at)
	if err == nil {
		n.Text, err = j.text(v, "property", at)
	}
	return n, err
}

func (j *reader) instant(v map[string]any, at Where) (*Node, error) {
	kind, name := Timestamp, "timestamp"
	if _, ok := v["date"]; ok {
		kind, name = Date, "date"
	}
	n, err := j.node(kind, at)
	if err == nil {
		n.Text, err = j.text(v, name, at)
	}
	if err != nil {
		return nil, err
	}
	return n, n.checkInstant()
}

func (j *reader) interval(v map[string]any, at Where) (*Node, error) {
	n, err := j.node(Interval, at)
	if err == nil {
		n.Args, err = j.each(v["interval"], at.child("interval"))
	}
	if err != nil {
		return nil, err
	}
	return n, n.checkInterval()
}

// each reads the expressions of an array.
func (j *reader) each(value any, at Where) ([]*Node, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, &Error{at, "it must be an array"}
	}
	nodes := make([]*Node, 0, min(len(list), maxNodes))
	for i, v := range list {
		n, err := j.expression(v, at.child(strconv.Itoa(i)))
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func (j *reader) call(v map[string]any, at Where) (*Node, error) {
	n, err := j.node(Call, at)
	if err != nil {
		return nil, err
	}
	if n.Text, err = j.text(v, "op", at); err != nil {
		return nil, err
	}
	n.Text = strings.ToLower(n.Text)
	args := at.child("args")
	if n.Text == "in" {
		n.Args, err = j.inArguments(v["args"], args)
	} else {
		n.Args, err = j.each(v["args"], args)
	}
	if err != nil {
		return nil, err
	}
	if err := checkCall(n); err != nil {
		return nil, err
	}
	if n.Text == "and" || n.Text == "or" || n.Text == "not" {
		for _, arg := range n.Args {
			if err := predicate(arg); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
}

// inArguments reads [what, [choices]].
func (j *reader) inArguments(value any, at Where) ([]*Node, error) {
	args, ok := value.([]any)
	if !ok || len(args) != 2 {
		return nil, &Error{at, `"in" takes two arguments, of which the second is an array`}
	}
	left, err := j.expression(args[0], at.child("0"))
	if err != nil {
		return nil, err
	}
	list, err := j.node(List, at.child("1"))
	if err != nil {
		return nil, err
	}
	if list.Args, err = j.each(args[1], list.Where); err == nil && len(list.Args) == 0 {
		err = list.Fail("there is nothing to choose from")
	}
	return []*Node{left, list}, err
}

func (j *reader) box(v map[string]any, at Where) (*Node, error) {
	numbers, err := j.numbers(v["bbox"], at.child("bbox"), 6)
	if err != nil {
		return nil, err
	}
	s := &Shape{Type: "BBOX"}
	var ok bool
	if s.Box, ok = boxOf(numbers); !ok {
		return nil, &Error{at.child("bbox"), "a box has four numbers (west, south, east, north), or six with heights"}
	}
	return j.shape(s, at)
}

func (j *reader) shape(s *Shape, at Where) (*Node, error) {
	n, err := j.node(Geometry, at)
	if err != nil {
		return nil, err
	}
	n.Shape = s
	if err := checkShape(s); err != nil {
		return nil, n.Fail("%v", err)
	}
	return n, nil
}

// numbers reads an array of at most this many numbers.
func (j *reader) numbers(value any, at Where, most int) ([]float64, error) {
	list, ok := value.([]any)
	if !ok || len(list) > most {
		return nil, &Error{at, fmt.Sprintf("it must be an array of at most %d numbers", most)}
	}
	numbers := make([]float64, len(list))
	for i, v := range list {
		text, _ := v.(number) // what is none is no finite number either
		if numbers[i], ok = finite(string(text)); !ok {
			return nil, &Error{at.child(strconv.Itoa(i)), "it must be a number"}
		}
	}
	return numbers, nil
}

// geometry reads a GeoJSON geometry (RFC 7946, section 3.1).
func (j *reader) geometry(v map[string]any, at Where) (*Node, error) {
	s := &Shape{}
	var err error
	if s.Type, err = j.text(v, "type", at); err != nil {
		return nil, err
	}
	at2 := at.child("coordinates")
	depth, known := map[string]int{"Point": 0, "MultiPoint": 1, "LineString": 1, "Polygon": 2, "MultiLineString": 2, "MultiPolygon": 3}[s.Type]
	if !known {
		return nil, &Error{at.child("type"), fmt.Sprintf("there is no geometry %q", clip(s.Type))}
	}
	// Whatever it is becomes polygons: a position in a ring in a polygon.
	value := v["coordinates"]
	switch {
	case depth == 0:
		value = []any{[]any{[]any{value}}}
	case depth == 1:
		value = []any{[]any{value}}
	case s.Type == "Polygon":
		value = []any{value}
	case s.Type == "MultiLineString":
		lines, _ := value.([]any)
		polygons := make([]any, len(lines))
		for i, line := range lines {
			polygons[i] = []any{line}
		}
		value = polygons
	}
	if s.Polygons, err = j.polygons(value, at2); err != nil {
		return nil, err
	}
	return j.shape(s, at)
}

func (j *reader) polygons(value any, at Where) (polygons [][][][2]float64, err error) {
	err = eachOf(value, at, func(v any) error {
		var polygon [][][2]float64
		err := eachOf(v, at, func(v any) error {
			var ring [][2]float64
			err := eachOf(v, at, func(v any) error {
				c, err := j.position(v, at)
				ring = append(ring, c)
				return err
			})
			polygon = append(polygon, ring)
			return err
		})
		polygons = append(polygons, polygon)
		return err
	})
	return polygons, err
}

func eachOf(value any, at Where, f func(any) error) error {
	list, ok := value.([]any)
	if !ok || len(list) == 0 {
		return &Error{at, "it must have the arrays that this type of geometry has (RFC 7946, section 3.1)"}
	}
	for _, v := range list {
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

func (j *reader) position(value any, at Where) (c [2]float64, err error) {
	if j.vertices++; j.vertices > maxVertices {
		return c, &Error{at, fmt.Sprintf("the geometry has more than %d vertices", maxVertices)}
	}
	numbers, err := j.numbers(value, at, 3)
	if err == nil && len(numbers) < 2 {
		err = &Error{at, "a position has a longitude and a latitude"}
	}
	if err != nil {
		return c, err
	}
	return [2]float64{numbers[0], numbers[1]}, nil
}
