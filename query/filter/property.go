package filter

import (
	"bytes"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// lookBack: where so many names were compared for each that was read, and some more, an
	// index of them is made.
	lookBack, fewLooks = 8, 256
	// These are what reading costs, in nanoseconds: a member, a byte of a number or of what
	// has members, a name for the index, a byte of what a member is taken for, and whether
	// it is a time.
	memberCost, byteCost, indexCost, factCost, timeCost = 25, 1, 40, 6, 1_000
	// textBytes: so many bytes of text are passed over in a nanosecond.
	textBytes = 8
	// usualMembers: most points have fewer.
	usualMembers = 16
)

// members are those of an object of JSON. They are read once and in order, as far as
// somebody asks, and what was found is kept for whoever asks next. The object is valid, as
// all is in the database: of another, members may be missing.
type members struct {
	object   []byte
	at       int      // what is before was read
	read     []member // the first of a name holds
	facts    []facts
	index    map[string]int
	indexed  bool // the index has all members
	compared int  // names, without an index
	spent    int  // in nanoseconds
}

// A member is one of an object, whose value is between two places in it.
type member struct {
	name     string
	from, to uint32
	facts    uint32 // their number and one; 0: none yet
}

// facts are what is known of a value.
type facts struct {
	isText, isFolded, isNumber bool   // they were looked for
	isTime                     [2]int // for each end: 1 it is a time, -1 it is none
	text, folded               string // of a text
	validText, validNumber     bool
	number                     decimal
	ends                       [2]int64
}

// reset begins with another object.
func (m *members) reset(object []byte) {
	m.object, m.at, m.compared, m.spent = object, 0, 0, 0
	if len(m.read) > 0 {
		clear(m.read) // they have texts, and so has the rest
		m.read = m.read[:0]
	}
	if len(m.facts) > 0 {
		clear(m.facts)
		m.facts = m.facts[:0]
	}
	if m.indexed {
		clear(m.index)
		m.indexed = false
	}
}

// find is the number of the member of that name; -1: there is none.
func (m *members) find(name string) int {
	if len(name) > len(m.object) {
		return -1
	}
	if m.compared > lookBack*len(m.read)+fewLooks {
		m.makeIndex()
	}
	if m.indexed {
		if i, ok := m.index[name]; ok {
			return i
		}
		return -1
	}
	for i := range m.read {
		if m.read[i].name == name {
			m.compared += i
			m.spent += i
			return i
		}
	}
	m.compared += len(m.read)
	m.spent += len(m.read)
	for m.next() {
		if last := len(m.read) - 1; m.read[last].name == name {
			return last
		}
	}
	return -1
}

func (m *members) makeIndex() {
	if m.indexed {
		return
	}
	m.spent += indexCost * len(m.read)
	for m.next() {
		m.spent += indexCost
	}
	if m.index == nil {
		m.index = make(map[string]int, len(m.read))
	}
	for i := range m.read {
		if name := m.read[i].name; !has(m.index, name) {
			m.index[name] = i
		}
	}
	m.indexed = true
}

func has(index map[string]int, name string) bool {
	_, ok := index[name]
	return ok
}

// next reads one more member, if there is one.
func (m *members) next() bool {
	o, begin := m.object, m.at
	if m.at == len(o) {
		return false
	}
	m.at = len(o) // unless there is one
	i := after(o, begin)
	if begin == 0 {
		if i == len(o) || o[i] != '{' {
			return false
		}
		i = after(o, i+1)
	} else if i < len(o) && o[i] == ',' {
		i = after(o, i+1)
	}
	if i == len(o) || o[i] != '"' {
		return false
	}
	end := endOfText(o, i)
	name := o[i:end]
	if i = after(o, end); i == len(o) || o[i] != ':' {
		return false
	}
	if i = after(o, i+1); i == len(o) {
		return false
	}
	text, ok := unquote(name)
	if !ok {
		return false
	}
	m.at = endOfValue(o, i)
	m.spent += memberCost + (i-begin)/textBytes
	if n := m.at - i; o[i] == '"' {
		m.spent += n / textBytes
	} else {
		m.spent += n * byteCost
	}
	if m.read == nil {
		m.read = make([]member, 0, usualMembers)
	}
	m.read = append(m.read, member{name: text, from: uint32(i), to: uint32(m.at)}) //nolint:gosec // a point has 256 KiB
	return true
}

