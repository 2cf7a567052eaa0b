package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"cairn/event"
	"cairn/ingest/format"
)

// maxRemembered bounds the rows that a load knows again, in two generations of
// this many: 40 bytes each. Rows that are alike and further apart in a file count
// as one point.
const maxRemembered = 1 << 20

// A body is one attempt's reading of a file, as what the server takes: a line of
// NDJSON for each row, with an empty one for each that is left out, so that the
// server's numbers are those of the file.
//
// A row without an id of its own gets one of its content, and of how many rows
// of the same content came before it in the file. So a file that was corrected,
// or of which rows were taken out, can be loaded again: what stayed is known, and
// only what is new goes in. The same row in another file is the same point too,
// unless that is loaded under another key.
type body struct {
	source *source
	of     *openFile
	key    string
	moved  func() // the transport took something
	reject func(row int64, why *event.FieldError, from format.Rows) error

	buffer  []byte
	sent    int
	line    int64 // the last one that was written
	ended   error
	broken  error // why the file cannot be read to its end
	event   event.Event
	scratch []byte
	seen    [2]map[[8]byte]uint32 // the younger generation first

	reading sync.Mutex // the transport's goroutine, and the one that waits for it
	stopped bool

	bytes    atomic.Int64 // of the file
	rows     atomic.Int64 // handed to the transport
	rejected int64
}

func (l *loader) newBody(ctx context.Context, f *file, o *openFile, moved func()) (*body, error) {
	b := &body{of: o, key: l.cfg.Key, moved: moved}
	b.seen[0] = map[[8]byte]uint32{}
	var err error
	b.source, err = f.read(ctx, o, &b.bytes)
	return b, err
}

// prime reads up to the first good row. It returns io.EOF where there is none.
func (b *body) prime() error {
	for b.rows.Load() == 0 {
		b.moved() // rows that are left out are progress too
		if b.ended != nil {
			return b.ended
		}
		if err := b.next(); err != nil {
			return err
		}
	}
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.stopped {
		return 0, io.ErrClosedPipe
	}
	for b.sent == len(b.buffer) {
		if b.ended != nil {
			return 0, b.ended
		}
		b.buffer, b.sent = b.buffer[:0], 0
		for len(b.buffer) < len(p) && b.ended == nil {
			if err := b.next(); err != nil {
				return 0, err
			}
		}
	}
	n := copy(p, b.buffer[b.sent:])
	b.sent += n
	b.moved()
	return n, nil
}

// next reads one row. Its error breaks the request off; what is only wrong with
// the rest of the file ends it, and what came before goes in.
func (b *body) next() error {
	err := b.source.rows.Next(&b.event.Point)
	row := b.source.rows.Row()
	var wrong *event.FieldError
	var deletion *format.Deletion
	switch failed := b.source.reading.err; {
	case failed != nil:
		b.ended = failed
		return failed
	case err == nil:
		b.to(row)
		b.write()
	case errors.As(err, &deletion):
		b.to(row)
		b.buffer = append(append(append(b.buffer, `{"delete":`...), deletion.ID...), '}', '\n')
		b.line++
		b.rows.Add(1)
	case errors.As(err, &wrong):
		b.rejected++
		if b.reject != nil {
			return b.reject(row, wrong, b.source.rows)
		}
	case err == io.EOF:
		b.ended = io.EOF
	default:
		b.ended, b.broken = io.EOF, inWords(err)
	}
	return nil
}

// to leaves lines empty up to the one before a row.
func (b *body) to(row int64) {
	for ; b.line < row-1; b.line++ {
		b.buffer = append(b.buffer, '\n')
	}
}

// write appends the point as a Feature.
func (b *body) write() {
	p := &b.event.Point
	if p.ExternalID == nil {
		id := b.identify(b.feature(p))
		p.ExternalID = jsontext.Value(`"` + id.String() + `"`)
	}
	b.buffer = append(append(b.buffer, b.feature(p)...), '\n')
	b.line++
	b.rows.Add(1)
}

// feature is the point as GeoJSON, good until the next call.
func (b *body) feature(p *event.Point) []byte {
	e := event.Event{Type: event.Created, Point: *p}
	b.scratch = event.AppendEvent(b.scratch[:0], &e)
	const name = `"point":`
	begin := bytes.Index(b.scratch, []byte(name)) + len(name)
	return b.scratch[begin : len(b.scratch)-len("}\n")]
}

// contentNamespace is of the ids that rows have from their content. It must not
// change: another value would load every file a second time.
var contentNamespace = uuid.MustParse("c7a3f0f6-5b1e-5c0b-9f0e-6a9a4e0d7d15")

func (b *body) identify(feature []byte) uuid.UUID {
	hash := sha256.New()
	_, _ = hash.Write(contentNamespace[:])
	_, _ = io.WriteString(hash, b.key)
	_, _ = hash.Write([]byte{0})
	_, _ = hash.Write(feature)
	var sum [sha256.Size]byte
	hash.Sum(sum[:0])
	if n := b.occurrence([8]byte(sum[16:24])); n > 0 {
		binary.BigEndian.PutUint32(sum[28:], n)
		sum = sha256.Sum256(sum[:])
	}
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8: RFC 9562, section 5.8
	id[8] = id[8]&0x3f | 0x80
	return id
}

// occurrence is how many rows of the same content came before.
func (b *body) occurrence(of [8]byte) uint32 {
	n, known := b.seen[0][of]
	if !known {
		n = b.seen[1][of]
	}
	if len(b.seen[0]) >= maxRemembered {
		b.seen[1], b.seen[0] = b.seen[0], map[[8]byte]uint32{}
	}
	b.seen[0][of] = n + 1
	return n
}

// stop ends the reading; when it returns, nothing reads any more.
func (b *body) stop() {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.stopped = true
}

// Close drops the reading; the file stays open for the next attempt.
func (b *body) Close() error { return nil }
