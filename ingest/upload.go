package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/ingest/format"
)

const (
	// maxRejections bounds the list in an answer: what a person reads.
	maxRejections = 100

	// The waits between two attempts to hand over what the queue refused.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// errStuck says that the queue took nothing for queueStall.
var errStuck = errors.New("the queue takes nothing")

// A rejection says why a row did not go in.
type rejection struct {
	Row     int64  `json:"row"`
	Reason  string `json:"reason"`
	Pointer string `json:"pointer,omitempty"`
}

// A rowRange is rows of a body, both ends included.
type rowRange struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

// A pending is a batch on its way, with the rows it is made of.
type pending struct {
	batch     *bus.Batch
	runs      []rowRun // where its events came from
	rows      rowRange
	since     time.Time
	uncertain bool // an attempt may have stored it
}

// An upload hands the rows of one body to the queue, in order: full envelopes,
// at most pipelineDepth of them unanswered. A batch that the queue refused is
// handed over again, the same bytes, until queueStall has passed without
// progress. It belongs to the handler's goroutine.
type upload struct {
	h        *handler
	in       *input // that its rows come from; nil in tests
	by       author
	keyed    *event.Rows // of its Idempotency-Key; nil: it has none
	trace    string      // traceparent
	mode     onConflict
	tally    *tally // nil: nobody asks for outcomes
	followed bool   // the tally continues after the answer
	key      string // what it is remembered as; "" where it has no Idempotency-Key
	body     *fingerprinter
	open     *pending
	inFlight []*pending // oldest first
	err      error      // errStuck, or the end of the role; sticky

	clock time.Time // now, while timed is below sameTime and reads is the input's
	timed int
	reads int64

	warnings *format.Warnings // of the reader

	accepted   int64
	position   event.Position // of the last accepted row
	rejected   int64
	rejections []rejection
}

// addPoint takes a row that is a point. It is encoded before addPoint returns. The
// error is u.err, or why the body may bring no more.
func (u *upload) addPoint(e *event.Event, row int64) error {
	u.mode.apply(e)
	identify(e, u.keyed, row)
	return u.add(e, row)
}

// addDeletion takes a row that is a deletion.
func (u *upload) addDeletion(e *event.Event, d *format.Deletion, row int64) error {
	e.Type, e.If = event.Deleted, event.Condition{}
	e.Point.ExternalID = d.ID
	identify(e, nil, row)
	if err := u.by.mayEdit(); err != nil {
		u.reject(row, &event.FieldError{Reason: err.Error()})
		return u.err
	}
	return u.add(e, row)
}

func (u *upload) add(e *event.Event, row int64) error {
	if why := u.by.sign(e); why != nil {
		u.reject(row, why)
		return u.err
	}
	now := u.now()
	e.Received = now.UTC().Truncate(time.Microsecond)
	if u.open == nil {
		u.begin(row, now)
	}
	b := u.open.batch
	start := len(b.Lines)
	b.Lines = event.AppendEvent(b.Lines, e)
	size := len(b.Lines) - start
	if size > event.MaxEventBytes {
		b.Lines = b.Lines[:start]
		u.reject(row, format.ErrRowSize)
		return u.err
	}
	if err := u.in.stored(size); err != nil {
		b.Lines = b.Lines[:start]
		return err
	}
	if len(b.Lines) > bus.MaxEnvelopeBytes { // the row goes into the next one
		event := b.Lines[start:]
		b.Lines = b.Lines[:start]
		full := u.open
		u.begin(row, now)
		u.open.batch.Lines = append(u.open.batch.Lines, event...)
		u.send(full)
	}
	u.open.runs = addRow(u.open.runs, u.open.batch.Count, row)
	u.open.batch.Count++
	u.open.rows.Last = row
	if u.open.batch.Count == bus.MaxEnvelopePoints || now.Sub(u.open.since) >= u.h.limits.flushAge {
		u.flush()
	}
	return u.err
}

// sameTime is how many rows may share one look at the clock: as many as are read in
// 50 µs.
const sameTime = 16

// now is when a row was read. Rows that came in one piece share it.
func (u *upload) now() time.Time {
	if u.in == nil || u.in.reads != u.reads || u.timed == sameTime {
		u.clock, u.timed = time.Now(), 0
		if u.in != nil {
			u.reads = u.in.reads
		}
	}
	u.timed++
	return u.clock
}

func (u *upload) begin(row int64, now time.Time) {
	u.open = &pending{batch: bus.NewBatch(), rows: rowRange{First: row, Last: row}, since: now}
	u.open.batch.Trace = u.trace
}

// reject counts a row that is wrong.
func (u *upload) reject(row int64, why *event.FieldError) {
	u.rejected++
	u.in.refused()
	u.h.submit.rejected.Inc()
	if len(u.rejections) < maxRejections {
		u.rejections = append(u.rejections, rejection{
			Row: row, Reason: format.ClipReason(why.Reason), Pointer: format.ClipPointer(why.Pointer),
		})
	}
}

// flush sends what was added so far.
func (u *upload) flush() {
	if u.open == nil || u.open.batch.Count == 0 {
		return
	}
	full := u.open
	u.open = nil
	u.send(full)
}

// send hands a batch over, when fewer than pipelineDepth are on their way.
func (u *upload) send(p *pending) {
	for len(u.inFlight) >= pipelineDepth && u.err == nil {
		u.settleOldest()
	}
	u.inFlight = append(u.inFlight, p)
	if u.err == nil {
		u.enqueue(p)
	}
}

// enqueue waits for room in the queue, at a stop too: what was read goes in.
// When there is none for queueStall, the batch is answered on the spot.
func (u *upload) enqueue(p *pending) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.h.stop), u.h.limits.queueStall)
	defer cancel()
	if err := u.h.submit.queue.Enqueue(ctx, p.batch); err != nil {
		p.batch.Answer(0, fmt.Errorf("%w: %w", errStuck, err))
	}
}

