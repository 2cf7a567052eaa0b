package filter

import (
	"math"
	"strings"
	"unicode/utf8"
)

// These are what asking costs, in nanoseconds: a comparison, one of a text with the next
// value, a vertex of an area, a distance, a number, and a step in a text.
const (
	askCost, valueCost, vertexCost, nearCost, decimalCost, stepCost = 25, 6, 3, 400, 60, 2
)

// Match reports whether the row passes, as SQL's where does: what is neither true
// nor false does not.
func Match(e Expr, r *Row) bool {
	var s Subject
	s.Set(r)
	left := math.MaxInt
	passes, _ := s.Match(e, &left)
	return passes
}

// A Subject is a row that filters are asked about. What they find out is kept: the row's
// JSON is read once, however many comparisons there are, of one filter or of several.
type Subject struct {
	row     *Row
	members members
	known   bool // the members are the row's
	left    int  // of what the filter that is asked may spend, in nanoseconds
}

// Set makes it another row, which must not change while it is asked about; nil: none, so
// that it holds on to none.
func (s *Subject) Set(r *Row) {
	s.row, s.known = r, r == nil
	s.members.spent = 0
	if r == nil {
		s.members.reset(nil)
	}
}

// object are the members of the row's properties.
func (s *Subject) object() *members {
	if !s.known {
		s.known = true
		s.members.reset(s.row.Properties)
	}
	return &s.members
}

// Read is what it has cost to read the row for all that was asked, in nanoseconds: whoever
// asks first pays for all. It is in proportion to the row's size.
func (s *Subject) Read() int { return s.members.spent }

// Match reports whether the row passes, and takes what that costs, without what it costs to
// read the row, from left: nanoseconds, estimated from what is done, so that the same costs
// the same. Where nothing is left it gives up, and known is false.
func (s *Subject) Match(e Expr, left *int) (passes, known bool) {
	if e == nil {
		return true, true
	}
	s.left = *left
	passes = s.passes(e)
	*left = s.left
	return passes && s.left >= 0, s.left >= 0
}

// passes is whether the expression is true. Where all have to be, it does not matter
// whether one that is not is false.
func (s *Subject) passes(e Expr) bool {
	switch e := e.(type) {
	case And:
		for _, part := range e {
			if !s.passes(part) {
				return false
			}
		}
		return true
	case Or:
		for _, part := range e {
			if s.passes(part) {
				return true
			}
		}
		return false
	case Box:
		s.left -= askCost
		return e.Has(s.row.X, s.row.Y)
	}
	return s.eval(e) == yes
}

// A truth is one of SQL's three; their order is that of and (the least) and or
// (the greatest).
type truth int8

