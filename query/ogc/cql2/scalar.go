package cql2

import (
	"errors"
	"strings"
)

// scalar reads what may stand on either side of an operator, and a predicate
// that is a function or in parentheses.
func (p *parser) scalar() (*Node, error) {
	at := p.tok.offset
	switch t := p.tok; t.kind {
	case tokenString:
		return p.leaf(String)
	case tokenNumber:
		return p.number(1)
	case tokenName:
		return p.leaf(Property)
	case tokenSign:
		switch t.text {
		case "-":
			if err := p.advance(); err != nil {
				return nil, err
			}
			return p.number(-1)
		case "(":
			return p.parenthesis()
		}
	case tokenWord:
		name, behind := strings.ToLower(t.text), p.peek()
		if _, ok := geometryTypes[name]; behind.is("(") || ok && behind.is("z") {
			return p.function(at, name)
		}
		return p.word()
	}
	return nil, p.unexpected("a property or a value")
}

// leaf makes a node of the next token's text.
func (p *parser) leaf(kind Kind) (*Node, error) {
	n, err := p.node(kind, p.tok.offset)
	if err != nil {
		return nil, err
	}
	n.Text = p.tok.text
	return n, p.advance()
}

func (p *parser) number(sign float64) (*Node, error) {
	if p.tok.kind != tokenNumber {
		return nil, p.unexpected("a number")
	}
	n, err := p.leaf(Number)
	if err != nil {
		return nil, err
	}
	f, ok := finite(n.Text)
	if !ok {
		return nil, n.Fail("the number is out of range")
	}
	if n.Number = sign * f; sign < 0 {
		n.Text = "-" + n.Text
	}
	return n, nil
}

// reserved are words that are no property unless they stand in double quotes.
var reserved = []string{"and", "or", "not", "like", "between", "in", "is", "null"}

func (p *parser) word() (*Node, error) {
	for _, value := range [...]string{"true", "false"} {
		if p.tok.is(value) {
			n, err := p.leaf(Boolean)
			if err == nil {
				n.Bool = value == "true"
			}
			return n, err
		}
	}
	for _, word := range reserved {
		if p.tok.is(word) {
			return nil, p.unexpected("a property or a value")
		}
	}
	return p.leaf(Property)
}

func (p *parser) parenthesis() (*Node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	n, err := p.expression()
	if err != nil {
		return nil, err
	}
	return n, p.expect(")")
}

// function reads NAME(…): a literal that looks like one, a geometry, or a call.
func (p *parser) function(at int, name string) (*Node, error) {
	switch name {
	case "date", "timestamp":
		return p.instant(name)
	case "interval":
		return p.interval()
	}
	if kind, ok := geometryTypes[name]; ok {
		return p.geometry(kind)
	}
	if _, ok := arity[name]; !ok || !isFunction(name) {
		return nil, &Error{Where{Offset: at}, "there is no function " + strings.ToUpper(clip(name)) +
			"; there are CASEI, ACCENTI, S_INTERSECTS and the other S_ functions, T_AFTER and the other T_ functions"}
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	args, err := p.arguments(p.scalar)
	if err != nil {
		return nil, err
	}
	return p.call(name, at, args...)
}

func isFunction(name string) bool {
	return name == "casei" || name == "accenti" || strings.HasPrefix(name, "s_") || strings.HasPrefix(name, "t_")
}

// instant reads DATE('…') or TIMESTAMP('…').
func (p *parser) instant(name string) (*Node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	args, err := p.arguments(p.scalar)
	if err != nil {
		return nil, err
	}
	if len(args) != 1 || args[0].Kind != String {
		return nil, args[0].Fail("%s takes one text in single quotes, as in %s", strings.ToUpper(name), example[name])
	}
	n := args[0]
	if n.Kind = Timestamp; name == "date" {
		n.Kind = Date
	}
	return n, n.checkInstant()
}

var example = map[string]string{"date": "DATE('2026-11-21')", "timestamp": "TIMESTAMP('2026-11-21T22:43:01Z')"}

// interval reads INTERVAL(a, b), where each is a text, or '..', or a property.
func (p *parser) interval() (*Node, error) {
	n, err := p.node(Interval, p.tok.offset)
	if err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if n.Args, err = p.arguments(p.scalar); err != nil {
		return nil, err
	}
	return n, n.checkInterval()
}

// checkInterval makes instants of an interval's texts.
func (n *Node) checkInterval() error {
	if len(n.Args) != 2 {
		return n.Fail("an interval has two ends")
	}
	for _, end := range n.Args {
		switch {
		case end.Kind == Property, end.Kind == Date, end.Kind == Timestamp:
			continue
		case end.Kind != String:
			return end.Fail("an interval's end is a date or time in single quotes, or '..'")
		case end.Text == "..":
			end.Kind = Open
			continue
		case len(end.Text) == len("2026-11-21"):
			end.Kind = Date
		default:
			end.Kind = Timestamp
		}
		if err := end.checkInstant(); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) checkInstant() error {
	if _, err := n.Instant(); err != nil {
		return n.Fail("%v", err)
	}
	return nil
}

// geometryTypes are those of GeoJSON by the names that text has for them.
var geometryTypes = map[string]string{
	"point": "Point", "linestring": "LineString", "polygon": "Polygon", "multipoint": "MultiPoint",
	"multilinestring": "MultiLineString", "multipolygon": "MultiPolygon", "bbox": "BBOX",
	"geometrycollection": "GeometryCollection",
}

// geometry reads Well-Known Text, or BBOX(west, south, east, north).
func (p *parser) geometry(kind string) (*Node, error) {
	n, err := p.node(Geometry, p.tok.offset)
	if err != nil {
		return nil, err
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	w := wkt{p: p}
	n.Shape, err = w.shape(kind)
	if err == nil {
		if err = checkShape(n.Shape); err != nil {
			err = n.Fail("%v", err)
		}
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

var errCollection = errors.New("a geometry collection is not supported; join its parts with OR")
