package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cairn/event"
	"cairn/internal/testkit"
)

func (t *tracker) anybodyWaits(n int) func() bool {
	return func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.waiting == n
	}
}

// ask asks in the background.
func (f *fixture) ask(path string) chan reply {
	c := make(chan reply, 1)
	go func() {
		r, err := f.try(http.MethodGet, path)
		if err != nil {
			r.body = []byte(err.Error())
		}
		c <- r
	}()
	return c
}

func TestMinPositionIsMetLate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put(1, [2]float64{1, 2})
	for i, path := range []string{"/points?min_position=%d", "/points/p%d.0?min_position=%d", "/points?bbox=0,0,9,9&min_position=%d"} {
		sequence := uint64(i) + 2
		args := []any{int64(event.At(sequence, 0))}
		if i == 1 {
			args = []any{sequence, args[0]}
		}
		c := f.ask(fmt.Sprintf(path, args...))
		testkit.Eventually(t, within, "the question waits", f.tracker.anybodyWaits(1))
		if i == 2 {
			f.tracker.saw(sequence) // heard before it is there: no proof
		}
		f.put(sequence, [2]float64{1, 2})
		r := <-c
		if r.status != http.StatusOK || r.header.Get(headerPosition) != fmt.Sprint(int64(event.EndOf(sequence))) {
			t.Errorf("%s: %d %v %s", path, r.status, r.header, r.body)
		}
	}
	// What is there already is not waited for.
	if r := f.get("/points?min_position=1"); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestMinPositionTimesOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put(7, [2]float64{1, 2})
	r := f.get(fmt.Sprintf("/points/p7.0?min_position=%d", event.At(8, 0)))
	f.detail(r, http.StatusServiceUnavailable)
	var p struct{ Position event.Position }
	if err := json.Unmarshal(r.body, &p); err != nil || p.Position != event.EndOf(7) || r.header.Get("Retry-After") != "1" {
		t.Errorf("%v %v %s", err, r.header, r.body)
	}
	if got := r.header.Get(headerPosition); got != fmt.Sprint(int64(event.EndOf(7))) {
		t.Errorf("Cairn-Position %q", got)
	}
}

// A database that was further before (another replica, a restored backup) does
// not answer with less than was asked for.
func TestMinPositionOnADatabaseThatWentBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.put(5, [2]float64{1, 2})
	f.tracker.read(f.tracker.begin(), 100)
	c := f.ask(fmt.Sprintf("/points?min_position=%d", event.At(50, 0)))
	testkit.Eventually(t, within, "the question waits", f.tracker.anybodyWaits(1))
	f.exec("update checkpoint set sequence = 50")
	if r := <-c; r.status != http.StatusOK || r.header.Get(headerPosition) != fmt.Sprint(int64(event.EndOf(50))) {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
}

func TestStopEndsTheWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.ask("/points?min_position=9999999")
	testkit.Eventually(t, within, "the question waits", f.tracker.anybodyWaits(1))
	f.stop()
	r := <-c
	if got := f.detail(r, http.StatusServiceUnavailable); got != "stopping" {
		t.Errorf("%s", got)
	}
}

// However many wait, the checkpoint is read by one, at a bounded rate, and not
// at all when nobody waits.
func TestTrackerPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var polls, reached atomic.Uint64
		tr := newTracker(func(context.Context) (uint64, error) {
			polls.Add(1)
			return reached.Load(), nil
		}, func() {})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); tr.run(ctx) }()
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
			go func() { done <- tr.wait(ctx, 7) }()
		}
		pass(time.Second)
		if n := polls.Swap(0); n < 4 || n > 7 {
			t.Errorf("%d polls in a second, want one every %v", n, pollEvery)
		}
		tr.saw(7) // but this database is behind
		pass(time.Second)
		if n := polls.Swap(0); n < 18 || n > 22 {
			t.Errorf("%d polls in a second, want one every %v", n, recheckEvery)
		}
		for i := range uint64(1000) { // announcements come as fast as they may
			tr.saw(8 + i)
			pass(time.Millisecond)
		}
		if n := polls.Swap(0); n > 205 {
			t.Errorf("%d polls in a second, want one every %v at most", n, pollGap)
		}
		if len(done) != 0 {
			t.Errorf("%d waits ended on a hint", len(done))
		}
		reached.Store(7)
		pass(recheckEvery + pollGap)
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
		tr := newTracker(func(context.Context) (uint64, error) { return 0, away }, func() {})
		ctx, cancel := context.WithTimeout(t.Context(), minPositionWait)
		defer cancel()
		tr.read(tr.begin(), 3)
		if err := tr.wait(ctx, 3); err != nil {
			t.Error(err)
		}
		var late notReached
		if err := tr.wait(ctx, 4); !errors.As(err, &late) || late != 3 {
			t.Error(err)
		}
		tr.pollOnce(ctx)
		if err := tr.wait(ctx, 4); !errors.Is(err, away) {
			t.Errorf("%v, want what the database said", err)
		}
		if !tr.anybodyWaits(0)() {
			t.Error("somebody still waits")
		}
	})
}