// finish flushes, and returns when all is answered. The error is u.err.
func (u *upload) finish() error {
	u.flush()
	for len(u.inFlight) > 0 && u.err == nil {
		u.settleOldest()
	}
	return u.err
}

// settleOldest waits for the oldest batch.
func (u *upload) settleOldest() {
	p := u.inFlight[0]
	first, err := p.batch.Wait()
	if err == nil {
		u.inFlight = u.inFlight[1:]
		u.stored(p, first)
		return
	}
	u.recover(err)
}

// stored counts a batch that is on disk.
func (u *upload) stored(p *pending, first event.Position) {
	count := p.batch.Count
	u.accepted += int64(count)
	u.h.submit.accepted.Add(float64(count))
	if u.tally != nil {
		u.h.submit.projection.add(u.tally, stretch{first: first, count: count, runs: p.runs})
	}
	u.position = max(u.position, first+event.Position(count-1))
	p.batch.Release()
}

// recover hands over again what the queue refused, oldest first and one at a
// time, so that the order stays; the oldest failed with err and the others'
// answers were not read yet.
func (u *upload) recover(err error) {
	u.inFlight[0].failed(err)
	failed := u.inFlight[:1:1]
	for _, p := range u.inFlight[1:] {
		if first, err := p.batch.Wait(); err != nil {
			p.failed(err)
			failed = append(failed, p)
		} else {
			u.stored(p, first)
		}
	}
	u.inFlight = failed
	deadline, backoff := time.Now().Add(u.h.limits.queueStall), firstBackoff
	for len(u.inFlight) > 0 {
		if stuck := errors.Is(err, errStuck); stuck || !u.pause(backoff, deadline) {
			u.err = err
			if !stuck {
				u.err = fmt.Errorf("%w: %w", errStuck, err)
			}
			return
		}
		p := u.inFlight[0]
		u.enqueue(p)
		var first event.Position
		if first, err = p.batch.Wait(); err != nil {
			p.failed(err)
			backoff = min(2*backoff, lastBackoff)
			continue
		}
		u.inFlight = u.inFlight[1:]
		u.stored(p, first)
		deadline, backoff = time.Now().Add(u.h.limits.queueStall), firstBackoff
	}
}

func (p *pending) failed(err error) {
	p.uncertain = p.uncertain || errors.Is(err, bus.ErrUncertain)
}

// pause waits, if the deadline is later than that and the role continues.
func (u *upload) pause(d time.Duration, deadline time.Time) bool {
	if time.Until(deadline) < d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-u.h.stop.Done():
		return false
	}
}

// uncertain lists the rows that may be stored or not.
func (u *upload) uncertain() []rowRange {
	var rows []rowRange
	for _, p := range u.inFlight {
		if p.uncertain {
			rows = append(rows, p.rows)
		}
	}
	return rows
}

// release gives the batches back that will not be sent. All were answered.
func (u *upload) release() {
	if u.open != nil {
		u.inFlight = append(u.inFlight, u.open)
	}
	for _, p := range u.inFlight {
		p.batch.Release()
	}
	u.open, u.inFlight = nil, nil
}
