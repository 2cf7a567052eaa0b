package answer

import (
	"container/list"
	"context"
	"errors"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"cairn/event"
)

const (
	// MinPositionWait bounds how long a request waits for the position that it
	// names. A write is visible within 100 ms on a good day; what takes seconds
	// is better asked again than held open.
	MinPositionWait = 5 * time.Second
	// patience is how long callers wait for the database if there is an older cached
	// answer: longer than nearly all statements take, and short for a person.
	patience = time.Second
)

var (
	// ErrPanic is what a request gets that met a bug.
	ErrPanic = errors.New("the request met a bug; the log has it")
	// ErrStopping ends the waits when the role stops.
	ErrStopping = errors.New("stopping")
)

// An Answer is an encoded body and what its statement read with it.
type Answer struct {
	Body     []byte
	Sequence uint64 // of the checkpoint: the answer is true for event.EndOf of it
	Found    bool   // whether there is anything
	Gone     bool   // whether there was something, which was deleted
	Next     string // where the next page is; "" where there is none
	// Tag is the entity tag, in quotes; nil: a hash of the body. What has one is
	// sent as it is, in no content coding: each coding would need a tag of its own
	// (RFC 9110, section 8.8.3), and this one is to be sent back in If-Match.
	Tag []byte
	// Remembered: it was not read from the database just now, though it is all
	// that the database is known to have.
	Remembered bool
}

// A Request is what clients ask, whichever way they spell it: callers that ask for it
// at the same time share one statement, and its answer serves until the
// projection moves past it.
type Request struct {
	key string // its own spelling, among those of the same path
	run func() (Answer, error)

	cached atomic.Pointer[Cached]
	behind atomic.Int64 // until when it is not run again, on the tracker's clock

	mu       sync.Mutex
	inFlight *inFlight // nil while nobody asks the database

	// These belong to the cache.
	place *list.Element
	names []string
	bytes int
}

// An inFlight query is a statement that runs, with those waiting for it.
type inFlight struct {
	done   chan struct{} // closed when the rest is there
	cached *Cached
	err    error
}

// A Cached answer is true for its sequence forever.
type Cached struct {
	Sequence uint64
	Position []byte        // what Cairn-Position says
	at       time.Duration // when its statement began, on the tracker's clock
	Gone     bool          // there is nothing, since it was deleted
	*Content               // nil where nothing was found
}

// fresh is the answer that is cached, if it is current and has seen least. It
// is what most requests come to.
func (r *Request) fresh(t *Tracker, least uint64) *Cached {
	a := r.cached.Load()
	if a != nil && t.Current(a.Sequence) && a.Sequence >= least {
		return a
	}
	return nil
}

// Get returns an answer that has seen least, and all that was known to be
// there when it was asked for, if the database is reachable. Else, or where the
// database itself is behind, an older one will do, and stale is true: but never
// one that has not seen least. Its age is how long ago it was known to be
// current.
func (c *Cache) Get(r *Request, least uint64) (a *Cached, age time.Duration, stale bool, err error) {
	if a := r.fresh(c.tracker, least); a != nil {
		c.metrics.hits.Inc()
		return a, 0, false, nil
	}
	a, stale, err = c.answer(r, least)
	if stale {
		c.metrics.stale.Inc()
		age = max(c.tracker.Now()-c.tracker.since(a.Sequence, a.at), c.tracker.Behind(a.Sequence))
	}
	return a, age, stale, err
}

