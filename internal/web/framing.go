package web

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
)

const (
	// maxLengthDigits bounds a Content-Length: 18 digits fit an int64.
	maxLengthDigits = 18
	// maxChunkDigits bounds a chunk's size in the same way.
	maxChunkDigits = 15
	// maxChunkLine bounds a chunk's line with its extensions, in bytes, which
	// nobody uses.
	maxChunkLine = 256
	// maxFields bounds a head's fields: browsers and proxies send some thirty, and each
	// costs the parser behind this more than its bytes.
	maxFields = 200
	// maxBlankLines may stand before a request line (RFC 9112, section 2.2).
	maxBlankLines = 2
)

// A framing reads along with what a connection sends, and finds where messages
// begin and end. It refuses what two programs could understand in two ways (RFC
// 9112, sections 2.2, 3, 5, 6 and 7), because behind a proxy that shares
// connections the difference becomes another user's request. The parser behind it
// is more lenient.
//
// It keeps no more than a line that has not come whole, and allocates nothing for
// one that has.
type framing struct {
	state  framingState
	line   []byte // the beginning of a line whose end has not come
	left   int64  // of the body, or of the chunk
	head   int    // bytes of the head, or of the trailer, so far
	blanks int

	// Of the current head.
	old                   bool // HTTP/1.0
	bodyless              bool // GET and HEAD
	host, length, chunked bool
	authorized            bool // it says who asks
	fields                int
	// authority is that of a target that is a whole URL, and secure says that the URL
	// is https.
	authority []byte
	secure    bool
}

type framingState uint8

const (
	atRequestLine framingState = iota
	inFields
	inBody
	atChunkSize
	inChunk
	afterChunk
	inTrailer
)

// check reads p. good is how much of it may be passed on: all, or, with a
// problem, what comes before the message that is refused.
func (f *framing) check(p []byte) (good int, refused *Problem) {
	for i := 0; i < len(p); {
		if f.state == inBody || f.state == inChunk {
			n := int(min(int64(len(p)-i), f.left))
			i += n
			if f.left -= int64(n); f.left == 0 {
				f.endData()
			}
			if f.state == atRequestLine {
				good = i
			}
			continue
		}
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			f.line = append(f.line, p[i:]...)
			if len(f.line)+f.head > maxHeadBytes {
				return good, headTooLarge()
			}
			break
		}
		line := p[i : i+n+1]
		if len(f.line) > 0 {
			f.line = append(f.line, line...)
			line = f.line
		}
		refused = f.takeLine(line)
		if f.line = f.line[:0]; cap(f.line) > maxChunkLine {
			f.line = nil
		}
		if refused != nil {
			return good, refused
		}
		i += n + 1
		if f.state == atRequestLine {
			good = i
		}
	}
	return len(p), nil
}

// endData continues after a body or a chunk.
func (f *framing) endData() {
	if f.state == inChunk {
		f.state = afterChunk
		return
	}
	f.reset()
}

func (f *framing) reset() { *f = framing{line: f.line} }

// takeLine takes a line with its end.
func (f *framing) takeLine(line []byte) *Problem {
	if f.head += len(line); f.head > maxHeadBytes {
		return headTooLarge()
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return BadRequest("a line of the request does not end with CR LF (RFC 9112, section 2.2)")
	}
	line = line[:len(line)-2]
	switch f.state {
	case atRequestLine:
		if len(line) == 0 {
			if f.blanks++; f.blanks > maxBlankLines {
				return BadRequest("there are blank lines where a request should begin")
			}
			return nil
		}
		f.state = inFields
		return f.requestLine(line)
	case inFields:
		if len(line) == 0 {
			return f.endHead()
		}
		return f.field(line)
	case atChunkSize:
		return f.chunkSize(line)
	case afterChunk:
		if len(line) != 0 {
			return BadRequest("a chunk is longer than it says")
		}
		f.state, f.head = atChunkSize, 0
	case inTrailer:
		if len(line) == 0 {
			f.reset()
			return nil
		}
		name, _, refused := cutField(line)
		if refused == nil && !mayTrail(name) {
			refused = BadRequest("a field behind a chunked body is one that must stand before it (RFC 9110, section 6.5.1)")
		}
		return refused
	}
	return nil
}

