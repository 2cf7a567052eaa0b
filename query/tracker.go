package query

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pollEvery is how often the checkpoint is read while anybody reads: an
	// announcement may be lost.
	pollEvery = 250 * time.Millisecond
	// recheckEvery is how often it is read, and a question asked again, while
	// the database is behind what has been announced, as a replica is.
	recheckEvery = 50 * time.Millisecond
	// pollGap is the least time between two readings, so that they cost the
	// database the same however many wait: at most 200 a second.
	pollGap = 5 * time.Millisecond
	// pollTimeout bounds one: a database that takes longer for its smallest
	// question counts as away.
	pollTimeout = time.Second
	// currency is how long what the database said of itself holds. It is a few
	// readings long, so that one slow one makes no question expensive.
	currency = 4 * pollEvery
	// grudge is how long a look that failed keeps questions from being tried
	// where an older answer is at hand. The next look comes before.
	grudge = pollTimeout + 2*pollEvery
)

// A tracker knows how far the projection has come: which answers are current,
// and when a question that waits for a position may be asked.
//
// What is announced is a hint of when to look; only what the database itself
// says makes an answer current or ends a wait. One reader of the checkpoint
// serves all, and rests while nobody asks anything.
type tracker struct {
	poll func(context.Context) (uint64, error)
	back func()        // told when the database has gone back: nothing kept holds
	kick chan struct{} // holds one: there is a reason to look now
	news chan struct{} // holds one: target has risen, for the tail
	born time.Time

	used    atomic.Bool   // somebody asked since the last look
	resting atomic.Bool   // nobody looks until a kick
	target  atomic.Uint64 // what a current answer has seen: the highest announced or read
	checked atomic.Int64  // when the database last told its checkpoint, on the tracker's clock

	mu        sync.Mutex
	hinted    uint64        // the highest announced
	confirmed uint64        // the highest that the database has shown
	failed    error         // why the last look failed; nil where it did not
	failedAt  time.Duration // when that was
	waiting   int           // how many wait for a position
	watching  int           // how many want to hear of every rise
	moved     chan struct{} // closed when confirmed rises
}

func newTracker(poll func(context.Context) (uint64, error), back func()) *tracker {
	t := &tracker{poll: poll, back: back, kick: make(chan struct{}, 1), news: make(chan struct{}, 1),
		born: time.Now(), moved: make(chan struct{})}
	t.checked.Store(-int64(currency)) // nothing was
	return t
}

func (t *tracker) now() time.Duration { return time.Since(t.born) }

// saw takes an announcement: somewhere the projection has come to the sequence.
func (t *tracker) saw(sequence uint64) {
	t.mu.Lock()
	news := sequence > t.hinted
	wanted := t.waiting > 0
	t.hinted = max(t.hinted, sequence)
	t.aim()
	t.mu.Unlock()
	if news && wanted {
		t.look()
	}
}

// aim brings target up to date.
func (t *tracker) aim() {
	if to := max(t.hinted, t.confirmed); to != t.target.Swap(to) {
		select {
		case t.news <- struct{}{}:
		default:
		}
	}
}

// A glance is what was known when a statement began.
type glance struct {
	at        time.Duration
	confirmed uint64
}

func (t *tracker) begin() glance {
	t.mu.Lock()
	defer t.mu.Unlock()
	return glance{t.now(), t.confirmed}
}

// read takes the checkpoint that a statement, begun at g, has read. If it is
// less than what had been shown before the statement began, the database is
// another than before: a backup was restored, or it is one of several replicas.
func (t *tracker) read(g glance, sequence uint64) {
	t.mu.Lock()
	t.failed = nil
	t.checked.Store(max(t.checked.Load(), int64(g.at)))
	gone := sequence < g.confirmed && sequence < t.confirmed
	if gone {
		t.hinted, t.confirmed = sequence, sequence
	} else if sequence > t.confirmed {
		t.confirmed = sequence
		close(t.moved)
		t.moved = make(chan struct{})
	}
	t.aim()
	t.mu.Unlock()
	if gone {
		t.back()
	}
}

// current tells whether an answer that has seen the sequence is still what the
// database would say.
func (t *tracker) current(sequence uint64) bool {
	t.touch()
	return sequence >= t.target.Load() && t.now()-time.Duration(t.checked.Load()) < currency
}

// touch keeps the checkpoint looked at.
func (t *tracker) touch() {
	if t.used.Load() {
		return
	}
	t.used.Store(true)
	if t.resting.Load() {
		t.look()
	}
}

// since is when an answer of this sequence, read at that time, was last known
// to be current.
func (t *tracker) since(sequence uint64, at time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sequence == t.confirmed {
		at = max(at, time.Duration(t.checked.Load()))
	}
	return at
}

// away tells whether the database did not answer a moment ago.
func (t *tracker) away() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed != nil && t.now()-t.failedAt < grudge
}

// shown is how far the database has said that it is.
func (t *tracker) shown() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.confirmed
}

// watch makes every rise of target heard on news, until the result is called.
func (t *tracker) watch() (end func()) {
	t.mu.Lock()
	t.watching++
	t.mu.Unlock()
	t.look()
	return func() {
		t.mu.Lock()
		t.watching--
		t.mu.Unlock()
	}
}

// wait returns when the database has shown the sequence. When ctx ends first,
// the error says how far it has come.
func (t *tracker) wait(ctx context.Context, sequence uint64) error {
	t.mu.Lock()
	t.waiting++
	defer func() {
		t.mu.Lock()
		t.waiting--
		t.mu.Unlock()
	}()
	for looked := false; t.confirmed < sequence; looked = true {
		moved := t.moved
		t.mu.Unlock()
		if !looked {
			t.look()
		}
		select {
		case <-moved:
			t.mu.Lock()
		case <-ctx.Done():
			t.mu.Lock()
			reached, failed := t.confirmed, t.failed
			t.mu.Unlock()
			if failed != nil {
				return failed
			}
			return notReached(reached)
		}
	}
	t.mu.Unlock()
	return nil
}

// look makes run read the checkpoint soon.
func (t *tracker) look() {
	select {
	case t.kick <- struct{}{}:
	default: // it will
	}
}

// run reads the checkpoint while somebody asks, until ctx ends.
func (t *tracker) run(ctx context.Context) {
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.kick:
		case <-timer.C:
		}
		if !t.wanted() {
			t.resting.Store(true)
			if !t.used.Load() {
				continue // the next to ask kicks
			}
		}
		t.resting.Store(false)
		t.used.Store(false)
		t.pollOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pollGap):
		}
		timer.Reset(t.pause())
	}
}

func (t *tracker) pollOnce(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	g := t.begin()
	sequence, err := t.poll(bounded)
	if err == nil {
		t.read(g, sequence)
		return
	}
	t.mu.Lock()
	t.failed, t.failedAt = err, t.now()
	t.mu.Unlock()
}

func (t *tracker) wanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting > 0 || t.watching > 0 || t.used.Load()
}

func (t *tracker) pause() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hinted > t.confirmed {
		return recheckEvery
	}
	return pollEvery
}
