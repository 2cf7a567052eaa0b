package query

import (
	"fmt"
	"slices"
	"testing"

	"cairn/event"
	"cairn/query/filter"

	"github.com/prometheus/client_golang/prometheus"
)

func said(r *reader) (out []string) {
	events, _ := r.taken()
	for _, e := range events {
		out = append(out, fmt.Sprint(e.of.kind, " ", e.of.at.Sequence()))
	}
	return out
}

// A reader who knows more than the tail, as after a restart, hears of every change of
// what came between the two.
func TestReaderAheadOfTheTail(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 1})
	tail := newTail(f.tracker, f.changes, f.floor, nil, newStreamMetrics(prometheus.NewRegistry()))
	tail.following, tail.at = true, event.EndOf(1)
	f.put(2, [2]float64{2, 2}, [2]float64{3, 3})
	r := &reader{tail: tail, wake: make(chan struct{}, 1), cut: func() { t.Error("cut off") }, at: event.EndOf(2)}
	behind := &reader{tail: tail, wake: make(chan struct{}, 1), cut: func() { t.Error("cut off") }, at: event.EndOf(1)}
	if !tail.join(r) || !tail.join(behind) {
		t.Fatal("not joined")
	}
	f.replace(3, "p2.0", 4, 4)
	f.remove(4, "p2.1")
	f.put(5, [2]float64{5, 5})
	tail.step(t.Context(), event.EndOf(1))
	if got, want := said(r), []string{fmt.Sprint(updated, " 3"), fmt.Sprint(deleted, " 4"), fmt.Sprint(created, " 5")}; !slices.Equal(got, want) {
		t.Errorf("who was ahead was told %v, want %v", got, want)
	}
	if got := said(behind); len(got) == 0 || got[len(got)-1] != fmt.Sprint(created, " 5") {
		t.Errorf("who was not was told %v", got)
	}
}

// So does one who joins, knowing more, while the tail reads a batch that goes further.
func TestReaderJoinsAheadOfABatch(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 1})
	f.put(2, [2]float64{2, 2}, [2]float64{3, 3})
	f.replace(3, "p2.0", 4, 4)
	f.remove(4, "p2.1")
	r := &reader{wake: make(chan struct{}, 1), cut: func() { t.Error("cut off") }, at: event.EndOf(2)}
	behind := &reader{wake: make(chan struct{}, 1), cut: func() { t.Error("cut off") }, at: event.EndOf(1)}
	joined := false
	var tail *tail
	read := func(after, most event.Position, only filter.Expr) (batch, error) {
		b, err := f.changes(after, most, only)
		if !joined {
			if joined = true; b.upTo < event.EndOf(4) {
				t.Fatalf("the batch ends at %d: the test looks at nothing", b.upTo)
			}
			if !tail.join(r) {
				t.Fatal("not joined")
			}
		}
		return b, err
	}
	tail = newTail(f.tracker, read, f.floor, nil, newStreamMetrics(prometheus.NewRegistry()))
	r.tail, behind.tail = tail, tail
	tail.following, tail.at = true, event.EndOf(1)
	if !tail.join(behind) {
		t.Fatal("not joined")
	}
	if !tail.step(t.Context(), event.EndOf(1)) {
		t.Fatal("nothing was read")
	}
	if got, want := said(r), []string{fmt.Sprint(updated, " 3"), fmt.Sprint(deleted, " 4")}; !slices.Equal(got, want) {
		t.Errorf("who joined meanwhile was told %v, want %v", got, want)
	}
	if tail.at != event.EndOf(4) || len(said(behind)) == 0 {
		t.Errorf("the tail is at %d", tail.at)
	}
}

// A reader who read the tables on its own may have been told of a row what the tail never
// had, because the row had changed again when the tail read it. What the tail had before
// does not say what that reader was told.
func TestReaderKnowsWhatTheTailNeverHad(t *testing.T) {
	f := newFixture(t)
	tail := newTail(f.tracker, f.changes, f.floor, nil, newStreamMetrics(prometheus.NewRegistry()))
	tail.following = true
	inside, _, err := filter.ParseParameter("bbox", "0,0,10,10")
	if err != nil {
		t.Fatal(err)
	}
	f.put(1, [2]float64{20, 20})
	r := &reader{tail: tail, wake: make(chan struct{}, 1), cut: func() { t.Error("cut off") }, at: event.EndOf(3), filter: filter.Combine([]filter.Parameter{inside})}
	steady := &reader{tail: tail, wake: make(chan struct{}, 1), cut: func() { t.Error("cut off") }, filter: r.filter}
	if !tail.join(steady) {
		t.Fatal("not joined")
	}
	tail.step(t.Context(), 0)
	f.replace(2, "p1.0", 21, 21)
	tail.step(t.Context(), event.EndOf(1))
	said(steady) // without a memory, how the point was created is not known
	f.replace(3, "p1.0", 5, 5)
	if b, err := f.changes(event.EndOf(2), newest, r.filter); err != nil || len(b.changes) != 1 { // as the reader does
		t.Fatal(b, err)
	}
	f.replace(4, "p1.0", 22, 22)
	if !tail.join(r) {
		t.Fatal("not joined")
	}
	tail.step(t.Context(), event.EndOf(2))
	if got, want := said(r), []string{fmt.Sprint(updated, " 4")}; !slices.Equal(got, want) {
		t.Errorf("who saw the point inside was told %v, want %v", got, want)
	}
	if got := said(steady); len(got) != 0 {
		t.Errorf("who never did was told %v", got)
	}
	f.replace(5, "p1.0", 23, 23)
	tail.step(t.Context(), event.EndOf(4))
	if got := said(r); len(got) != 0 {
		t.Errorf("of a change outside of its box the reader was told %v", got)
	}
}
