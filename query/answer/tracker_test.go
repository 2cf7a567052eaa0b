package answer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// However many wait, the checkpoint is read by one, at a bounded rate, and not
// at all when nobody waits.
func TestTrackerPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var polls, reached atomic.Uint64
		tr := NewTracker(func(context.Context) (uint64, error) {
			polls.Add(1)
			return reached.Load(), nil
		}, func() {})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); tr.Run(ctx) }()
		pass := func(d time.Duration) { // of the bubble's clock
			<-time.After(d)
			synctest.Wait()
		}

		pass(time.Minute)
		if n := polls.Load(); n != 0 {
			t.Errorf("%d polls while nobody waits", n)
		}
		const readers = 1000
		done := make(chan error, readers)
		for range readers {
			go func() { done <- tr.Wait(ctx, 7) }()
		}
		pass(time.Second)
		if n := polls.Swap(0); n < 4 || n > 7 {
			t.Errorf("%d polls in a second, want one every %v", n, PollEvery)
		}
		tr.Saw(7) // but this database is behind
		pass(time.Second)
		if n := polls.Swap(0); n < 18 || n > 22 {
			t.Errorf("%d polls in a second, want one every %v", n, RecheckEvery)
		}
		for i := range uint64(1000) { // announcements come as fast as they may
			tr.Saw(8 + i)
			pass(time.Millisecond)
		}
		if n := polls.Swap(0); n > 205 {
			t.Errorf("%d polls in a second, want one every %v at most", n, pollGap)
		}
		if len(done) != 0 {
			t.Errorf("%d waits ended on a hint", len(done))
		}
		reached.Store(7)
		pass(RecheckEvery + pollGap)
		if len(done) != readers {
			t.Errorf("%d waits ended", len(done))
		}
		cancel()
		<-ended
	})
}

func TestTrackerWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		tr := NewTracker(func(context.Context) (uint64, error) { return 0, away }, func() {})
		ctx, cancel := context.WithTimeout(t.Context(), MinPositionWait)
		defer cancel()
		tr.Read(tr.Begin(), 3)
		if err := tr.Wait(ctx, 3); err != nil {
			t.Error(err)
		}
		var late NotReached
		if err := tr.Wait(ctx, 4); !errors.As(err, &late) || late != 3 {
			t.Error(err)
		}
		tr.pollOnce(ctx)
		if err := tr.Wait(ctx, 4); !errors.Is(err, away) {
			t.Errorf("%v, want what the database said", err)
		}
		if tr.Waiting() != 0 {
			t.Error("somebody still waits")
		}
	})
}
