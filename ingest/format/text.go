package format

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"

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
	if bom, _ := r.Peek(2); bytes.Equal(bom, []byte("\xff\xfe")) || bytes.Equal(bom, []byte("\xfe\xff")) {
		return transcoded(r, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM))
	}
	if bom, _ := r.Peek(3); string(bom) == "\ufeff" {
		_, _ = r.Discard(len(bom)) // they are in the buffer
		return r
	}
	if o.charset == "" {
		return r
	}
	e := charsetOf(o.charset) // SetCharset has looked
	if name, _ := htmlindex.Name(e); name == "utf-8" {
		return r
	}
	if name, _ := htmlindex.Name(e); strings.HasPrefix(name, "utf-16") { // which has the character
		return transcoded(r, e)
	}
	return bufio.NewReaderSize(strictly(r, e, o.charset), ReadBuffer)
}

// strictly reads text of the charset, and nothing else.
func strictly(r io.Reader, e encoding.Encoding, charset string) io.Reader {
	return transform.NewReader(r, transform.Chain(e.NewDecoder(), whole{charset: charset}))
}

func transcoded(r io.Reader, e encoding.Encoding) *bufio.Reader {
	return bufio.NewReaderSize(e.NewDecoder().Reader(r), ReadBuffer)
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
		n, end = i, &web.Problem{Status: http.StatusBadRequest, Detail: "the text has bytes that the charset " + Quote(w.charset) + " does not: is it in another one?"}
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