func (c *Cache) answer(r *Request, least uint64) (_ *Cached, stale bool, err error) {
	ctx, cancel := c.stopping, context.CancelFunc(func() {})
	if least > 0 {
		ctx, cancel = context.WithTimeout(ctx, MinPositionWait)
	}
	defer cancel()
	need := max(c.tracker.Target(), least)
	for {
		old := r.cached.Load()
		switch {
		case old == nil || old.Sequence < least:
			old = nil
			if err := c.tracker.Wait(ctx, least); err != nil {
				return nil, false, c.orStopping(err)
			}
		case old.Sequence >= need && c.tracker.Current(old.Sequence):
			return old, false, nil
		case c.tracker.away() || c.tracker.Now() < time.Duration(r.behind.Load()):
			return old, true, nil
		}
		f, mine := c.join(r)
		if !f.wait(ctx, old != nil, least > 0) {
			if old == nil {
				return nil, false, c.orStopping(NotReached(c.tracker.Confirmed()))
			}
			return old, true, nil
		}
		switch {
		case f.err != nil && old == nil:
			return nil, false, f.err
		case f.err != nil:
			return old, true, nil
		case f.cached.Sequence >= need:
			return f.cached, false, nil
		case f.cached.Sequence >= least && mine:
			// It began after we came, so the database is behind what was announced.
			return f.cached, true, nil
		case f.cached.Sequence < least && !pause(ctx):
			return nil, false, c.orStopping(NotReached(f.cached.Sequence))
		}
	}
}

// wait returns whether the query is done: as long as it takes (statements are
// bounded) unless there is something else to answer with, or a bound on it.
func (f *inFlight) wait(ctx context.Context, impatient, bounded bool) bool {
	var late <-chan time.Time
	if impatient {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	var ended <-chan struct{}
	if bounded {
		ended = ctx.Done()
	}
	select {
	case <-f.done:
		return true
	case <-late:
	case <-ended:
	}
	return false
}

// pause waits until a database that is behind may be asked again.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(RecheckEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Cache) orStopping(err error) error {
	if c.stopping.Err() != nil {
		return ErrStopping
	}
	return err
}

// join returns the query that runs, or a new one, which is mine. Its end does
// not depend on those waiting for it.
func (c *Cache) join(r *Request) (f *inFlight, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inFlight != nil {
		c.metrics.shared.Inc()
		return r.inFlight, false
	}
	r.inFlight = &inFlight{done: make(chan struct{})}
	go c.query(r, r.inFlight)
	return r.inFlight, true
}

func (c *Cache) query(r *Request, f *inFlight) {
	defer func() {
		// A bug in one request is no reason for the others to end.
		if p := recover(); p != nil {
			c.log.Error("panic", "request", r.key, "panic", p, "stack", string(debug.Stack()))
			f.err = ErrPanic
		}
		r.mu.Lock()
		r.inFlight = nil
		r.mu.Unlock()
		close(f.done)
	}()
	began := time.Now()
	snapshot := c.tracker.Begin()
	a, err := r.run()
	for err != nil && c.again != nil && c.stopping.Err() == nil && c.again(err, time.Since(began)) {
		snapshot = c.tracker.Begin()
		a, err = r.run()
	}
	if err != nil {
		f.err = err
		return
	}
	if a.Remembered {
		snapshot = c.tracker.last()
	} else {
		c.tracker.Read(snapshot, a.Sequence)
	}
	f.cached = c.store(r, a, snapshot)
	if a.Sequence < c.tracker.Target() {
		r.behind.Store(int64(c.tracker.Now() + RecheckEvery))
	}
}

// store makes the answer what is served from now on, and returns it. Where it
// says what the one before said, it takes over that one's encoded forms.
func (c *Cache) store(r *Request, a Answer, s Snapshot) *Cached {
	fresh := &Cached{Sequence: a.Sequence, Position: positionText(a.Sequence), at: s.at, Gone: a.Gone}
	if a.Found {
		fresh.Content = newContent(a)
	}
	old := r.cached.Load()
	before := 0
	if old != nil {
		if old.Sequence > fresh.Sequence { // another replica's, which is behind
			return fresh
		}
		before = old.size()
		if old.Content.same(fresh.Content) {
			fresh.Content = old.Content
		}
	}
	r.cached.Store(fresh) // one query at a time, so nobody else stores
	c.grow(r, fresh.size()-before)
	return fresh
}

func positionText(sequence uint64) []byte {
	return strconv.AppendInt(nil, int64(event.EndOf(sequence)), 10)
}
