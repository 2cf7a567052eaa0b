package format

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"net/http"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"cairn/internal/web"
)

// SetCharset says in what the text is written that has no byte order mark.
func (o *Options) SetCharset(name string) error {
	if charsetOf(name) == nil {
		return &web.Problem{Status: http.StatusUnsupportedMediaType, Detail: "the charset " + Quote(name) + " is not known: send UTF-8"}
	}
	o.charset = name
	return nil
}

// charsetOf is one by its name: of the web's, and of DOS's, which spreadsheets
// still write. nil: it is not known.
func charsetOf(name string) encoding.Encoding {
	if e, err := htmlindex.Get(name); err == nil {
		return e
	}
	if e, err := ianaindex.IANA.Encoding(name); err == nil {
		return e // nil, too, for one that is known by its name only
	}
	return nil
}

// HasMark reports whether a text begins with a byte order mark.
func HasMark(text []byte) bool {
	for _, mark := range []string{"\ufeff", "\xff\xfe", "\xfe\xff"} {
		if bytes.HasPrefix(text, []byte(mark)) {
			return true
		}
	}
	return false
}

// IsJSON reports whether a text begins as an object or an array does.
func IsJSON(text []byte) bool {
	text = bytes.TrimLeft(text, jsonSpace)
	return HasMark(text) || len(text) > 0 && (text[0] == '{' || text[0] == '[')
}

// inUTF8 reads text in the charset that its byte order mark tells, else in the
// one that was declared; none is ever guessed.
func inUTF8(r *bufio.Reader, o *Options) *bufio.Reader {
	switch bom, _ := r.Peek(2); string(bom) {
	case "\xff\xfe":
		return fromUTF16(r, unicode.LittleEndian, o)
	case "\xfe\xff":
		return fromUTF16(r, unicode.BigEndian, o)
	}
	if bom, _ := r.Peek(3); string(bom) == "\ufeff" {
		for string(bom) == "\ufeff" { // some programs write one before that of another
			_, _ = r.Discard(len(bom)) // they are in the buffer
			bom, _ = r.Peek(3)
		}
		return r
	}
	if o.charset == "" || isASCII(o.charset) {
		return r
	}
	e := charsetOf(o.charset) // SetCharset has looked
	if name, _ := htmlindex.Name(e); name == "utf-8" {
		return r
	}
	switch name, _ := htmlindex.Name(e); name {
	case "utf-16le":
		return fromUTF16(r, unicode.LittleEndian, o)
	case "utf-16be":
		return fromUTF16(r, unicode.BigEndian, o)
	}
	return bufio.NewReaderSize(strictly(r, e, o.charset), ReadBuffer)
}

// strictly reads text of the charset, and nothing else.
func strictly(r io.Reader, e encoding.Encoding, charset string) io.Reader {
	return transform.NewReader(r, transform.Chain(e.NewDecoder(), whole{charset: charset}))
}

// isASCII reports whether a charset is what UTF-8 begins with; on the web the name
// stands for windows-1252, by which UTF-8 that is called ASCII would be garbled.
func isASCII(charset string) bool {
	return strings.EqualFold(charset, "us-ascii") || strings.EqualFold(charset, "ascii")
}

// fromUTF16 reads UTF-16, in which U+FFFD may be meant: so what is none of it is found
// before it is decoded.
func fromUTF16(r io.Reader, order unicode.Endianness, o *Options) *bufio.Reader {
	checked := transform.NewReader(r, &surrogates{big: order == unicode.BigEndian, charset: cmp.Or(o.charset, "utf-16")})
	return bufio.NewReaderSize(unicode.UTF16(order, unicode.UseBOM).NewDecoder().Reader(checked), ReadBuffer)
}

// A surrogates passes on UTF-16 whose surrogates are in pairs, and ends with an error
// where they are not, or where half a unit is left.
type surrogates struct {
	transform.NopResetter
	big     bool
	charset string
}

