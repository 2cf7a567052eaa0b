package answer

import (
	"crypto/sha256"
	"encoding/base64"
	"runtime"
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
	// MaxBytes bounds a body, in bytes, which is then within the window of 8
	// MiB that RFC 9659 allows zstd: one that a phone can parse, and what one
	// request may cost this process in memory.
	MaxBytes = 8 << 20
)

// A Form is a content as it goes over the wire.
type Form struct {
	Bytes []byte
	Tag   []byte // the entity tag, in quotes
	Name  string // of the content coding; "" for none
	// Varies: which form it is depends on Accept-Encoding.
	Varies bool
}

// A Content is what an answer says, in up to three forms. The compressed ones
// are made when they are asked for first, and once.
type Content struct {
	Next    string // where the next page is; "" where there is none
	plain   Form
	bare    bool // it is sent in no content coding
	packed  [codings]packed
	packedN atomic.Int64 // bytes of the compressed forms
}

type packed struct {
	once sync.Once
	form Form
}

// Empty reports whether the answer is nothing.
func (c *Content) Empty() bool { return len(c.plain.Bytes) == 0 }

func newContent(a Answer) *Content {
	if a.Tag != nil {
		return &Content{plain: Form{Bytes: a.Body, Tag: a.Tag}, Next: a.Next, bare: true}
	}
	return &Content{plain: Form{Bytes: a.Body, Tag: tagOf(a.Body), Varies: true}, Next: a.Next}
}

// tagOf is a strong validator (RFC 9110, section 8.8.1): a hash of the very
// bytes that are sent.
func tagOf(b []byte) []byte {
	sum := sha256.Sum256(b)
	tag := append(make([]byte, 0, 24), '"')
	tag = base64.RawURLEncoding.AppendEncode(tag, sum[:tagBytes])
	return append(tag, '"')
}

// same reports whether both say the same; the tag is a hash of all that is said.
func (c *Content) same(other *Content) bool {
	return c != nil && other != nil && string(c.plain.Tag) == string(other.plain.Tag) && c.Next == other.Next
}

// size is what a cached answer costs, in bytes.
func (a *Cached) size() int {
	if a.Content == nil {
		return 0
	}
	return len(a.plain.Bytes) + int(a.packedN.Load())
}

// Form returns the request's answer in the coding that the field
// Accept-Encoding likes best. The answer must have a content.
func (c *Cache) Form(r *Request, a *Cached, accept []byte) *Form {
	if a.bare {
		return &a.plain
	}
	f, made := a.in(choose(accept, len(a.plain.Bytes)))
	if made > 0 {
		c.metrics.packed.Inc()
		c.grow(r, made)
	}
	return f
}

// in returns the content in the coding, and how many bytes it costs that were
// not there before.
func (c *Content) in(coding coding) (f *Form, made int) {
	if coding == identity {
		return &c.plain, 0
	}
	p := &c.packed[coding-1]
	p.once.Do(func() {
		b := pack(coding, c.plain.Bytes)
		p.form = Form{Bytes: b, Tag: tagOf(b), Name: coding.String(), Varies: true}
		made = len(b)
		c.packedN.Add(int64(made))
	})
	return &p.form, made
}

// zstdEncoder is safe for all at once.
var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(MaxBytes))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})

var gzipWriters = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzipLevel) // the level is one
	return w
}}

// packing has a place for each large body that is compressed: that takes a core, and
// half a megabyte beside the result.
var packing = make(chan struct{}, runtime.GOMAXPROCS(0))

// packAloneBytes is what is compressed without a place: 2 ms of a core.
const packAloneBytes = 256 << 10

func pack(c coding, plain []byte) []byte {
	if len(plain) > packAloneBytes {
		packing <- struct{}{}
		defer func() { <-packing }()
	}
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