// requestLine takes METHOD SP TARGET SP VERSION.
func (f *framing) requestLine(line []byte) *Problem {
	method, rest, ok := bytes.Cut(line, space)
	target, version, ok2 := bytes.Cut(rest, space)
	if !ok || !ok2 || len(target) == 0 || !all(method, isToken) || !all(target, isTarget) {
		return BadRequest("the request line is not METHOD TARGET HTTP/1.1 (RFC 9112, section 3)")
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		f.old = true
	default:
		if bytes.HasPrefix(version, []byte("HTTP/")) {
			return &Problem{Status: http.StatusHTTPVersionNotSupported, Detail: "only HTTP/1.1 and HTTP/1.0 are spoken here"}
		}
		return BadRequest("the request line does not end with a version of HTTP (RFC 9112, section 3)")
	}
	switch string(method) {
	case http.MethodGet, http.MethodHead:
		f.bodyless = true
	case http.MethodConnect: // whose target is no path
		return &Problem{Status: http.StatusNotImplemented, Detail: "this is no proxy: the method CONNECT is not known here"}
	}
	return f.target(target, string(method) == http.MethodOptions)
}

// target takes a path, a whole URL, or, of OPTIONS, an asterisk (RFC 9112, section
// 3.2).
func (f *framing) target(target []byte, options bool) *Problem {
	if target[0] == '/' || options && string(target) == "*" {
		return nil
	}
	scheme, rest, ok := bytes.Cut(target, []byte("://"))
	f.secure = bytes.EqualFold(scheme, []byte("https"))
	if !ok || !f.secure && !bytes.EqualFold(scheme, []byte("http")) {
		return BadRequest("the request's target is no path and no URL of http or https (RFC 9112, section 3.2)")
	}
	if end := bytes.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	if len(rest) == 0 || !all(rest, isAuthority) {
		return BadRequest("the request's target is a URL without a host, or with a user (RFC 9110, section 4.2)")
	}
	f.authority = bytes.Clone(rest)
	return nil
}

// isOther reports whether the host is another than that of the target.
func (f *framing) isOther(host []byte) bool {
	if f.authority == nil {
		return false
	}
	port := []byte(":80")
	if f.secure {
		port = []byte(":443")
	}
	return !bytes.EqualFold(bytes.TrimSuffix(host, port), bytes.TrimSuffix(f.authority, port))
}

// field takes a header field, and honours those that say how long the body is.
func (f *framing) field(line []byte) *Problem {
	name, value, refused := cutField(line)
	if refused != nil {
		return refused
	}
	if f.fields++; f.fields > maxFields {
		return &Problem{Status: http.StatusRequestHeaderFieldsTooLarge, Detail: fmt.Sprintf("there are more than %d header fields", maxFields)}
	}
	switch {
	case len(name) == len("host") && bytes.EqualFold(name, []byte("host")):
		if f.host || !all(value, isAuthority) {
			return BadRequest("there must be one field Host, with one host (RFC 9112, section 3.2)")
		}
		if f.isOther(value) {
			return BadRequest("the field Host names another host than the target (RFC 9112, section 3.2.2)")
		}
		f.host = true
	case len(name) == len("authorization") && bytes.EqualFold(name, []byte("authorization")):
		// A proxy may have judged by the other.
		if f.authorized {
			return BadRequest("there is more than one field Authorization (RFC 9110, section 5.3)")
		}
		f.authorized = true
	case len(name) == len("expect") && bytes.EqualFold(name, []byte("expect")):
		if !bytes.EqualFold(value, []byte("100-continue")) {
			return &Problem{Status: http.StatusExpectationFailed, Detail: "the only Expect that is met is 100-continue (RFC 9110, section 10.1.1)"}
		}
	case len(name) == len("content-length") && bytes.EqualFold(name, []byte("content-length")):
		n, ok := digits(value, 10, maxLengthDigits)
		if f.length || !ok {
			return BadRequest("there must be one Content-Length at most, with one decimal number (RFC 9112, section 6.3)")
		}
		f.length, f.left = true, n
	case len(name) == len("transfer-encoding") && bytes.EqualFold(name, []byte("transfer-encoding")):
		if f.chunked {
			return BadRequest("there is more than one Transfer-Encoding")
		}
		if !bytes.EqualFold(value, []byte("chunked")) {
			return &Problem{Status: http.StatusNotImplemented, Detail: "the only Transfer-Encoding that is understood is chunked (RFC 9112, section 6.1)"}
		}
		f.chunked = true
	}
	return nil
}

// endHead decides how long the body is (RFC 9112, section 6.3).
func (f *framing) endHead() *Problem {
	switch {
	case !f.host && !f.old:
		return BadRequest("there is no field Host (RFC 9112, section 3.2)")
	case f.chunked && f.length:
		return BadRequest("there is a Content-Length beside a Transfer-Encoding (RFC 9112, section 6.1)")
	case f.chunked && f.old:
		return BadRequest("HTTP/1.0 has no Transfer-Encoding (RFC 9112, section 6.1)")
	case f.bodyless && (f.chunked || f.left > 0):
		return BadRequest("a GET or HEAD with a body is not taken (RFC 9110, section 9.3.1)")
	case f.chunked:
		f.state, f.head = atChunkSize, 0
	case f.left > 0:
		f.state = inBody
	default:
		f.reset()
	}
	return nil
}