func (s *surrogates) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	n := 0
	for end := min(len(src), len(dst)); n+2 <= end && err == nil; {
		size := 2
		switch u := s.unit(src[n:]); {
		case utf16.IsSurrogate(u) && n+4 > len(src) && !atEOF:
			err = transform.ErrShortSrc
			continue
		case utf16.IsSurrogate(u) && (n+4 > len(src) || utf16.DecodeRune(u, s.unit(src[n+2:])) == utf8.RuneError):
			err = notOfCharset(s.charset)
			continue
		case utf16.IsSurrogate(u):
			size = 4
		}
		if n+size > end {
			break
		}
		n += size
	}
	copy(dst, src[:n])
	switch left := len(src) - n; {
	case err != nil || left == 0:
	case left >= 2:
		err = transform.ErrShortDst
	case atEOF:
		err = notOfCharset(s.charset)
	default:
		err = transform.ErrShortSrc
	}
	return n, n, err
}

func (s *surrogates) unit(b []byte) rune {
	if s.big {
		return rune(b[0])<<8 | rune(b[1])
	}
	return rune(b[1])<<8 | rune(b[0])
}

func notOfCharset(charset string) error {
	return &web.Problem{Status: http.StatusBadRequest, Detail: "the text has bytes that the charset " + Quote(charset) + " does not: is it in another one?"}
}

// A whole passes on text that a charset's decoder made, and ends with an error
// where that had to put U+FFFD for bytes which are not of the charset: else they
// would be lost, and names that differ in nothing else become one.
type whole struct {
	transform.NopResetter
	charset string
}

func (w whole) Transform(dst, src []byte, atEOF bool) (nDst, nSrc int, err error) {
	n, end := len(src), error(nil)
	if i := bytes.Index(src, []byte("\ufffd")); i >= 0 {
		n, end = i, notOfCharset(w.charset)
	} else if !atEOF { // the character may be cut
		for k := 1; k <= min(2, len(src)); k++ {
			if bytes.HasPrefix([]byte("\ufffd"), src[len(src)-k:]) {
				n, end = len(src)-k, transform.ErrShortSrc
			}
		}
	}
	if n > len(dst) {
		n, end = len(dst), transform.ErrShortDst
	}
	return copy(dst, src[:n]), n, end
}

// peekLine looks at the next line, without its end, reading no more of the body
// than it needs. Where quotes count, a line in which they are open continues. The end is '\n', or
// '\r' where that is alone; 0 where the line is longer than the buffer, or the
// last one.
func peekLine(r *bufio.Reader, quotes bool) (line []byte, end byte) {
	quoted, at := false, 0
	for n := 1; n <= r.Size(); {
		b, err := r.Peek(max(n, r.Buffered()))
		for ; at < len(b); at++ {
			c := b[at]
			last := at+1 == len(b)
			switch {
			case c == '"' && quotes:
				quoted = !quoted
			case quoted || c != '\n' && c != '\r':
			case c == '\r' && !last && b[at+1] == '\n':
				return b[:at], '\n'
			case c == '\n' || !last || err != nil:
				return b[:at], c
			}
			if c == '\r' && last && !quoted && err == nil {
				break // what follows decides
			}
		}
		if err != nil {
			return b, 0
		}
		n = len(b) + 1
	}
	b, _ := r.Peek(r.Size())
	return b, 0
}

// skipLine passes over the line that peekLine saw.
func skipLine(r *bufio.Reader, line []byte, end byte) {
	n := len(line)
	if end != 0 {
		n++
	}
	if b, _ := r.Peek(n); end == '\n' && len(b) == n && b[n-1] == '\r' {
		n++ // both of CR and LF
	}
	_, _ = r.Discard(n)
}

// A returns reads a text whose lines end with CR alone, as if it were LF.
type returns struct{ r io.Reader }

func (c returns) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for i, b := range p[:n] {
		if b == '\r' {
			p[i] = '\n'
		}
	}
	return n, err
}
