package load

import "time"

// A Search finds the highest load that a target holds: it doubles until one is
// not held, then halves the gap until that is narrow. It assumes that what holds
// a load holds less, too.
type Search struct {
	max       int
	precision float64 // of the result, as a share of it
	next      int
	low       int // the highest that was held; 0: none
	high      int // the lowest that was not; 0: none
}

// NewSearch begins at start, and asks for max at most.
func NewSearch(start, max int, precision float64) *Search {
	return &Search{next: min(start, max), max: max, precision: precision}
}

// Next is the next load to try; false when the search is over.
func (s *Search) Next() (int, bool) { return s.next, s.next > 0 }

// Record says whether the load that Next gave was held.
func (s *Search) Record(held bool) {
	if held {
		s.low = s.next
	} else {
		s.high = s.next
	}
	switch {
	case s.high == 0 && s.low == s.max:
		s.next = 0
	case s.high == 0:
		s.next = min(2*s.low, s.max)
	case float64(s.high-s.low) <= max(1, s.precision*float64(s.low)):
		s.next = 0
	default:
		s.next = (s.low + s.high) / 2
	}
}

// Held is the highest load that was held so far; 0: none.
func (s *Search) Held() int { return s.low }

// Capped says that not the target ended the search but its maximum.
func (s *Search) Capped() bool { return s.low == s.max }

const (
	// levelUp is how long a level takes to reach its load: at once would be a
	// blow that says nothing of the load itself.
	levelUp = 10 * time.Second
	// levelRest lets what the ramp has left behind go.
	levelRest = 3 * time.Second
)

// Level is the plan with the given users, or rate, for a full level of the
// length given, which alone counts.
func (p Plan) Level(load int, length time.Duration) Plan {
	if p.Open() {
		p.Rate, p.RateUp = float64(load), levelUp
		p.Settle = levelUp + levelRest
	} else {
		p.Users, p.SpawnRate = load, float64(load)/levelUp.Seconds()
		p.Settle = levelUp + max(levelRest, p.Think.Max)
	}
	p.Duration = p.Settle + length
	return p
}
