package load

import (
	"math"
	"math/rand/v2"
	"time"
)

// A Ramp is a rate that grows evenly from 0 to Rate within Up, then stays. With
// t in seconds, what has come until t is
//
//	count(t) = Rate·t²/(2·Up)     until Up
//	count(t) = Rate·(t − Up/2)    after it
//
// and the n-th comes where count(t) = n.
type Ramp struct {
	Rate float64 // per second
	Up   time.Duration
}

// At is when count reaches n.
func (r Ramp) At(n float64) time.Duration {
	up := r.Up.Seconds()
	t := n/r.Rate + up/2
	if n < r.Rate*up/2 {
		t = math.Sqrt(2 * n * up / r.Rate)
	}
	return time.Duration(t * float64(time.Second))
}

// Count is how many have come until t.
func (r Ramp) Count(t time.Duration) float64 {
	s, up := t.Seconds(), r.Up.Seconds()
	if s < up {
		return r.Rate * s * s / (2 * up)
	}
	return r.Rate * (s - up/2)
}

// Arrivals gives the times at which requests are due, one after the other.
//
// Many people who know nothing of each other arrive as a Poisson process: the
// distances between them, counted in expected arrivals, are distributed
// exponentially with mean 1. That holds for a rate that changes, too, because
// the ramp turns counts into times.
type Arrivals struct {
	ramp  Ramp
	rng   *rand.Rand // nil: equal distances
	count float64
}

// NewArrivals returns arrivals at random, or at equal distances if rng is nil.
func NewArrivals(ramp Ramp, rng *rand.Rand) *Arrivals { return &Arrivals{ramp: ramp, rng: rng} }

// Next is when the next one is due, from the start.
func (a *Arrivals) Next() time.Duration {
	step := 1.0
	if a.rng != nil {
		step = a.rng.ExpFloat64()
	}
	a.count += step
	return a.ramp.At(a.count)
}

// draw is evenly distributed over the span.
func (s Span) draw(rng *rand.Rand) time.Duration {
	return s.Min + time.Duration(rng.Float64()*float64(s.Max-s.Min))
}
