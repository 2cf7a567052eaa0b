package projector

import (
	"testing"
	"time"

	"cairn/bus"

	"github.com/nats-io/nats.go/jetstream"
)

func TestSilence(t *testing.T) {
	now := time.Now()
	var e ears
	var s silence
	e.listening.Store(true)
	e.heard.Store(7)
	steps := []struct {
		what  string
		last  uint64
		after time.Duration
		do    func()
		want  bool
	}{
		{"nothing to come", 7, 0, nil, false},
		{"still nothing, for long", 7, 10 * silenceBound, nil, false},
		{"one is on its way", 8, 10*silenceBound + 1, nil, false},
		{"not for long", 8, 11*silenceBound - 1, nil, false},
		{"for too long", 9, 11*silenceBound + 1, nil, true},
		{"it came, another is due", 9, 11*silenceBound + 2, func() { e.heard.Store(8) }, false},
		{"we are busy ourselves", 9, 20 * silenceBound, func() { e.listening.Store(false) }, false},
		{"we listen again", 9, 20*silenceBound + 1, func() { e.listening.Store(true) }, false},
		{"in vain", 9, 21*silenceBound + 1, nil, true},
	}
	for _, step := range steps {
		if step.do != nil {
			step.do()
		}
		if got := s.broken(&e, step.last, now.Add(step.after)); got != step.want {
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
