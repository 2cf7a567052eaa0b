package projector

import (
	"sync"
	"time"

	"cairn/bus"
)

// rateSpan is over how long a rate is told, in seconds: long enough for a trickle,
// short enough to see a load begin and end.
const rateSpan = 10

// A rate counts events by the second in which they were applied.
type rate struct {
	mu      sync.Mutex
	seconds [rateSpan]struct{ at, events, changes int64 }
}

// add counts what a batch did: of its events, those that changed a point that was
// there.
func (r *rate) add(now time.Time, v *verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.seconds[now.Unix()%rateSpan]
	if s.at != now.Unix() {
		*s = struct{ at, events, changes int64 }{at: now.Unix()}
	}
	for outcome, n := range v.counted {
		s.events += int64(n)
		if outcome == bus.OutcomeReplaced || outcome == bus.OutcomeDeleted {
			s.changes += int64(n)
		}
	}
}

// perSecond is over the last whole seconds.
func (r *rate) perSecond(now time.Time) (events, changes float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const whole = rateSpan - 1 // that of now has only begun
	for _, s := range r.seconds {
		if s.at < now.Unix() && s.at >= now.Unix()-whole {
			events, changes = events+float64(s.events), changes+float64(s.changes)
		}
	}
	return events / whole, changes / whole
}
