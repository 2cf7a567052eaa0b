package query

import (
	"context"
	"sync"
	"time"
)

const (
	// pollEvery is how often the checkpoint is read while somebody waits for it
	// and no announcement has come: one may be lost.
	pollEvery = 250 * time.Millisecond
	// recheckEvery is how often it is read while the database is behind what
	// has been announced, as a replica is.
	recheckEvery = 50 * time.Millisecond
	// pollGap is the least time between two readings, so that they cost the
	// database the same however many wait: at most 200 a second.
	pollGap = 5 * time.Millisecond
	// pollTimeout bounds one.
	pollTimeout = 2 * time.Second
)

// A tracker lets questions wait until this database's projection has come to a
// sequence. What is announced is a hint of when to look; only what the database
// itself says ends a wait. One reader of the checkpoint serves all who wait, and
// rests while nobody does.
type tracker struct {
	poll func(context.Context) (uint64, error)
	kick chan struct{} // holds one: there is a reason to look now

	mu        sync.Mutex
	hinted    uint64        // the highest announced
	confirmed uint64        // the highest that the database has shown
	failed    error         // why the last look failed; nil where it did not
	waiting   int           // how many wait
	moved     chan struct{} // closed when confirmed rises
}

func newTracker(poll func(context.Context) (uint64, error)) *tracker {
	return &tracker{poll: poll, kick: make(chan struct{}, 1), moved: make(chan struct{})}
}

// saw takes an announcement: somewhere the projection has come to the sequence.
func (t *tracker) saw(sequence uint64) {
	t.mu.Lock()
	news := sequence > t.hinted && t.waiting > 0
	t.hinted = max(t.hinted, sequence)
	t.mu.Unlock()
	if news {
		t.look()
	}
}

// read takes what a statement has read from the checkpoint.
func (t *tracker) read(sequence uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = nil
	if sequence > t.confirmed {
		t.confirmed = sequence
		close(t.moved)
		t.moved = make(chan struct{})
	}
}

// behind takes the sequence of a statement that was expected to be further:
// the database was swapped for another, or is several replicas.
func (t *tracker) behind(sequence uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hinted = max(t.hinted, t.confirmed)
	t.confirmed = sequence
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

// run reads the checkpoint while somebody waits, until ctx ends.
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
		if !t.anybody() {
			continue // the next to wait kicks
		}
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
	sequence, err := t.poll(bounded)
	if err == nil {
		t.read(sequence)
		return
	}
	t.mu.Lock()
	t.failed = err
	t.mu.Unlock()
}

func (t *tracker) anybody() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting > 0
}

func (t *tracker) pause() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hinted > t.confirmed {
		return recheckEvery
	}
	return pollEvery
}
