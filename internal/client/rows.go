package client

import "bytes"

// A rowCounter counts a file's rows while its bytes go by, in pieces of any
// size. It is for the progress only, so it counts what is well formed exactly
// and never fails: what the rows are worth is for the server to say.
type rowCounter interface {
	count([]byte)
	rows() int64
}

// newRowCounter returns nil where rows cannot be seen without unpacking.
func newRowCounter(f *file) rowCounter {
	if f.encoding != "" {
		return nil
	}
	switch f.format {
	case csvFormat:
		return &csvCounter{delimiter: f.mapping.delimiter()}
	case jsonFormat:
		return &featureCounter{}
	case seqFormat:
		return &recordCounter{separator: recordSeparator}
	}
	return &recordCounter{separator: '\n'}
}

// recordSeparator comes before every text of a sequence (RFC 7464, section 2.2).
const recordSeparator = 0x1e

// A recordCounter counts what is not blank between separators: the lines of
// NDJSON and the texts of a GeoJSON text sequence.
type recordCounter struct {
	separator byte
	open      bool // something of this record was seen
	n         int64
}

func (c *recordCounter) rows() int64 { return c.n }

func (c *recordCounter) count(p []byte) {
	for len(p) > 0 {
		if c.open {
			end := bytes.IndexByte(p, c.separator)
			if end < 0 {
				return
			}
			p, c.open = p[end:], false
		}
		switch p[0] {
		case c.separator, ' ', '\t', '\r', '\n':
		default:
			c.open = true
			c.n++
		}
		p = p[1:]
	}
}

// A csvCounter counts the records of CSV (RFC 4180), the header not among them:
// line breaks outside of quotes end one, empty lines are none. A quote opens a
// field only at its start, so that a stray one (5" pipe) spoils no more than
// its own record.
type csvCounter struct {
	delimiter string
	matched   int // bytes of the delimiter that were just seen
	field     csvField
	line      csvLine
	records   int64 // with the header
}

type csvField byte

const (
	fieldStart csvField = iota
	fieldPlain
	fieldQuoted
	fieldClosing // after a quote in a quoted field: it ended, or the quote is doubled
)

type csvLine byte

const (
	lineEmpty  csvLine = iota
	lineReturn         // only a CR, which belongs to the line's end if that comes next
	lineStarted
)

func (c *csvCounter) rows() int64 { return max(c.records-1, 0) }

func (c *csvCounter) count(p []byte) {
	for _, b := range p {
		switch {
		case c.field == fieldQuoted:
			if b == '"' {
				c.field = fieldClosing
			}
		case b == '\n':
			c.field, c.line, c.matched = fieldStart, lineEmpty, 0
		default:
			c.start(b)
			c.step(b)
		}
	}
}

// start counts the record as soon as it is one.
func (c *csvCounter) start(b byte) {
	switch {
	case c.line == lineStarted:
	case c.line == lineEmpty && b == '\r':
		c.line = lineReturn
	default:
		c.line = lineStarted
		c.records++
	}
}

// step moves from field to field within a line.
func (c *csvCounter) step(b byte) {
	if b == '"' && (c.field == fieldStart || c.field == fieldClosing) {
		c.field, c.matched = fieldQuoted, 0
		return
	}
	c.field = fieldPlain
	switch {
	case b == c.delimiter[c.matched]:
		c.matched++
	case b == c.delimiter[0]:
		c.matched = 1
	default:
		c.matched = 0
	}
	if c.matched == len(c.delimiter) {
		c.field, c.matched = fieldStart, 0
	}
}
