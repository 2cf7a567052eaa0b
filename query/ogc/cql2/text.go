package cql2

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ParseText reads CQL2's text form (OGC 21-065, section 8).
func ParseText(text string) (*Node, error) {
	if len(text) > MaxBytes {
		return nil, &Error{Where{}, fmt.Sprintf("it has more than %d bytes", MaxBytes)}
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, &Error{Where{}, "it is not text in UTF-8"}
	}
	p := &parser{text: text}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == tokenEnd {
		return nil, &Error{Where{}, "it is empty"}
	}
	n, err := p.expression()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenEnd {
		return nil, p.unexpected("AND, OR or the end")
	}
	return n, predicate(n)
}

// A parser reads by recursive descent: OR above AND above NOT above predicates.
type parser struct {
	text  string
	tok   token // what is next
	end   int   // where it ends
	depth int
	nodes int
}

func (p *parser) advance() (err error) {
	p.tok, p.end, err = next(p.text, p.end)
	return err
}

// peek is the token behind the next.
func (p *parser) peek() token {
	t, _, err := next(p.text, p.end)
	if err != nil {
		return token{}
	}
	return t
}

func (p *parser) unexpected(want string) error {
	return &Error{Where{Offset: p.tok.offset}, fmt.Sprintf("%s is not expected here, but %s", p.tok, want)}
}

// accept reads the word or sign if it is next.
func (p *parser) accept(word string) (bool, error) {
	if !p.tok.is(word) {
		return false, nil
	}
	return true, p.advance()
}

func (p *parser) expect(word string) error {
	ok, err := p.accept(word)
	if err == nil && !ok {
		return p.unexpected(word)
	}
	return err
}

func (p *parser) node(kind Kind, at int) (*Node, error) {
	n := &Node{Kind: kind, Where: Where{Offset: at}}
	if p.nodes++; p.nodes > maxNodes {
		return nil, n.Fail("the filter has more than %d parts", maxNodes)
	}
	return n, nil
}

func (p *parser) call(name string, at int, args ...*Node) (*Node, error) {
	n, err := p.node(Call, at)
	if err != nil {
		return nil, err
	}
	n.Text, n.Args = name, args
	return n, checkCall(n)
}

// enter counts a level; leave with p.depth--.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxDepth {
		return &Error{Where{Offset: p.tok.offset}, fmt.Sprintf("the filter is nested deeper than %d levels", maxDepth)}
	}
	return nil
}

func (p *parser) expression() (*Node, error) { return p.chain("or", p.term) }
func (p *parser) term() (*Node, error)       { return p.chain("and", p.factor) }

// chain reads parts with a word between them into one node.
func (p *parser) chain(word string, part func() (*Node, error)) (*Node, error) {
	at := p.tok.offset
	first, err := part()
	if err != nil || !p.tok.is(word) {
		return first, err
	}
	args := []*Node{first}
	for {
		if err := predicate(args[len(args)-1]); err != nil {
			return nil, err
		}
		more, err := p.accept(word)
		if err != nil {
			return nil, err
		}
		if !more {
			return p.call(word, at, args...)
		}
		n, err := part()
		if err != nil {
			return nil, err
		}
		args = append(args, n)
	}
}

// factor reads NOT and what it negates.
func (p *parser) factor() (*Node, error) {
	at := p.tok.offset
	not, err := p.accept("not")
	if err != nil {
		return nil, err
	}
	if !not {
		return p.predicate()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	n, err := p.factor()
	if err == nil {
		err = predicate(n)
	}
	if err != nil {
		return nil, err
	}
	return p.call("not", at, n)
}

// predicate reads a scalar, and what is said of it.
func (p *parser) predicate() (*Node, error) {
	at := p.tok.offset
	left, err := p.scalar()
	if err != nil {
		return nil, err
	}
	for _, op := range [...]string{"=", "<>", "<", "<=", ">", ">="} {
		if p.tok.is(op) {
			return p.comparison(op, at, left)
		}
	}
	if p.tok.is("is") {
		return p.isNull(at, left)
	}
	not, err := p.accept("not")
	if err != nil {
		return nil, err
	}
	var n *Node
	switch {
	case p.tok.is("like"):
		n, err = p.like(at, left)
	case p.tok.is("between"):
		n, err = p.between(at, left)
	case p.tok.is("in"):
		n, err = p.in(at, left)
	case not:
		return nil, p.unexpected("LIKE, BETWEEN or IN")
	default:
		return left, nil // predicate() of the caller refuses what is none
	}
	if err == nil && not {
		n, err = p.call("not", at, n)
	}
	return n, err
}

func (p *parser) comparison(op string, at int, left *Node) (*Node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	right, err := p.scalar()
	if err != nil {
		return nil, err
	}
	return p.call(op, at, left, right)
}

func (p *parser) isNull(at int, left *Node) (*Node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	not, err := p.accept("not")
	if err == nil {
		err = p.expect("null")
	}
	if err != nil {
		return nil, err
	}
	n, err := p.call("isnull", at, left)
	if err == nil && not {
		n, err = p.call("not", at, n)
	}
	return n, err
}

func (p *parser) like(at int, left *Node) (*Node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	pattern, err := p.scalar()
	if err != nil {
		return nil, err
	}
	return p.call("like", at, left, pattern)
}

func (p *parser) between(at int, left *Node) (*Node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	low, err := p.scalar()
	if err == nil {
		err = p.expect("and")
	}
	if err != nil {
		return nil, err
	}
	high, err := p.scalar()
	if err != nil {
		return nil, err
	}
	return p.call("between", at, left, low, high)
}

func (p *parser) in(at int, left *Node) (*Node, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	list, err := p.node(List, p.tok.offset)
	if err == nil {
		list.Args, err = p.arguments(p.scalar)
	}
	if err != nil {
		return nil, err
	}
	return p.call("in", at, left, list)
}

// arguments reads (a, b, …), one or more.
func (p *parser) arguments(one func() (*Node, error)) ([]*Node, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	var args []*Node
	for {
		n, err := one()
		if err != nil {
			return nil, err
		}
		args = append(args, n)
		more, err := p.accept(",")
		if err != nil {
			return nil, err
		}
		if !more {
			return args, p.expect(")")
		}
	}
}

// predicate refuses what cannot be true or false.
func predicate(n *Node) error {
	if n.IsPredicate() {
		return nil
	}
	return n.Fail("%s is not a condition; compare it with something, as in mag > 5", n.what())
}
