package format

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"cairn/event"
)

// recordSeparator begins every record of a JSON text sequence (RFC 7464,
// section 2.2).
const recordSeparator = 0x1e

// A splitter cuts a body at a byte, holding at most MaxRowBytes.
type splitter struct {
	r     *bufio.Reader
	delim byte
	buf   []byte
	ended bool
}

// next returns the next part without its delimiter; it is good until the next
// call. A part that is too long is ErrRowSize, and is skipped.
func (s *splitter) next() ([]byte, error) {
	if s.ended {
		return nil, io.EOF
	}
	part, err := s.r.ReadSlice(s.delim)
	if err == nil {
		return part[:len(part)-1], nil
	}
	s.buf = s.buf[:0]
	long := false
	for err == bufio.ErrBufferFull {
		if long = long || len(s.buf)+len(part) > MaxRowBytes+1; !long {
			s.buf = append(s.buf, part...)
		}
		part, err = s.r.ReadSlice(s.delim)
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	s.ended = err == io.EOF
	if !s.ended {
		part = part[:len(part)-1]
	}
	if long || len(s.buf)+len(part) > MaxRowBytes {
		return nil, ErrRowSize
	}
	s.buf = append(s.buf, part...)
	if s.ended && len(s.buf) == 0 { // nothing follows the last delimiter
		return nil, io.EOF
	}
	return s.buf, nil
}

// An ObjectDecoder reads a point in either of its JSON forms: a GeoJSON Feature,
// or the object of POST /point.
type ObjectDecoder struct {
	feature FeatureDecoder
	point   PointDecoder
}

// NewObjectDecoder makes a decoder of single objects.
func NewObjectDecoder(o *Options) *ObjectDecoder {
	return &ObjectDecoder{feature: FeatureDecoder{Options: o}, point: PointDecoder{Options: o}}
}

// Decode reads text into p. What it refuses is a *event.FieldError.
func (d *ObjectDecoder) Decode(text []byte, p *event.Point) error {
	if isDeletion(text) {
		return readDeletion(text)
	}
	if bytes.HasPrefix(text, []byte(`{"type":"Feature"`)) {
		return d.feature.Decode(text, p)
	}
	err := d.point.Decode(text, p)
	if err == errGeoJSON {
		return d.feature.Decode(text, p)
	}
	return err
}

// at sets the row that warnings are about.
func (d *ObjectDecoder) at(row int64) { d.feature.Row, d.point.Row = row, row }

// jsonSpace is the white space of RFC 8259, section 2.
const jsonSpace = " \t\r\n"

// lines reads NDJSON: a row is a line, so that the number of a rejected one is
// where an editor finds it; empty lines count, but are no points.
type lines struct {
	split   splitter
	decoder *ObjectDecoder
	number  int64
	explode *exploder // nil: a MultiPoint is refused
	text    []byte    // that Next was about
}

func newLines(r *bufio.Reader, o Options) *lines {
	l := &lines{split: splitter{r: r, delim: '\n'}, decoder: NewObjectDecoder(&o)}
	if _, end := peekLine(r, false); end == '\r' { // as old Macs, and some loggers, end lines
		l.split.delim = end
	}
	if o.explode {
		l.explode = &exploder{decoder: l.decoder}
	}
	return l
}

func (l *lines) Row() int64 {
	if l.explode != nil {
		return l.explode.number
	}
	return l.number
}

func (l *lines) Next(p *event.Point) error {
	for {
		if l.explode != nil && len(l.explode.pending) > 0 {
			return l.explode.next(p)
		}
		line, err := l.split.next()
		if err == io.EOF {
			return io.EOF
		}
		l.number++
		l.text = line
		if err != nil {
			if l.explode != nil {
				l.explode.number++
			}
			return err
		}
		if line = bytes.Trim(line, jsonSpace); len(line) > 0 {
			if l.explode != nil {
				return l.explode.one(line, p)
			}
			l.decoder.at(l.number)
			return l.decoder.Decode(line, p)
		}
	}
}

// sequence reads a JSON text sequence: a row is a record.
type sequence struct {
	split   splitter
	decoder *ObjectDecoder
	number  int64
	begun   bool // the first separator was seen
	text    []byte
	explode *exploder // nil: a MultiPoint is refused
}

func newSequence(r *bufio.Reader, o Options) *sequence {
	s := &sequence{split: splitter{r: r, delim: recordSeparator}, decoder: NewObjectDecoder(&o)}
	if o.explode {
		s.explode = &exploder{decoder: s.decoder}
	}
	return s
}

func (s *sequence) Row() int64 { return s.number }

func (s *sequence) Next(p *event.Point) error {
	if s.explode != nil && len(s.explode.pending) > 0 {
		s.number++
		return s.explode.next(p)
	}
	for {
		text, err := s.split.next()
		if err != nil && err != ErrRowSize {
			return err
		}
		outside, whole := !s.begun, bytes.HasSuffix(text, []byte("\n"))
		s.begun = true
		text = bytes.Trim(text, jsonSpace)
		if err == nil && len(text) == 0 { // RFC 7464, section 2.1: no element
			continue
		}
		s.number++
		s.text = text
		switch {
		case outside:
			return &event.FieldError{Reason: "it does not begin with the record separator, the byte 0x1E"}
		case err != nil:
			return err
		}
		if s.explode != nil {
			s.explode.number = s.number - 1 // which it counts up
			err = s.explode.one(text, p)
		} else {
			s.decoder.at(s.number)
			err = s.decoder.Decode(text, p)
		}
		var wrong *event.FieldError
		if !whole && errors.As(err, &wrong) { // RFC 7464, section 2.3
			return &event.FieldError{Pointer: wrong.Pointer, Reason: "the record is truncated: " + wrong.Reason}
		}
		return err
	}
}
