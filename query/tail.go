package query

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"cairn/event"
	"cairn/query/answer"
	"cairn/query/filter"
	"cairn/query/recent"
)

const (
	// maxPending and maxPendingBytes bound what waits for one reader: some
	// batches. Readers share the events themselves.
	maxPending      = 4 * batchRows
	maxPendingBytes = 4 * batchBytes
	// maxBefore bounds the rows whose state before a change is remembered
	// though they are not in memory: vehicles on a map, a few hundred bytes each.
	maxBefore = 16_384
	// allCost is what the filters of all readers together may cost for each change that is
	// handed out, in nanoseconds, because the readers wait for one another; readerCost what
	// that of one may: the outline of a country twice, or five times the most comparisons. So
	// much is left for each where all have spent theirs: more than a box and a few
	// comparisons. Whose filter takes more is cut off.
	allCost, readerCost, leastCost = 2_000_000, 25_000, 1_000
	// aloneChanges: so many more are counted in each batch: a filter may take a millisecond
	// for a text of a quarter of a megabyte.
	aloneChanges = 40
)

// A tail is this replica's change feed: it reads what was created or changed, in
// order, once for all, hands each reader of a stream what passes its filter, and
// keeps the newest rows in memory. It rests while nobody wants either.
//
// A reader that lags is cut off: it costs the others nothing, and reads on from
// the tables when it comes again.
type tail struct {
	tracker *answer.Tracker
	news    <-chan struct{}
	changes readChanges
	memory  *memory                        // nil: it only has readers
	floor   func() (event.Position, error) // below it, retention has dropped all
	metrics *streamMetrics
	came    chan struct{} // holds one: there is somebody to follow for
	epoch   atomic.Uint64 // how often the database has gone back
	before  map[event.Position]filter.Row
	backlog atomic.Int64 // bytes of events that readers have yet to write
	// retained is what the tail of the newest points asks about retention; nil: it matters
	// not.
	retained func() (swept, untold bool, err error)

	mu        sync.Mutex
	following bool
	at        event.Position // up to here, readers have what passes
	read      uint64         // the database's sequence when it was last read
	readers   []*reader
	// How often readers were to be told of retention, and up to which of those they are.
	owed, paid uint64
}

// readChanges reads what was created or changed after a position, up to another.
type readChanges func(after, most event.Position, only filter.Expr) (batch, error)

func newTail(t *answer.Tracker, changes readChanges, floor func() (event.Position, error), memory *memory, m *streamMetrics) *tail {
	return &tail{tracker: t, news: t.Updates(), changes: changes, floor: floor, memory: memory, metrics: m, came: make(chan struct{}, 1), before: map[event.Position]filter.Row{}}
}

// join lets the reader have what comes, if it has what came: else it reads the
// tables further on its own, and tries again.
func (t *tail) join(r *reader) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start(r.at)
	if r.at < t.at || r.epoch != t.epoch.Load() {
		return false
	}
	r.unsure(max(t.tracker.Target(), t.tracker.Confirmed()))
	r.passed(t.at, max(t.read, r.own.Sequence()))
	r.index = len(t.readers)
	t.readers = append(t.readers, r)
	if r.due {
		t.owed++
	}
	t.metrics.readers.Inc()
	return true
}

// start makes run follow, from where the memory is if that is not long ago, or where
// there is none from where the first reader is.
func (t *tail) start(at event.Position) {
	if t.following {
		return
	}
	t.following = true
	if t.memory != nil {
		at = event.EndOf(t.memory.begin(t.tracker.Confirmed(), t.epoch.Load()))
	}
	if t.at != at {
		clear(t.before) // what changed in between is not known
	}
	t.at = at
	select {
	case t.came <- struct{}{}:
	default:
	}
}

func (t *tail) leave(r *reader) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(r)
	events, _ := r.taken()
	t.wrote(r, events)
}

// wrote notes that the reader has written what it took, or never will.
func (t *tail) wrote(r *reader, events []pendingEvent) {
	release(&t.backlog, events)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writing = 0
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
	t.metrics.readers.Dec()
}

// run reads until ctx ends.
func (t *tail) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.memory.want():
			t.mu.Lock()
			t.start(0)
			t.mu.Unlock()
		case <-t.came:
			t.follow(ctx)
		}
	}
}

// follow reads what is announced or found, until nobody wants it.
func (t *tail) follow(ctx context.Context) {
	defer t.tracker.Watch()()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.news:
		case <-timer.C:
		}
		at, any := t.position()
		if !any {
			return
		}
		pause := answer.PollEvery
		switch {
		case t.memory.stale(t.epoch.Load()):
			t.again()
			pause = 0
		case t.tracker.Target() > at.Sequence():
			if !t.step(ctx, at) {
				pause = answer.RecheckEvery // the database is behind, or away
			}
		case t.owing():
			t.settle()
		case t.memory.needsFloor():
			t.memory.drop(t.floor())
			pause = 0
		default:
			pause = t.memory.fill(pause)
		}
		timer.Reset(pause)
	}
}

