package query

import (
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// minCompressBytes: a smaller body is one packet with or without it.
	minCompressBytes = 1_400
	// tagBytes of a SHA-256 are in an ETag: nobody makes two contents that
	// share them, by accident or on purpose.
	tagBytes = 16
	// gzipLevel compresses a page to a fifth; higher ones save 5 % more for
	// twice the time.
	gzipLevel = 4
)

// A form is a content as it goes over the wire.
type form struct {
	bytes []byte
	tag   []byte // the entity tag, in quotes
	name  string // of the content coding; "" for none
}

// A content is what an answer says, in up to three forms. The compressed ones
// are made when they are asked for first, and once.
type content struct {
	plain   form
	next    string
	link    []byte // the Link header, or nil
	packed  [codings]packed
	packedN atomic.Int64 // bytes of the compressed forms
}

type packed struct {
	once sync.Once
	form form
}

func newContent(a answer) *content {
	c := &content{plain: form{bytes: a.body, tag: tagOf(a.body)}, next: a.next}
	if a.next != "" {
		c.link = []byte(`<` + a.next + `>; rel="next"; type="` + mediaGeoJSON + `"`) // RFC 8288
	}
	return c
}

// tagOf is a strong validator (RFC 9110, section 8.8.1): a hash of the very
// bytes that are sent.
func tagOf(b []byte) []byte {
	sum := sha256.Sum256(b)
	tag := append(make([]byte, 0, 24), '"')
	tag = base64.RawURLEncoding.AppendEncode(tag, sum[:tagBytes])
	return append(tag, '"')
}

// same tells whether both say the same; the tag is a hash of all that is said.
func (c *content) same(other *content) bool {
	return c != nil && other != nil && string(c.plain.tag) == string(other.plain.tag) && c.next == other.next
}

// size is what a kept answer costs, in bytes.
func (k *kept) size() int {
	if k.content == nil {
		return 0
	}
	return len(k.plain.bytes) + int(k.packedN.Load())
}

// in returns the content in the coding, and how many bytes it costs that were
// not there before.
func (c *content) in(coding coding) (f *form, made int) {
	if coding == identity {
		return &c.plain, 0
	}
	p := &c.packed[coding-1]
	p.once.Do(func() {
		b := pack(coding, c.plain.bytes)
		p.form = form{bytes: b, tag: tagOf(b), name: coding.String()}
		made = len(b)
		c.packedN.Add(int64(made))
	})
	return &p.form, made
}

// zstdEncoder is safe for all at once. Its windows stay below the 8 MiB that
// RFC 9659 allows, since no page is larger.
var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(maxPageBytes))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})

var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzipLevel) // the level is one
	return w
}}

func pack(c coding, plain []byte) []byte {
	if c == zstandard {
		return zstdEncoder().EncodeAll(plain, make([]byte, 0, len(plain)/4))
	}
	out := &appender{b: make([]byte, 0, len(plain)/4)}
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	w.Reset(out)
	_, _ = w.Write(plain) // an appender takes everything
	_ = w.Close()
	return out.b
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}
