package projector

import (
	"bytes"
	"errors"
	"time"

	"cairn/bus"
	"cairn/event"

	"github.com/google/uuid"
	"github.com/paulmach/orb"
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
	named  int           // how many of them create or replace a point that has a name
	parked []parkedEvent // what could not be read
	bytes  int           // of the messages
	most   int           // rows from which on it is full
	// changes: some events are not plain creations.
	changes bool
	ack     func() error
}

// A row is an event that could be read: what decides about it, and where its
// bytes are in copy.
type row struct {
	end      int // in copy; it begins where the one before ends, and a deletion has none
	position event.Position
	id       uuid.UUID
	kind     string // of event
	need     event.Condition
	author   string
	name     string // "": none
	at       orb.Point
	time     time.Time // observed, else received
	event    []byte    // the line of the envelope
}

// A parkedEvent is one that will not become a row.
type parkedEvent struct {
	position event.Position
	id       uuid.UUID // zero where it could not be read
	reason   bus.Outcome
	detail   string
	event    []byte
}

func newBatch(first uint64) *batch {
	b := &batch{first: first, last: first - 1, most: maxBatchRows}
	b.copy = append(make([]byte, 0, 64<<10), copyHeader...)
	return b
}

// add decodes one envelope into the batch. The data stays in use until the
// batch is applied. What a newer version wrote is an error, and none of its
// envelope is in the batch then.
func (b *batch) add(d *event.Decoder, sequence uint64, id string, data []byte) error {
	rows, named, parkedBefore, copied := len(b.rows), b.named, len(b.parked), len(b.copy)
	if err := b.addLines(d, sequence, data); err != nil {
		b.rows, b.named, b.parked, b.copy = b.rows[:rows], named, b.parked[:parkedBefore], b.copy[:copied]
		return err
	}
	b.last, b.lastID, b.bytes = sequence, id, b.bytes+len(data)
	return nil
}

func (b *batch) addLines(d *event.Decoder, sequence uint64, data []byte) error {
	var e event.Event
	for index := 0; len(data) > 0; index++ {
		var line []byte
		line, data, _ = bytes.Cut(data, []byte{'\n'})
		position := event.At(sequence, min(index, event.MaxIndex))
		if index > event.MaxIndex {
			// No writer of ours makes such an envelope; the rest cannot be
			// numbered, so it is kept as it is.
			b.park(parkedEvent{position: position, reason: bus.OutcomeUnreadable, detail: "more than 4,096 events in one message", event: append(line, data...)})
			return nil
		}
		var unknown *event.UnknownError
		switch err := d.Event(line, &e); {
		case errors.As(err, &unknown):
			return newer(position, unknown)
		case err != nil:
			b.park(parkedEvent{position: position, reason: bus.OutcomeUnreadable, detail: err.Error(), event: line})
			continue
		}
		if e.Type != event.Created || !e.If.IsZero() {
			b.changes = true
		}
		if e.Type != event.Deleted {
			b.copy = appendRow(b.copy, &e, position)
		}
		r := row{end: len(b.copy), position: position, id: e.ID, kind: e.Type, need: e.If, author: e.Author, name: e.Point.Name, at: e.Point.Position, time: e.Point.Time, event: line}
		if r.time.IsZero() {
			r.time = e.Received
		}
		if r.name != "" {
			b.named++
		}
		b.rows = append(b.rows, r)
	}
	return nil
}

// newer stops the projection at what a newer version wrote: to park it would take
// what was acknowledged from its writer, to leave out a part would change it.
func newer(at event.Position, what error) error {
	return mismatch("Upgrade this projector to the version of the ingest service that wrote it, and it continues on its own",
		"the event at position %d of the stream %s (message %d) is of a newer version of Cairn: %v", at, bus.Stream, at.Sequence(), what)
}

func (b *batch) park(p parkedEvent) { b.parked = append(b.parked, p) }

func (b *batch) full() bool { return len(b.rows) >= b.most || b.bytes >= maxBatchBytes }

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
