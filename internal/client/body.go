package client

import (
	"io"
	"sync/atomic"
)

// A body is one attempt's reading of a file. The transport may go on reading
// after it has given back an answer, so each attempt has its own.
type body struct {
	file    *openFile
	section *io.SectionReader
	counter rowCounter // nil: rows are not counted
	moved   func()     // the transport took something

	bytes atomic.Int64 // handed to the transport
	rows  atomic.Int64
}

func newBody(f *openFile, counter rowCounter, moved func()) *body {
	return &body{file: f, section: io.NewSectionReader(f, 0, f.size), counter: counter, moved: moved}
}

// Read holds back the last bytes of a file that has changed: the request then
// breaks off, and is not taken for the whole.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.section.Read(p)
	read := b.bytes.Load() + int64(n)
	if err != nil && err != io.EOF {
		return 0, &readError{reason(err)}
	}
	if read == b.file.size {
		if err := b.file.unchanged(); err != nil {
			return 0, &readError{err}
		}
	} else if err == io.EOF {
		return 0, &readError{errChanged} // it became shorter
	}
	if b.counter != nil {
		b.counter.count(p[:n])
		b.rows.Store(b.counter.rows())
	}
	b.bytes.Store(read)
	b.moved()
	return n, err
}

// Close does nothing: the file stays open for the next attempt.
func (b *body) Close() error { return nil }

// A readError is the file's fault, so that no retry mends it.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }
