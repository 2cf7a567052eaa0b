package query

import (
	"container/list"
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"cairn/internal/web"
)

const (
	// minPositionWait bounds how long a question waits for the position that it
	// names. A write is visible within 100 ms on a good day; what takes seconds
	// is better asked again than held open.
	minPositionWait = 5 * time.Second
	// patience is how long those who ask wait for the database where an older
	// answer is at hand: longer than nearly all questions take, and short for
	// a person.
	patience = time.Second
)

// A question is what clients ask, whichever way they spell it: those who ask it
// at the same time share one statement, and its answer serves until the
// projection moves past it.
type question struct {
	key string // its own spelling, among those of the same path
	ask func() (answer, error)

	kept   atomic.Pointer[kept]
	behind atomic.Int64 // until when it is not asked again, on the tracker's clock

	mu     sync.Mutex
	flight *flight // nil while nobody asks the database

	// These belong to the cache.
	place *list.Element
	names []string
	bytes int
}

// A flight is a statement under way, with those who wait for it.
type flight struct {
	landed chan struct{} // closed when the rest is there
	kept   *kept
	err    error
}

// A kept answer is true for its sequence for ever.
type kept struct {
	sequence uint64
	position []byte        // what Cairn-Position says
	at       time.Duration // when its statement began, on the tracker's clock
	*content               // nil where nothing was found
}

// fresh is the answer that was kept, if it is current and has seen least. It is
// what most requests come to.
func (q *question) fresh(t *tracker, least uint64) *kept {
	k := q.kept.Load()
	if k != nil && t.current(k.sequence) && k.sequence >= least {
		return k
	}
	return nil
}

// answer returns an answer that has seen least, and all that was known to be
// there when it was asked for, if the database can be had. Else, or where the
// database itself is behind, an older one will do, and stale is true: but never
// one that has not seen least.
func (s *service) answer(q *question, least uint64) (_ *kept, stale bool, err error) {
	ctx, cancel := s.stopping, context.CancelFunc(func() {})
	if least > 0 {
		ctx, cancel = context.WithTimeout(ctx, minPositionWait)
	}
	defer cancel()
	need := max(s.tracker.target.Load(), least)
	for {
		old := q.kept.Load()
		switch {
		case old == nil || old.sequence < least:
			old = nil
			if err := s.tracker.wait(ctx, least); err != nil {
				return nil, false, s.orStopping(err)
			}
		case old.sequence >= need && s.tracker.current(old.sequence):
			return old, false, nil
		case s.tracker.away() || s.tracker.now() < time.Duration(q.behind.Load()):
			return old, true, nil
		}
		f, mine := q.join(s)
		if !f.wait(ctx, old != nil, least > 0) {
			if old == nil {
				return nil, false, s.orStopping(notReached(s.tracker.shown()))
			}
			return old, true, nil
		}
		switch {
		case f.err != nil && old == nil:
			return nil, false, f.err
		case f.err != nil:
			return old, true, nil
		case f.kept.sequence >= need:
			return f.kept, false, nil
		case f.kept.sequence >= least && mine:
			// It began after we came, so the database is behind what was announced.
			return f.kept, true, nil
		case f.kept.sequence < least && !pause(ctx):
			return nil, false, s.orStopping(notReached(f.kept.sequence))
		}
	}
}

// wait returns whether the flight has landed: as long as it takes (statements
// are bounded) unless there is something else to answer with, or a bound on it.
func (f *flight) wait(ctx context.Context, impatient, bounded bool) bool {
	var late <-chan time.Time
	if impatient {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	var done <-chan struct{}
	if bounded {
		done = ctx.Done()
	}
	select {
	case <-f.landed:
		return true
	case <-late:
	case <-done:
	}
	return false
}

// pause waits until a database that is behind may be asked again.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(recheckEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *service) orStopping(err error) error {
	if s.stopping.Err() != nil {
		return web.Unavailable("stopping", retryAfter)
	}
	return err
}

// join returns the flight that is under way, or a new one, which is mine. Its
// end does not depend on those who wait for it.
func (q *question) join(s *service) (f *flight, mine bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flight != nil {
		s.metrics.shared.Inc()
		return q.flight, false
	}
	q.flight = &flight{landed: make(chan struct{})}
	go q.fly(s, q.flight)
	return q.flight, true
}

func (q *question) fly(s *service, f *flight) {
	defer func() {
		// A bug in one question is no reason for the others to end.
		if p := recover(); p != nil {
			s.log.Error("panic", "question", q.key, "panic", p, "stack", string(debug.Stack()))
			f.err = errPanic
		}
		q.mu.Lock()
		q.flight = nil
		q.mu.Unlock()
		close(f.landed)
	}()
	g := s.tracker.begin()
	a, err := q.ask()
	if err != nil {
		f.err = err
		return
	}
	s.tracker.read(g, a.sequence)
	f.kept = q.keep(s, a, g)
	if a.sequence < s.tracker.target.Load() {
		q.behind.Store(int64(s.tracker.now() + recheckEvery))
	}
}

// keep makes the answer what is served from now on, and returns it. Where it
// says what the one before said, it takes over that one's encoded forms.
func (q *question) keep(s *service, a answer, g glance) *kept {
	k := &kept{sequence: a.sequence, position: positionText(a.sequence), at: g.at}
	if a.found {
		k.content = newContent(a)
	}
	old := q.kept.Load()
	before := 0
	if old != nil {
		if old.sequence > k.sequence { // another replica's, which is behind
			return k
		}
		before = old.size()
		if old.content.same(k.content) {
			k.content = old.content
		}
	}
	q.kept.Store(k) // one flight at a time, so nobody else stores
	s.cache.grow(q, k.size()-before)
	return k
}
