// Package answer shares answers among callers: equal requests run one query, whose
// encoded body is served until the projection moves past it, in every requested
// content coding. A [Tracker] knows when that is. It stands between query's HTTP
// and its statements, and depends on neither.
//
// When the database is unreachable or behind, an older answer is served, with
// its age.
package answer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// PollEvery is how often the checkpoint is read while anybody reads: an
	// announcement may be lost.
	PollEvery = 250 * time.Millisecond
	// RecheckEvery is how often it is read, and a request run again, while
	// the database is behind what has been announced, as a replica is.
	RecheckEvery = 50 * time.Millisecond
	// pollGap is the least time between two readings, so that they cost the
	// database the same however many wait: at most 200 a second.
	pollGap = 5 * time.Millisecond
	// pollTimeout bounds one: a database that takes longer for its smallest
	// request counts as away.
	pollTimeout = time.Second
	// checkpointMaxAge is how long what the database said of itself holds. It is a few
	// readings long, so that one slow one makes no request expensive.
	checkpointMaxAge = 4 * PollEvery
	// failureBackoff is how long a look that failed keeps requests from being tried
	// if there is an older cached answer. The next poll comes before.
	failureBackoff = pollTimeout + 2*PollEvery
	// goneAfter is how long all that the database says must be less than what it had
	// shown, until it counts as another than before, from which what is cached never
	// was: a server that is asked in another's place, as after a promotion, may be
	// behind that for a moment.
	goneAfter = 3 * time.Second
	// maxHeard bounds the announcements that are remembered while the database is
	// behind them: some minutes of a busy projection.
	maxHeard = 4096
)

// heard is an announcement, and when it came.
type heard struct {
	sequence uint64
	at       time.Duration
}

// A Tracker knows how far the projection has come: which answers are current,
// and when a request that waits for a position may be asked.
//
// What is announced is a hint of when to look; only what the database itself
// says makes an answer current or ends a wait. One reader of the checkpoint
// serves all, and rests while nobody asks anything.
type Tracker struct {
	poll func(context.Context) (uint64, error)
	back func()        // told when the database has gone back: nothing cached holds
	kick chan struct{} // holds one: there is a reason to look now
	// news hold one each: the target has risen.
	news []chan struct{}
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
	heard     []heard       // those that the database has not shown yet, in order
	backSince time.Duration // since when it only shows less than before; 0: it does not
	waiting   int           // how many wait for a position
	watching  int           // how many want to hear of every rise
	moved     chan struct{} // closed when confirmed rises
}

// NewTracker makes a tracker that reads the checkpoint by poll, and calls back
// when it finds that the database has gone back.
func NewTracker(poll func(context.Context) (uint64, error), back func()) *Tracker {
	t := &Tracker{poll: poll, back: back, kick: make(chan struct{}, 1),
		born: time.Now(), moved: make(chan struct{})}
	t.checked.Store(-int64(checkpointMaxAge)) // nothing was
	return t
}

// Now is the tracker's clock.
func (t *Tracker) Now() time.Duration { return time.Since(t.born) }

// Saw takes an announcement: somewhere the projection has reached the sequence.
func (t *Tracker) Saw(sequence uint64) {
	t.mu.Lock()
	news := sequence > t.hinted
	wanted := t.waiting > 0
	t.hinted = max(t.hinted, sequence)
	if news && sequence > t.confirmed {
		if len(t.heard) < maxHeard {
			t.heard = append(t.heard, heard{sequence, t.Now()})
		} else {
			t.heard[maxHeard-1].sequence = sequence // as if it had come earlier
		}
	}
	t.aim()
	t.mu.Unlock()
	if news && wanted {
		t.look()
	}
}

// aim brings target up to date.
func (t *Tracker) aim() {
	if to := max(t.hinted, t.confirmed); to != t.target.Swap(to) {
		for _, news := range t.news {
			select {
			case news <- struct{}{}:
			default:
			}
		}
	}
}

// NotReached is the sequence at which a wait for a later one ended.
type NotReached uint64

func (n NotReached) Error() string {
	return fmt.Sprintf("the position asked for was not reached within %v", MinPositionWait)
}

// A Snapshot is what was known when a statement began.
type Snapshot struct {
	at        time.Duration
	confirmed uint64
}

// Begin is called before a statement whose checkpoint [Tracker.Read] will take.
func (t *Tracker) Begin() Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Snapshot{t.Now(), t.confirmed}
}

