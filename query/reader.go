package query

import (
	"sync"
	"sync/atomic"
	"time"

	"cairn/event"
	"cairn/query/filter"
)

// A reader is one client of a stream.
type reader struct {
	tail   *tail // which it follows
	filter filter.Expr
	view   view          // the filter has its area
	shown  *shown        // nil: it may see everything, or follows the points themselves
	cut    func()        // ends its connection, whoever is writing to it
	wake   chan struct{} // holds one: there is something in pending
	index  int           // in the tail's readers

	epoch uint64 // the tail's, when it began
	due   bool   // it may not know what retention has done, without an event

	// Until when whoever reads may: see [web.Ends].
	gone    <-chan struct{}
	expires time.Time

	// A reader that read the tables on its own may have been told states of rows that
	// the tail never had, because they had changed again when the tail read them. Those
	// are not above own. What the tail had when it had read all up to there, of a
	// database at sure, is what the reader was told, for all that changes above that.
	own, sure event.Position

	mu      sync.Mutex
	at      event.Position // up to here, it has what passes, or has it in pending
	pending []pendingEvent
	bytes   int
	// writing are the bytes that were taken and are on their way, from the change at
	// writingFrom on.
	writing     int
	writingFrom event.Position
}

// unsure notes that the reader may know states up to that of a sequence that the tail
// never had.
func (r *reader) unsure(sequence uint64) { r.own, r.sure = event.EndOf(sequence), newest }

// passed notes how far the tail is, and the sequence of the database that it read.
func (r *reader) passed(at event.Position, read uint64) {
	if r.sure == newest && at >= r.own {
		r.sure = event.EndOf(read)
	}
}

// take adds what concerns the reader to what waits for it, and reports whether
// there was room, and its filter took no more than was left, in nanoseconds.
func (r *reader) take(b batch, states []state, left *int, backlog *atomic.Int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, c := range b.changes {
		if c.at <= r.at {
			continue
		}
		wire := r.event(c, &states[i], c.at > r.sure, left)
		switch {
		case *left < 0:
			return false
		case wire == nil:
			continue
		}
		// One that is larger on its own, which came in before there was a bound, is told
		// to those for whom nothing else waits.
		if len(r.pending) == maxPending || r.bytes > 0 && r.bytes+len(wire) > maxPendingBytes {
			return false
		}
		c.hold(backlog)
		r.pending = append(r.pending, pendingEvent{wire, c})
		r.bytes += len(wire)
	}
	if r.shown.isFull() {
		return false
	}
	r.at = max(r.at, b.upTo)
	r.passed(b.upTo, b.sequence)
	r.wakeUp()
	return true
}

func (r *reader) wakeUp() {
	if len(r.pending) > 0 {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// event is what the reader is told of the change; nil: nothing. The state before it is
// what the tail had, and only where sure what the reader was told. A point that was
// deleted and is deleted has been there in between, for somebody. Where it is not known
// whether a point that went was in the area of whoever reads, they are told where it
// stood among all points, and not its id. Where the filter takes more than is left,
// nothing is, and what is returned says nothing.
func (r *reader) event(c *change, s *state, sure bool, left *int) []byte {
	passes := func(row *filter.Subject) bool {
		passes, _ := row.Match(r.filter, left)
		return passes
	}
	if c.kind != deleted && passes(&s.now) {
		r.shown.add(c.Name)
		if r.view.authors {
			return c.signed()
		}
		return c.wire
	}
	if c.kind == created {
		return nil
	}
	if r.shown != nil {
		return r.shown.leave(c)
	}
	switch known := sure && s.known && s.live; {
	case known && !passes(&s.before):
		return nil // it has not shown it
	case !known && r.view.area != nil:
		return c.unnamed()
	case c.kind == deleted:
		return c.wire
	}
	return c.left
}

// taken returns what waits, and the position up to which it is all. Say when it is
// written.
func (r *reader) taken() ([]pendingEvent, event.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.pending
	r.writing = r.bytes
	if len(events) > 0 && events[0].of != nil {
		r.writingFrom = events[0].of.at
	}
	r.pending, r.bytes = nil, 0
	return events, r.at
}

// restart tells the reader that what it has may not be there any more.
func (r *reader) restart(at event.Position, epoch uint64, backlog *atomic.Int64) {
	if r.shown != nil {
		r.cut() // and is reset when it comes again
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.epoch = at, epoch
	r.unsure(at.Sequence())
	release(backlog, r.pending)
	r.pending = []pendingEvent{{wire: resetEvent(at)}}
	r.bytes = len(r.pending[0].wire)
	r.wakeUp()
}