// position is how far the readers are. Where there are none, and nobody wants the
// memory, it ends the following.
func (t *tail) position() (at event.Position, any bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.following = len(t.readers) > 0 || t.memory.inUse(t.tracker.Now())
	return t.at, t.following
}

// again starts over with the memory: the database has gone back.
func (t *tail) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.before)
	t.at = event.EndOf(t.memory.restart(t.tracker.Confirmed(), t.epoch.Load()))
}

// step reads all there is after at, unless ctx ends, and reports whether that was something.
func (t *tail) step(ctx context.Context, at event.Position) bool {
	rows := 0
	for moved := false; ; moved = true {
		if ctx.Err() != nil {
			return moved // it may be minutes to the end, as where one began with since=0
		}
		epoch := t.epoch.Load()
		b, err := t.changes(at, t.ahead(at), nil)
		if err != nil || b.upTo <= at || epoch != t.epoch.Load() {
			return moved
		}
		if from := t.outrun(at, b.floor); from != at {
			at = from
			continue
		}
		if !t.deliver(b, at, epoch) {
			continue
		}
		at = b.upTo
		if rows += len(b.changes); !b.more {
			return true
		}
		if rows > maxBehind && t.skip() {
			return true
		}
	}
}

// ahead is where the first reader is of those that are further than the tail. A batch
// ends there: it has a row once, where it was created or as it was changed, by what
// whoever knows all up to its beginning has to be told. A reader who knows more would
// not hear of a change of what was created in between.
func (t *tail) ahead(at event.Position) event.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.firstAhead(at)
}

// firstAhead is the same for whoever has the lock.
func (t *tail) firstAhead(at event.Position) event.Position {
	first := newest
	for _, r := range t.readers {
		r.mu.Lock()
		if r.at > at {
			first = min(first, r.at)
		}
		r.mu.Unlock()
	}
	return first
}

// skip leaves out what only the memory would have: it is too far behind, as in a
// bulk load, and starts over with what is newest.
func (t *tail) skip() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.readers) > 0 || t.memory == nil {
		return false
	}
	t.at = event.EndOf(t.memory.restart(t.tracker.Confirmed(), t.epoch.Load()))
	return true
}

// deliver hands the batch out, which begins after a position. It never waits for a
// reader. A batch that somebody is ahead of, who joined while it was read, is not handed
// out: it has to be read again, up to where they are.
func (t *tail) deliver(b batch, after event.Position, epoch uint64) (done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.firstAhead(after) < b.upTo {
		return false
	}
	states := t.states(b)
	t.memory.add(b)
	t.read = b.sequence
	if epoch != t.epoch.Load() {
		return true
	}
	t.at = b.upTo
	changes := len(b.changes) + aloneChanges
	all := changes * allCost
	for i := len(t.readers) - 1; i >= 0; i-- { // from the end, for remove
		r := t.readers[i]
		most := changes * min(max(all/changes, leastCost), readerCost)
		left := most
		taken := r.take(b, states, &left, &t.backlog)
		all = max(all-(most-left), 0)
		if !taken {
			t.metrics.dropped.Inc()
			t.remove(r)
			r.cut()
		}
	}
	t.makeRoom(backlogBytes)
	return true
}

// A state is how a row was before it changed. Readers share what their filters read of it,
// and of what it is now.
type state struct {
	known, live bool
	row         filter.Row
	before, now filter.Subject
}

// states are how the batch's rows were before, where that is known: a stream whose
// filter did not pass a row then need not hear that it does not now.
func (t *tail) states(b batch) []state {
	all := t.earlier(b)
	for i, c := range b.changes {
		all[i].before.Set(&all[i].row)
		all[i].now.Set(&c.Row.Row)
	}
	return all
}

func (t *tail) earlier(b batch) []state {
	all := make([]state, len(b.changes))
	for i, c := range b.changes {
		if c.latest {
			all[i] = t.stateOf(c)
			continue
		}
		if c.kind == created && c.Position == c.Revision || c.Position > b.upTo {
			continue
		}
		if row, ok := t.memory.at(c.Position); ok {
			all[i] = state{known: row.Revision < c.Revision, live: row.Feature != nil, row: row.Row}
			continue
		}
		if row, ok := t.before[c.Position]; ok {
			all[i] = state{known: row.Revision < c.Revision, live: true, row: row}
		}
		t.remember(c)
	}
	return all
}

func (t *tail) remember(c *change) {
	if c.kind != updated {
		delete(t.before, c.Position)
		return
	}
	if len(t.before) >= maxBefore {
		for p := range t.before { // any
			delete(t.before, p)
			break
		}
	}
	t.before[c.Position] = c.Row.Row
}

// wentBack tells all: the database is another than before.
func (t *tail) wentBack() {
	t.epoch.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = event.EndOf(t.tracker.Confirmed())
	for _, r := range t.readers {
		r.restart(t.at, t.epoch.Load(), &t.backlog)
	}
}

// rowsOf are the batch's rows as the memory takes them.
func rowsOf(changes []*change) []recent.Row {
	rows := make([]recent.Row, len(changes))
	for i, c := range changes {
		rows[i] = c.Row
	}
	return rows
}
