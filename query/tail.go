package query

import (
	"context"
	"sync"
	"time"

	"cairn/event"
	"cairn/query/answer"
)

const (
	// maxPending and maxPendingBytes bound what waits for one reader: some
	// batches. Readers share the events themselves.
	maxPending      = 4 * batchRows
	maxPendingBytes = 4 * batchBytes
)

// A tail reads the table's new rows, in order, once for all readers of this
// replica, and hands each the ones that pass its filter. It rests while there
// are no readers.
//
// A reader that lags is cut off: it costs the others nothing, and reads on from
// the table when it comes again.
type tail struct {
	tracker *answer.Tracker
	since   func(*filter, event.Position) (batch, error)
	metrics *streamMetrics
	came    chan struct{} // holds one: the first reader is there

	mu      sync.Mutex
	at      event.Position // up to here, readers have what passes
	readers []*reader
}

func newTail(t *answer.Tracker, since func(*filter, event.Position) (batch, error), m *streamMetrics) *tail {
	return &tail{tracker: t, since: since, metrics: m, came: make(chan struct{}, 1)}
}

// A reader is one client of a stream.
type reader struct {
	filter filter
	cut    func()        // ends its connection, whoever is writing to it
	wake   chan struct{} // holds one: there is something in pending
	index  int           // in the tail's readers

	mu      sync.Mutex
	at      event.Position // up to here, it has what passes, or has it in pending
	pending []*change
	bytes   int
}

// join lets the reader have what comes, if it has what came: else it reads the
// table further by itself, and tries again.
func (t *tail) join(r *reader) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.readers) == 0 {
		t.at = event.EndOf(t.tracker.Shown())
		select {
		case t.came <- struct{}{}:
		default:
		}
	}
	if r.at < t.at {
		return false
	}
	r.index = len(t.readers)
	t.readers = append(t.readers, r)
	t.metrics.readers.Set(float64(len(t.readers)))
	return true
}

func (t *tail) leave(r *reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(r)
}

func (t *tail) remove(r *reader) {
	last := len(t.readers) - 1
	if r.index > last || t.readers[r.index] != r {
		return
	}
	t.readers[r.index] = t.readers[last]
	t.readers[r.index].index = r.index
	t.readers[last] = nil
	t.readers = t.readers[:last]
	t.metrics.readers.Set(float64(last))
}

// run reads until ctx ends.
func (t *tail) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.came:
		}
		t.follow(ctx)
	}
}

// follow reads what is announced or found, until there are no readers.
func (t *tail) follow(ctx context.Context) {
	defer t.tracker.Watch()()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.tracker.News:
		case <-timer.C:
		}
		at, any := t.position()
		if !any {
			return
		}
		pause := answer.PollEvery
		if t.tracker.Target() > at.Sequence() && !t.step(at) {
			pause = answer.RecheckEvery // the database is behind, or away
		}
		timer.Reset(pause)
	}
}

func (t *tail) position() (at event.Position, any bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at, len(t.readers) > 0
}

// step reads all there is after at, and tells whether that was something.
func (t *tail) step(at event.Position) bool {
	for moved := false; ; moved = true {
		b, err := t.since(&filter{}, at)
		if err != nil || b.upTo <= at {
			return moved
		}
		t.deliver(b)
		at = b.upTo
		if !b.more {
			return true
		}
	}
}

// deliver hands the batch out. It never waits for a reader.
func (t *tail) deliver(b batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = b.upTo
	for i := len(t.readers) - 1; i >= 0; i-- { // from the end, for remove
		r := t.readers[i]
		if !r.take(b) {
			t.metrics.dropped.Inc()
			t.remove(r)
			r.cut()
		}
	}
}

// take adds what passes the reader's filter to what waits for it, and tells
// whether there was room.
func (r *reader) take(b batch) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range b.events {
		if e.position <= r.at || !r.filter.passes(e) {
			continue
		}
		if len(r.pending) == maxPending || r.bytes+len(e.wire) > maxPendingBytes {
			return false
		}
		r.pending = append(r.pending, e)
		r.bytes += len(e.wire)
	}
	r.at = max(r.at, b.upTo)
	if len(r.pending) > 0 {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// taken returns what waits, and the position up to which it is all.
func (r *reader) taken() ([]*change, event.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.pending
	r.pending, r.bytes = nil, 0
	return events, r.at
}

// reset ends all streams: the database has gone back, and what they were told
// may not be there any more.
func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.readers {
		r.cut()
	}
	clear(t.readers)
	t.readers = t.readers[:0]
	t.metrics.readers.Set(0)
}