// chunkSize takes SIZE [; EXTENSIONS].
func (f *framing) chunkSize(line []byte) *Problem {
	size, _, _ := bytes.Cut(line, []byte{';'})
	n, ok := digits(bytes.TrimRight(size, " \t"), 16, maxChunkDigits)
	if !ok || len(line) > maxChunkLine || !all(line, isValue) {
		return BadRequest("a chunk does not begin with its size (RFC 9112, section 7.1)")
	}
	f.head = 0
	if n == 0 {
		f.state = inTrailer
	} else {
		f.state, f.left = inChunk, n
	}
	return nil
}

// cutField takes NAME: VALUE.
func cutField(line []byte) (name, value []byte, refused *Problem) {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 || !all(name, isToken) || !isText(value) {
		return nil, nil, BadRequest("a header field is not NAME: VALUE in one line (RFC 9112, section 5)")
	}
	return name, trimBlank(value), nil
}

// trimBlank takes blanks off both ends. [bytes.Trim] makes a set of them first, which
// took half the time that a field takes.
func trimBlank(text []byte) []byte {
	for len(text) > 0 && isBlank(text[0]) {
		text = text[1:]
	}
	for len(text) > 0 && isBlank(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	return text
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' }

// mayTrail reports whether a field may stand behind a chunked body: none that frames
// or routes the message, or says who sent it.
func mayTrail(name []byte) bool {
	text := strings.ToLower(string(name))
	for _, prefix := range []string{"content-", "proxy-", "transfer-"} {
		if strings.HasPrefix(text, prefix) {
			return false
		}
	}
	switch text {
	case "authorization", "connection", "expect", "host", "keep-alive", "max-forwards", "range", "te", "trailer", "www-authenticate":
		return false
	}
	return text[0] != '0' // which the parser behind this takes for another chunk
}

// digits reads a number that consists of digits, and of no more than max.
func digits(text []byte, base int64, max int) (n int64, ok bool) {
	if len(text) == 0 || len(text) > max {
		return 0, false
	}
	for _, c := range text {
		var d int64
		switch {
		case c >= '0' && c <= '9':
			d = int64(c - '0')
		case base == 16 && c|0x20 >= 'a' && c|0x20 <= 'f':
			d = int64(c|0x20-'a') + 10
		default:
			return 0, false
		}
		n = n*base + d
	}
	return n, true
}

func headTooLarge() *Problem {
	return &Problem{Status: http.StatusRequestHeaderFieldsTooLarge, Detail: fmt.Sprintf("the header fields are larger than %d bytes", maxHeadBytes)}
}

var space = []byte{' '}

// What a byte may be part of.
const (
	isToken     = 1 << iota // RFC 9110, section 5.6.2
	isTarget                // visible, or not ASCII: many send UTF-8 as it is
	isValue                 // RFC 9110, section 5.5
	isAuthority             // of a host and its port (RFC 3986, section 3.2)
)

var classes = func() (c [256]uint8) {
	for b := range 256 {
		switch {
		case b > ' ' && b < 0x7f:
			c[b] |= isTarget | isValue
		case b == ' ', b == '\t':
			c[b] |= isValue
		case b >= 0x80:
			c[b] |= isTarget | isValue
		}
	}
	letters := "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, b := range []byte(letters + "!#$%&'*+-.^_`|~") {
		c[b] |= isToken
	}
	for _, b := range []byte(letters + "-._~%!$&'()*+,;=:[]") {
		c[b] |= isAuthority
	}
	return c
}()

// isText reports whether all of the text are isValue. It looks at eight bytes at once,
// and at single ones only where a tab or none of isValue is among them: what names the
// caller is the longest field of nearly all requests.
func isText(text []byte) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080 // in each byte: 1, the highest bit
	for len(text) >= 8 {
		eight := binary.LittleEndian.Uint64(text)
		del := eight ^ each*0x7f // 0 where it is DEL
		if ((eight-each*' ')&^eight|(del-each)&^del)&high != 0 && !all(text[:8], isValue) {
			return false
		}
		text = text[8:]
	}
	return all(text, isValue)
}

func all(text []byte, class uint8) bool {
	for _, b := range text {
		if classes[b]&class == 0 {
			return false
		}
	}
	return true
}
