package ogc

import (
	"errors"
	"fmt"
	"strings"

	"cairn/query/filter"
	"cairn/query/ogc/cql2"
)

// The languages of the parameter filter-lang.
const (
	CQL2Text = "cql2-text"
	CQL2JSON = "cql2-json"
)

// ParseFilter reads the parameter filter in the language of filter-lang, which is
// cql2-text where it is "".
func ParseFilter(text, language string) (filter.Expr, error) {
	var n *cql2.Node
	var err error
	switch language {
	case "", CQL2Text:
		n, err = cql2.ParseText(text)
	case CQL2JSON:
		n, err = cql2.ParseJSON([]byte(text))
	default:
		return nil, fmt.Errorf("there is no language %q, only %s and %s", language, CQL2Text, CQL2JSON)
	}
	if err != nil {
		return nil, err
	}
	return condition(n)
}

// condition makes the filter of a node that is true or false.
func condition(n *cql2.Node) (filter.Expr, error) {
	if n.Kind == cql2.Boolean {
		if n.Bool {
			return filter.And{}, nil
		}
		return filter.Or{}, nil
	}
	switch n.Text {
	case "and", "or":
		parts := make([]filter.Expr, len(n.Args))
		for i, arg := range n.Args {
			var err error
			if parts[i], err = condition(arg); err != nil {
				return nil, err
			}
		}
		if n.Text == "and" {
			return filter.And(parts), nil
		}
		return filter.Or(parts), nil
	case "not":
		e, err := condition(n.Args[0])
		return filter.Not{Expr: e}, err
	case "=", "<>", "<", "<=", ">", ">=":
		return comparison(n)
	case "between":
		return between(n)
	case "in":
		return in(n)
	case "like":
		return like(n)
	case "isnull":
		if arg := n.Args[0]; arg.Kind == cql2.Property && geometryNames[arg.Text] {
			return filter.Or{}, nil // every point has one
		}
		f, _, err := fieldOf(n.Args[0])
		return filter.IsNull{Field: f}, err
	}
	if strings.HasPrefix(n.Text, "t_") {
		return temporal(n)
	}
	return spatial(n)
}

// fields are Cairn's own by their names in filters.
var fields = map[string]filter.Field{
	"name": filter.Name, "time": filter.Time, "received": filter.Received, "position": filter.Position,
	"revision": filter.Revision, "altitude": filter.Altitude, "author": filter.Author,
}

// geometryNames are what a filter may call the geometry.
var geometryNames = map[string]bool{"geometry": true, "geom": true}

// fieldOf is the field that a node names, folded where casei stands around it. A
// name behind "properties." is always the user's.
func fieldOf(n *cql2.Node) (f filter.Field, folded bool, err error) {
	switch {
	case n.Kind == cql2.Call && n.Text == "casei":
		f, _, err = fieldOf(n.Args[0])
		if err == nil && !f.Takes(filter.Text) {
			err = n.Args[0].Fail("%v is not text", f)
		}
		return filter.Fold(f), true, err
	case n.Kind == cql2.Call && n.Text == "accenti":
		return f, false, n.Fail("ACCENTI is not supported")
	case n.Kind != cql2.Property:
		return f, false, n.Fail("a property is expected here, not %s: write it first, and one property to a comparison", n.What())
	case geometryNames[n.Text]:
		return f, false, n.Fail("the geometry is for the S_ functions, such as S_INTERSECTS")
	}
	if f, ok := fields[n.Text]; ok {
		return f, false, nil
	}
	return filter.Property(strings.TrimPrefix(n.Text, "properties.")), false, nil
}

// valueOf is what a node gives to be compared with the field; a date or time is
// told as its span instead.
func valueOf(n *cql2.Node, f filter.Field, folded bool) (v filter.Value, err error) {
	if n.Kind == cql2.Call && n.Text == "casei" {
		if !folded {
			return v, n.Fail("CASEI stands on both sides of a comparison, or on none")
		}
		n = n.Args[0]
	} else if folded {
		return v, n.Fail("CASEI stands on both sides of a comparison, or on none")
	}
	switch n.Kind {
	case cql2.String:
		text := n.Text
		if folded {
			text = filter.FoldText(text)
		}
		v, err = filter.TextValue(text)
	case cql2.Number:
		v, err = filter.NumberValue(jsonNumber(n.Text))
	case cql2.Boolean:
		v = filter.BoolValue(n.Bool)
	case cql2.Property:
		err = errors.New("a property is compared with a value, not with another property")
	default:
		err = fmt.Errorf("%s is not a value to compare with", n.What())
	}
	if err == nil && !f.Takes(v.Type()) {
		err = fmt.Errorf("%v is not compared with %v", f, v.Type())
	}
	if err != nil {
		return v, n.Fail("%v", err)
	}
	return v, nil
}

