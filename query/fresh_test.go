package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"cairn/event"
	"cairn/internal/testkit"
)

// waiting reports whether so many wait for a position.
func (f *fixture) waiting(n int) func() bool {
	return func() bool { return f.tracker.Waiting() == n }
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
		testkit.Eventually(t, within, "the question waits", f.waiting(1))
		if i == 2 {
			f.tracker.Saw(sequence) // heard before it is there: no proof
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
	f.tracker.Read(f.tracker.Begin(), 100)
	c := f.ask(fmt.Sprintf("/points?min_position=%d", event.At(50, 0)))
	testkit.Eventually(t, within, "the question waits", f.waiting(1))
	f.exec("update checkpoint set sequence = 50")
	if r := <-c; r.status != http.StatusOK || r.header.Get(headerPosition) != fmt.Sprint(int64(event.EndOf(50))) {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
}

func TestStopEndsTheWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.ask("/points?min_position=9999999")
	testkit.Eventually(t, within, "the question waits", f.waiting(1))
	f.stop()
	r := <-c
	if got := f.detail(r, http.StatusServiceUnavailable); got != "stopping" {
		t.Errorf("%s", got)
	}
}
