package projector

import (
	"testing"
	"time"

	"cairn/bus"

	"github.com/nats-io/nats.go/jetstream"
)

func TestStallDetector(t *testing.T) {
	now := time.Now()
	var e progress
	var s stallDetector
	e.waiting.Store(true)
	e.taken.Store(7)
	steps := []struct {
		what  string
		last  uint64
		after time.Duration
		do    func()
		want  bool
	}{
		{"nothing to come", 7, 0, nil, false},
		{"still nothing, for long", 7, 10 * stallTimeout, nil, false},
		{"one is on its way", 8, 10*stallTimeout + 1, nil, false},
		{"not for long", 8, 11*stallTimeout - 1, nil, false},
		{"for too long", 9, 11*stallTimeout + 1, nil, true},
		{"it came, another is due", 9, 11*stallTimeout + 2, func() { e.taken.Store(8) }, false},
		{"we are busy ourselves", 9, 20 * stallTimeout, func() { e.waiting.Store(false) }, false},
		{"we listen again", 9, 20*stallTimeout + 1, func() { e.waiting.Store(true) }, false},
		{"in vain", 9, 21*stallTimeout + 1, nil, true},
	}
	for _, step := range steps {
		if step.do != nil {
			step.do()
		}
		if got := s.stalled(&e, step.last, now.Add(step.after)); got != step.want {
			t.Errorf("%s: %v", step.what, got)
		}
	}
}

// Somebody else got the message: a connection that is gone without a word, or a
// projector that was stopped. Without new ones nothing tells of the gap.
func TestMessageThatAnotherGot(t *testing.T) {
	b := newBench(t)
	b.start()
	b.waitFor(b.publish(line("first", `{}`)))
	thief, err := b.js.Consumer(t.Context(), bus.Stream, bus.Consumer)
	if err != nil {
		t.Fatal(err)
	}
	// Requests of both wait at the consumer, which serves them in turn.
	stolen, err := thief.Fetch(1, jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	last := b.publish(line("second", `{}`))
	last = max(last, b.publish(line("third", `{}`)))
	b.waitFor(last)
	for m := range stolen.Messages() {
		t.Logf("the other got %d bytes", len(m.Data()))
	}
}