const (
	no      truth = -1
	unknown truth = 0
	yes     truth = 1
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (s *Subject) eval(e Expr) truth {
	if s.left < 0 {
		return unknown // and nobody asks what it is
	}
	switch e := e.(type) {
	case And:
		t := yes
		for _, part := range e {
			if t = min(t, s.eval(part)); t == no {
				break
			}
		}
		return t
	case Or:
		t := no
		for _, part := range e {
			if t = max(t, s.eval(part)); t == yes {
				break
			}
		}
		return t
	case Not:
		return -s.eval(e.Expr)
	}
	s.left -= askCost
	switch e := e.(type) {
	case Compare:
		if e.Value.kind == Text {
			text, ok := s.text(e.Field)
			if !ok {
				return unknown
			}
			return truthOf(e.Op.compare(text, e.Value.text))
		}
		o, ok := s.operand(e.Field, e.Value.kind)
		if !ok {
			return unknown
		}
		return truthOf(o.compare(e.Op, &e.Value))
	case In:
		return s.in(&e)
	case Like:
		text, ok := s.text(e.Field)
		if !ok {
			return unknown
		}
		return truthOf(like(text, e.Pattern, &s.left))
	case IsNull:
		return truthOf(s.isNull(e.Field))
	case Box:
		return truthOf(e.Has(s.row.X, s.row.Y))
	case Area:
		if !e.bounds.Has(s.row.X, s.row.Y) {
			return no
		}
		s.left -= vertexCost * e.vertices
		return truthOf(e.has(s.row.X, s.row.Y))
	case Near:
		s.left -= nearCost
		return truthOf(Distance(e.Longitude, e.Latitude, s.row.X, s.row.Y) <= e.Metres)
	}
	panic("filter: an expression of no known type")
}

// Has reports whether the place is in the box.
func (b Box) Has(x, y float64) bool {
	inside := b.West <= x && x <= b.East
	if b.West > b.East {
		inside = b.West <= x || x <= b.East
	}
	return inside && b.South <= y && y <= b.North
}

// in looks the field up once, and stops where it has one of the values.
func (s *Subject) in(e *In) truth {
	o, ok := s.operand(e.Field, e.Values[0].kind)
	if !ok {
		return unknown
	}
	for i := range e.Values {
		s.left -= valueCost
		if o.compare(Equal, &e.Values[i]) {
			return yes
		}
	}
	return no
}

// An operand is what a row has of a field, in the form in which it is compared.
type operand struct {
	kind   form
	text   string
	whole  int64 // a time, or 1 for true
	float  float64
	number decimal
}

type form uint8

const (
	ofText form = iota
	ofWhole
	ofFloat
	ofNumber
)

// operand is what the row has to be compared with a value of that type; ok is false where
// it has nothing of it.
func (s *Subject) operand(f Field, t Type) (o operand, ok bool) {
	r := s.row
	switch f.kind {
	case when:
		return operand{kind: ofWhole, whole: r.Time}, true
	case received:
		return operand{kind: ofWhole, whole: r.Received}, true
	case position:
		s.left -= decimalCost
		return operand{kind: ofNumber, number: parsed(int64(r.Position))}, true
	case revision:
		s.left -= decimalCost
		return operand{kind: ofNumber, number: parsed(int64(r.Revision))}, true
	case altitude:
		return operand{kind: ofFloat, float: r.Altitude}, !math.IsNaN(r.Altitude)
	case property:
		if t != Text {
			return s.property(f, t)
		}
	}
	o.text, ok = s.text(f)
	return o, ok
}

// property is a property that is compared as no text.
func (s *Subject) property(f Field, t Type) (o operand, ok bool) {
	m := s.object()
	i := m.find(f.name)
	switch t {
	case Instant:
		o.kind = ofWhole
		o.whole, ok = m.time(i, f.end)
	case Number:
		o.kind = ofNumber
		o.number, ok = m.number(i)
	case Boolean:
		kind := kindOf(m.value(i))
		if o.kind, ok = ofWhole, kind == 't' || kind == 'f'; kind == 't' {
			o.whole = 1
		}
	}
	return o, ok
}

func (op Op) compare(a, b string) bool {
	if op == Equal {
		return a == b
	}
	return op.holds(strings.Compare(a, b))
}

func (o *operand) compare(op Op, v *Value) bool {
	switch o.kind {
	case ofText:
		return op.compare(o.text, v.text)
	case ofWhole:
		return op.holds(order(o.whole, v.number))
	case ofFloat:
		return op.holds(order(o.float, v.exact.float))
	default:
		return op.holds(o.number.compare(v.exact.decimal))
	}
}

func order[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (s *Subject) text(f Field) (text string, ok bool) {
	switch f.kind {
	case name:
		text = s.row.Name
	case author:
		text = s.row.Author
	default:
		m := s.object()
		return m.text(m.find(f.name), f.fold)
	}
	if f.fold {
		s.left -= factCost * len(text)
		text = FoldText(text)
	}
	return text, text != ""
}

func (s *Subject) isNull(f Field) bool {
	switch f.kind {
	case name:
		return s.row.Name == ""
	case author:
		return s.row.Author == ""
	case altitude:
		return math.IsNaN(s.row.Altitude)
	case property:
		m := s.object()
		kind := kindOf(m.value(m.find(f.name)))
		return kind == 0 || kind == 'n'
	default:
		return false
	}
}

// like matches a whole text: % any characters, _ one, \ takes the next as it is.
// It looks back to the last % only, so the time is at most the product of the two
// lengths; it takes that from left, and gives up where nothing is left.
func like(s, pattern string, left *int) bool {
	back, resume := -1, 0 // after the last %, and what it has taken up to
	i, j := 0, 0
	for i < len(s) {
		if *left -= stepCost; *left < 0 {
			return false
		}
		size, ok := 0, false
		if j < len(pattern) {
			switch c := pattern[j]; {
			case c == '%':
				j++
				back, resume = j, ahead(s, i, pattern[j:], left)
				i = resume
				continue
			case c == '_':
				_, size = utf8.DecodeRuneInString(s[i:])
				if size > 0 {
					i, j, ok = i+size, j+1, true
				}
			default:
				k := j
				if c == '\\' {
					k++
				}
				if pattern[k] == s[i] {
					i, j, ok = i+1, k+1, true
				}
			}
		}
		if ok {
			continue
		}
		if back < 0 {
			return false
		}
		_, size = utf8.DecodeRuneInString(s[resume:])
		resume = ahead(s, resume+size, pattern[back:], left)
		i, j = resume, back
	}
	return strings.Trim(pattern[j:], "%") == ""
}

// ahead is the next place in s, from i on, where what the pattern begins with may stand.
func ahead(s string, i int, pattern string, left *int) int {
	literal := pattern
	if end := strings.IndexAny(pattern, `%_\`); end >= 0 {
		literal = pattern[:end]
	}
	n := strings.Index(s[i:], literal)
	if n < 0 {
		n = len(s) - i
	}
	*left -= n / textBytes
	return i + n
}