// jsonNumber writes .5 and 5. and 05 as JSON has them.
func jsonNumber(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	whole, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		whole, exponent = s[:i], s[i:]
	}
	whole, fraction, _ := strings.Cut(whole, ".")
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return sign + whole + exponent
}

var ops = map[string]filter.Op{
	"=": filter.Equal, "<>": filter.NotEqual, "<": filter.Less, "<=": filter.LessOrEqual, ">": filter.Greater, ">=": filter.GreaterOrEqual,
}

// mirrored are the operators with their sides exchanged.
var mirrored = map[string]string{"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

func comparison(n *cql2.Node) (filter.Expr, error) {
	left, right, op := n.Args[0], n.Args[1], n.Text
	if !names(left) && names(right) {
		left, right, op = right, left, mirrored[op]
	}
	return compare(left, op, right)
}

// names reports whether the node is a property, in CASEI or not.
func names(n *cql2.Node) bool {
	return n.Kind == cql2.Property || n.Kind == cql2.Call && len(n.Args) == 1 && n.Args[0].Kind == cql2.Property
}

func compare(left *cql2.Node, op string, right *cql2.Node) (filter.Expr, error) {
	f, folded, err := fieldOf(left)
	if err != nil {
		return nil, err
	}
	switch {
	// What is no time yet is read as one where only a time can stand.
	case f.Takes(filter.Instant) && right.Kind == cql2.String:
		right = asTime(right)
		fallthrough
	case isTime(right):
		if folded {
			return nil, right.Fail("CASEI stands around text, not around a time")
		}
		t, err := timeOf(f, right)
		if err != nil {
			return nil, err
		}
		return compareTime(t, op, right)
	}
	v, err := valueOf(right, f, folded)
	if err != nil {
		return nil, err
	}
	c := filter.Compare{Field: f, Op: ops[op], Value: v}
	if err := c.Check(); err != nil {
		return nil, right.Fail("%v", err)
	}
	return c, nil
}

func between(n *cql2.Node) (filter.Expr, error) {
	low, err := compare(n.Args[0], ">=", n.Args[1])
	if err != nil {
		return nil, err
	}
	high, err := compare(n.Args[0], "<=", n.Args[2])
	return filter.And{low, high}, err
}

// in is an or of one list a type, so that a list of texts is one comparison.
func in(n *cql2.Node) (filter.Expr, error) {
	f, folded, err := fieldOf(n.Args[0])
	if err != nil {
		return nil, err
	}
	byType := map[filter.Type][]filter.Value{}
	var any filter.Or
	for _, choice := range n.Args[1].Args {
		if f.Takes(filter.Instant) || isTime(choice) {
			e, err := compare(n.Args[0], "=", choice)
			if err != nil {
				return nil, err
			}
			any = append(any, e)
			continue
		}
		v, err := valueOf(choice, f, folded)
		if err != nil {
			return nil, err
		}
		byType[v.Type()] = append(byType[v.Type()], v)
	}
	for _, kind := range [...]filter.Type{filter.Text, filter.Number, filter.Boolean} {
		if values := byType[kind]; len(values) > 0 {
			any = append(any, filter.In{Field: f, Values: values})
		}
	}
	if len(any) == 1 {
		return any[0], nil
	}
	return any, nil
}

func like(n *cql2.Node) (filter.Expr, error) {
	f, folded, err := fieldOf(n.Args[0])
	if err != nil {
		return nil, err
	}
	pattern := n.Args[1]
	inFold := pattern.Kind == cql2.Call && pattern.Text == "casei"
	if inFold {
		pattern = pattern.Args[0]
	}
	switch {
	case pattern.Kind != cql2.String:
		return nil, pattern.Fail("a pattern is text, not %s", pattern.What())
	case folded != inFold:
		return nil, pattern.Fail("CASEI stands on both sides of LIKE, or on none")
	}
	text := pattern.Text
	if folded {
		text = filter.FoldText(text)
	}
	l, err := filter.NewLike(f, text)
	if err != nil {
		return nil, pattern.Fail("%v", err)
	}
	return l, nil
}
