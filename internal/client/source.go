package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"cairn/ingest/format"
	"cairn/internal/web"
)

// A source is one reading of a file, from its beginning to its end: unpacked, and
// row by row.
type source struct {
	rows     format.Rows
	kind     format.Kind
	warnings *format.Warnings
	reading  *reading
	close    func()
}

// read begins to read the file. Its error says what is wrong with the file, in
// the words of the command line.
func (f *file) read(ctx context.Context, o *openFile, bytesRead *atomic.Int64) (*source, error) {
	in := &reading{ctx: ctx, file: o, section: io.NewSectionReader(o, 0, o.size), n: bytesRead}
	bytesRead.Store(0)
	unpacked, closer, err := unpack(bufio.NewReaderSize(in, format.ReadBuffer))
	if err != nil {
		return nil, cmp.Or(in.err, err)
	}
	s := &source{kind: f.kind, close: closer, reading: in}
	r := bufio.NewReaderSize(unpacked, format.ReadBuffer)
	if sniffed := format.Sniff(r); s.kind == 0 || s.kind == format.JSON && sniffed == format.Lines {
		s.kind = sniffed
	}
	if s.kind == 0 {
		s.kind = format.JSON // which says what is wrong
	}
	if s.kind == format.JSON || s.kind == format.GeoJSON {
		if err := foreignCRS(o); err != nil {
			closer()
			return nil, inWords(err)
		}
	}
	query := f.query
	if s.kind != format.Table {
		query, _ = forOthers(query)
	}
	options, err := format.ParseFlags(s.kind, query)
	if err != nil {
		closer()
		return nil, inWords(err)
	}
	options.File, s.warnings = f.path, options.Warnings
	if strings.HasSuffix(strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(f.path), ".gz"), ".zst"), ".tsv") {
		options = format.Tabs(options)
	}
	if s.rows, err = format.Open(r, s.kind, options); err != nil {
		closer()
		return nil, cmp.Or(in.err, inWords(err))
	}
	return s, nil
}

// foreignCRS looks through the whole file for a reference system.
func foreignCRS(o *openFile) error {
	closer := func() {}
	defer func() { closer() }()
	return format.ForeignCRS(func() (r io.Reader, err error) {
		closer()
		closer = func() {}
		r, end, err := unpack(bufio.NewReaderSize(io.NewSectionReader(o, 0, o.size), format.ReadBuffer))
		if err == nil {
			closer = end
		}
		return r, err
	})
}

// inWords is a problem's own sentence, without the status of an answer that
// nobody gave.
func inWords(err error) error {
	var problem *web.Problem
	if !errors.As(err, &problem) {
		return err
	}
	return errors.New(clean(problem.Detail) + at(problem.Pointer))
}

// unpack looks at the first bytes, whatever the file is called.
func unpack(r *bufio.Reader) (io.Reader, func(), error) {
	head, _ := r.Peek(4)
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("it cannot be unpacked: %w", err)
		}
		return z, func() { _ = z.Close() }, nil
	case bytes.Equal(head, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, fmt.Errorf("it cannot be unpacked: %w", err)
		}
		return z, z.Close, nil
	}
	return r, func() {}, nil
}

// A reading reads an open file's bytes and counts them. It holds back the last
// ones of a file that has changed, so that it is not taken for whole.
type reading struct {
	ctx     context.Context //nolint:containedctx // that of one reading
	file    *openFile
	section *io.SectionReader
	n       *atomic.Int64
	err     error
}

func (r *reading) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, r.fail(context.Cause(r.ctx))
	}
	n, err := r.section.Read(p)
	read := r.n.Load() + int64(n)
	if err != nil && err != io.EOF {
		return 0, r.fail(reason(err))
	}
	if read == r.file.size {
		if err := r.file.unchanged(); err != nil {
			return 0, r.fail(err)
		}
	} else if err == io.EOF {
		return 0, r.fail(errChanged) // it became shorter
	}
	r.n.Store(read)
	return n, err
}

// fail keeps the error, because what a reader of rows says then is noise.
func (r *reading) fail(err error) error {
	r.err = &readError{err}
	return r.err
}

// A readError is the file's fault, so that no retry fixes it.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }
