package projector

import (
	"bytes"

	"cairn/event"

	"github.com/google/uuid"
)

const (
	// maxBatchRows and maxBatchBytes bound one transaction. Larger batches
	// gained nothing over 5,000 rows; the bytes bound memory for large points.
	maxBatchRows  = 5000
	maxBatchBytes = 8 << 20
)

// A batch is what one transaction applies: envelopes first to last, decoded
// into the rows that COPY will send, ready before the transaction begins.
type batch struct {
	first, last uint64 // sequences
	lastID      string // message id of the last

	copy   []byte // header and rows of binary COPY, without the trailer
	rows   []row
	parked []parked // what could not be read
	bytes  int      // of the messages
	ack    func() error
}

// A row remembers where its bytes are in copy, and what it was made of.
type row struct {
	end      int // in copy; it begins where the one before ends
	position event.Position
	id       uuid.UUID
	event    []byte // the line of the envelope
}

// parked is an event that will not become a row.
type parked struct {
	position event.Position
	id       uuid.UUID // zero where it could not be read
	reason   string
	detail   string
	event    []byte
}

// Why an event is parked.
const (
	reasonConflict   = "conflict"   // its id is there with other content
	reasonRefused    = "refused"    // Postgres does not take it
	reasonUnreadable = "unreadable" // it is no event
)

func newBatch(first uint64) *batch {
	b := &batch{first: first, last: first - 1}
	b.copy = append(make([]byte, 0, 64<<10), copyHeader...)
	return b
}

// add decodes one envelope into the batch. The data stays in use until the
// batch is applied.
func (b *batch) add(d *event.Decoder, sequence uint64, id string, data []byte) {
	b.last, b.lastID, b.bytes = sequence, id, b.bytes+len(data)
	var e event.Event
	for index := 0; len(data) > 0; index++ {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte{'\n'})
		position := event.At(sequence, min(index, event.MaxIndex))
		if index > event.MaxIndex {
			// No writer of ours makes such an envelope; the rest cannot be
			// numbered, so it is kept as it is.
			b.park(parked{position: position, reason: reasonUnreadable, detail: "more than 4,096 events in one message", event: append(line, data...)})
			return
		}
		if err := d.Event(line, &e); err != nil {
			b.park(parked{position: position, reason: reasonUnreadable, detail: err.Error(), event: line})
			continue
		}
		if e.Type != event.Created {
			b.park(parked{position: position, id: e.ID, reason: reasonUnreadable, detail: "unknown type of event " + e.Type, event: line})
			continue
		}
		b.copy = appendRow(b.copy, &e, position)
		b.rows = append(b.rows, row{end: len(b.copy), position: position, id: e.ID, event: line})
	}
}

func (b *batch) park(p parked) { b.parked = append(b.parked, p) }

func (b *batch) full() bool { return len(b.rows) >= maxBatchRows || b.bytes >= maxBatchBytes }

func (b *batch) empty() bool { return b.last < b.first }

// payload is the complete COPY of rows from to to (exclusive).
func (b *batch) payload(from, to int) [][]byte {
	begin, end := len(copyHeader), len(copyHeader)
	if from > 0 {
		begin = b.rows[from-1].end
	}
	if to > 0 {
		end = b.rows[to-1].end
	}
	return [][]byte{copyHeader, b.copy[begin:end], copyTrailer}
}