// last is the snapshot in which the database last told its checkpoint.
func (t *Tracker) last() Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Snapshot{time.Duration(t.checked.Load()), t.confirmed}
}

// Read takes the checkpoint that a statement, begun at s, has read. If all that is
// read for a while is less than what had been shown before, the database is another
// than before: a backup was restored.
func (t *Tracker) Read(s Snapshot, sequence uint64) {
	t.mu.Lock()
	t.failed = nil
	t.checked.Store(max(t.checked.Load(), int64(s.at)))
	less := sequence < s.confirmed && sequence < t.confirmed
	gone := less && t.backSince != 0 && s.at-t.backSince >= goneAfter
	switch {
	case gone:
		t.hinted, t.confirmed, t.heard, t.backSince = sequence, sequence, nil, 0
	case less && t.backSince == 0:
		t.backSince = max(s.at, 1)
	case sequence >= t.confirmed:
		t.backSince = 0
	}
	if sequence > t.confirmed {
		t.confirmed = sequence
		close(t.moved)
		t.moved = make(chan struct{})
		seen := 0
		for seen < len(t.heard) && t.heard[seen].sequence <= sequence {
			seen++
		}
		t.heard = slices.Delete(t.heard, 0, seen)
	}
	t.aim()
	t.mu.Unlock()
	if gone {
		t.back()
	}
}

// Behind is how long ago the projection came past a sequence, as far as was
// announced: the age of what has seen no more.
func (t *Tracker) Behind(sequence uint64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.heard {
		if h.sequence > sequence {
			return t.Now() - h.at
		}
	}
	return 0
}

// Lag is how far the database is behind what was announced. Where nobody has asked
// it for a while, it is asked.
func (t *Tracker) Lag() time.Duration {
	lag := t.Behind(t.Confirmed())
	if lag > checkpointMaxAge {
		t.touch()
	}
	return lag
}

// Target is what a current answer has seen: the highest sequence announced or
// read.
func (t *Tracker) Target() uint64 { return t.target.Load() }

// Waiting is how many wait for a position.
func (t *Tracker) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting
}

// Current reports whether an answer that has seen the sequence is still what the
// database would say.
func (t *Tracker) Current(sequence uint64) bool {
	t.touch()
	return sequence >= t.target.Load() && t.Now()-time.Duration(t.checked.Load()) < checkpointMaxAge
}

// touch keeps the checkpoint looked at.
func (t *Tracker) touch() {
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
func (t *Tracker) since(sequence uint64, at time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sequence == t.confirmed {
		at = max(at, time.Duration(t.checked.Load()))
	}
	return at
}

// away reports whether the database did not answer a moment ago.
func (t *Tracker) away() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed != nil && t.Now()-t.failedAt < failureBackoff
}

// Confirmed is how far the database has said that it is.
func (t *Tracker) Confirmed() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.confirmed
}

// Updates returns a channel that receives whenever the target has risen, while
// [Tracker.Watch] is in force. Each listener needs one of its own.
func (t *Tracker) Updates() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := make(chan struct{}, 1)
	t.news = append(t.news, news)
	return news
}

// Watch reports every rise of the target to the channels of [Tracker.Updates], until
// end is called.
func (t *Tracker) Watch() (end func()) {
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

// Wait returns when the database has shown the sequence. When ctx ends first,
// the error says how far it has come.
func (t *Tracker) Wait(ctx context.Context, sequence uint64) error {
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
			return NotReached(reached)
		}
	}
	t.mu.Unlock()
	return nil
}

// look makes run read the checkpoint soon.
func (t *Tracker) look() {
	select {
	case t.kick <- struct{}{}:
	default: // it will
	}
}

// Run reads the checkpoint while somebody asks, until ctx ends.
func (t *Tracker) Run(ctx context.Context) {
	timer := time.NewTimer(PollEvery)
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

func (t *Tracker) pollOnce(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	s := t.Begin()
	sequence, err := t.poll(bounded)
	if err == nil {
		t.Read(s, sequence)
		return
	}
	t.mu.Lock()
	t.failed, t.failedAt = err, t.Now()
	t.mu.Unlock()
}

func (t *Tracker) wanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting > 0 || t.watching > 0 || t.used.Load()
}

func (t *Tracker) pause() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hinted > t.confirmed {
		return RecheckEvery
	}
	return PollEvery
}
