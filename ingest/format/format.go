// Package format reads points: one row at a time from a body of any length, in
// little memory, whatever the format. It stands between the bytes that ingest
// reads from a socket and the events that it makes; "cairn load" uses it on files.
//
// An invalid row is a *event.FieldError, after which the next row can be read; a body
// that cannot be read further is a *web.Problem.
package format

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"cairn/event"
	"cairn/internal/web"
)

const (
	// MaxPointBytes bounds a body of one point, unpacked. The room to
	// event.MaxEventBytes is for what the event adds to it.
	MaxPointBytes = event.MaxEventBytes - 1<<10
	// MaxRowBytes bounds one row of many, as it comes; its event is bounded by
	// event.MaxEventBytes too.
	MaxRowBytes = event.MaxEventBytes

	// ReadBuffer is what is read from a body at once: one read of the socket.
	ReadBuffer = 64 << 10
)

// ErrRowSize refuses a row that would not fit.
var ErrRowSize = &event.FieldError{Reason: fmt.Sprintf("it is larger than %d bytes", MaxRowBytes)}

// Rows reads the points of a body one by one.
type Rows interface {
	// Next reads the next row into p, whose raw fields are good until the next
	// call. It returns a *event.FieldError for a row that is wrong, io.EOF after
	// the last one, and else a *web.Problem: then nothing more can be read.
	Next(p *event.Point) error
	// Row is the number of the row that Next was about, from 1.
	Row() int64
}

// Open begins to read the body.
func Open(r *bufio.Reader, k Kind, o Options) (Rows, error) {
	if name := foreign(r); name != "" {
		return nil, unreadable(name, &o)
	}
	if by := packedBy(r); by != "" {
		return nil, web.BadRequest("it is packed by " + by + ", which is not read here: unpack it, or pack it by gzip or zstd")
	}
	if k == XML {
		if k = Sniff(r); k != GPX && k != KML {
			return nil, unsupported("this is not the XML of GPX or KML, by how it begins")
		}
	}
	switch k {
	case GPX, KML: // XML says itself how it is encoded
		return openXML(r, k, o)
	case Form:
		return openForm(r, o)
	}
	r = inUTF8(r, &o)
	switch k {
	case Table:
		return openTable(r, o)
	case GeoJSON, JSON:
		return openJSON(r, o, k)
	case Sequence:
		return newSequence(r, o), nil
	}
	return newLines(r, o), nil
}

// A budget is a reader that gives a bounded number of bytes for each row, then
// fails with ErrRowSize until the next refill. What its user has read ahead
// belongs to a row that it has had the bytes for.
type budget struct {
	r    io.Reader
	left int
}

func (b *budget) refill() { b.left = MaxRowBytes }

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrRowSize
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// atRow is a problem with the row, after which one cannot continue.
func atRow(row int64, reason, pointer string) *web.Problem {
	p := web.BadRequest("row " + strconv.FormatInt(row, 10) + ": " + ClipReason(reason))
	p.Pointer = ClipPointer(pointer)
	return p
}

// TooLarge is the problem of a body of one point that is larger than limit.
func TooLarge(limit int) *web.Problem {
	return &web.Problem{
		Status: http.StatusRequestEntityTooLarge,
		Detail: fmt.Sprintf("one point may have at most %d bytes; to send many, use Content-Type: application/x-ndjson or application/geo+json", limit),
	}
}