// value is the JSON of a member; -1 has none.
func (m *members) value(i int) []byte {
	if i < 0 {
		return nil
	}
	return m.object[m.read[i].from:m.read[i].to]
}

// of are the facts of a member.
func (m *members) of(i int) *facts {
	one := &m.read[i]
	if one.facts == 0 {
		m.facts = append(m.facts, facts{})
		one.facts = uint32(len(m.facts)) //nolint:gosec // as many as there are members
	}
	return &m.facts[one.facts-1]
}

// text is the text that a member has, in small letters if it is to be folded.
func (m *members) text(i int, fold bool) (s string, ok bool) {
	raw := m.value(i)
	if kindOf(raw) != '"' {
		return "", false
	}
	f := m.of(i)
	if !f.isText {
		m.spent += len(raw) / textBytes
		if bytes.IndexByte(raw, '\\') >= 0 {
			m.spent += factCost * len(raw)
		}
		f.isText = true
		f.text, f.validText = unquote(raw)
	}
	if !fold {
		return f.text, f.validText
	}
	if !f.isFolded {
		m.spent += factCost * len(raw)
		f.isFolded, f.folded = true, FoldText(f.text)
	}
	return f.folded, f.validText
}

// number is the number that a member has.
func (m *members) number(i int) (d decimal, ok bool) {
	raw := m.value(i)
	if kindOf(raw) != '0' {
		return d, false
	}
	f := m.of(i)
	if !f.isNumber {
		m.spent += factCost * len(raw)
		f.isNumber = true
		f.number, f.validNumber = parseDecimal(stringOf(raw))
	}
	return f.number, f.validNumber
}

// time is the end of the time that a member has.
func (m *members) time(i int, e end) (micros int64, ok bool) {
	s, ok := m.text(i, false)
	if !ok {
		return 0, false
	}
	f, k := m.of(i), e-first
	if f.isTime[k] == 0 {
		m.spent += timeCost
		f.isTime[k] = -1
		if at, ok := timeOf(s, e); ok {
			f.isTime[k], f.ends[k] = 1, at
		}
	}
	return f.ends[k], f.isTime[k] > 0
}

// kindOf is how a value begins: '0' for all numbers, 0 for none.
func kindOf(raw []byte) byte {
	if len(raw) == 0 {
		return 0
	}
	if c := raw[0]; c != '-' && (c < '0' || c > '9') {
		return c
	}
	return '0'
}

// unquote is the text that JSON has in quotes, as it stands if it can be.
func unquote(raw []byte) (s string, ok bool) {
	if len(raw) < len(`""`) || raw[len(raw)-1] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return stringOf(raw[1 : len(raw)-1]), true
	}
	b, err := jsontext.AppendUnquote(nil, raw)
	return stringOf(b), err == nil
}

// stringOf is bytes as a string, without copying: a row does not change while it is asked.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// after is the place of what is no white space.
func after(o []byte, i int) int {
	for i < len(o) && (o[i] == ' ' || o[i] == '\n' || o[i] == '\r' || o[i] == '\t') {
		i++
	}
	return i
}

// endOfText is the place behind the text that begins with a quote there.
func endOfText(o []byte, i int) int {
	for j := i + 1; ; {
		n := bytes.IndexByte(o[j:], '"')
		if n < 0 {
			return len(o)
		}
		quote := j + n
		escapes := 0
		for k := quote - 1; k > i && k >= j && o[k] == '\\'; k-- {
			escapes++
		}
		j = quote + 1
		if escapes%2 == 0 {
			return j
		}
	}
}

// endOfValue is the place behind the value that begins there.
func endOfValue(o []byte, i int) int {
	switch o[i] {
	case '"':
		return endOfText(o, i)
	case '{', '[':
	default:
		for i < len(o) && o[i] != ',' && o[i] != '}' && o[i] != ']' && o[i] > ' ' {
			i++
		}
		return i
	}
	for depth := 0; i < len(o); i++ {
		switch o[i] {
		case '"':
			i = endOfText(o, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(o)
}
