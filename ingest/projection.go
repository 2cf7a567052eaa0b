package ingest

import (
	"context"
	"slices"
	"sync"

	"cairn/bus"
	"cairn/event"
)

const (
	// maxWaiters bounds the requests that are held open; those beyond it are
	// answered as if they had not asked to wait.
	maxWaiters = 8192
	// maxHeard is how many announcements are remembered: at one every 25 ms,
	// three seconds. One may overtake the queue's ack of a point that it is about.
	maxHeard = 128
)

// A projection is what the projector has announced: how far it is, and what became
// of the events. Only what a batch's own announcement covers is known; one that was
// lost leaves its events unknown, never wrongly known.
type projection struct {
	places chan struct{} // one each that waits

	mu      sync.Mutex
	at      uint64        // the sequence it has reached
	heard   []bus.Applied // the last of those about a batch, oldest first
	tallies map[*tally]struct{}
	more    chan struct{} // closed when there is another
}

func newProjection() *projection {
	return &projection{places: make(chan struct{}, maxWaiters), more: make(chan struct{}), tallies: map[*tally]struct{}{}}
}

// hear takes an announcement. One that is about no batch says how far the
// projection is, but not what became of anything.
func (p *projection) hear(a bus.Applied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = a.Sequence
	if a.First != 0 {
		if len(p.heard) == maxHeard {
			p.heard = slices.Delete(p.heard, 0, 1)
		}
		p.heard = append(p.heard, a)
		for t := range p.tallies {
			t.hear(&a)
		}
	}
	close(p.more)
	p.more = make(chan struct{})
}

// settled returns what became of the position, when that is known before ctx
// ends.
func (p *projection) settled(ctx context.Context, position event.Position) (outcome bus.Outcome, known bool) {
	p.await(ctx, func() bool {
		outcome, known = p.find(position)
		return known
	})
	return outcome, known
}

// reached waits until the projection has reached the sequence, or ctx ends.
func (p *projection) reached(ctx context.Context, sequence uint64) bool {
	return p.await(ctx, func() bool { return p.at >= sequence })
}

// await waits until what was heard makes the condition true. That is asked under
// the lock. It returns false where ctx ends before, or too many wait.
func (p *projection) await(ctx context.Context, condition func() bool) bool {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	default:
		return false
	}
	for {
		p.mu.Lock()
		more, met := p.more, condition()
		p.mu.Unlock()
		if met {
			return true
		}
		select {
		case <-more:
		case <-ctx.Done():
			return false
		}
	}
}

func (p *projection) find(position event.Position) (outcome bus.Outcome, known bool) {
	for _, a := range slices.Backward(p.heard) {
		if outcome, known = a.Outcome(position); known {
			return outcome, true
		}
	}
	return "", false
}
