package load

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// longest is what a histogram holds; what lasts longer counts as this.
	longest = 10 * time.Minute
	// digits that a histogram keeps of a value: times are exact to 0.1 %.
	digits = 3
)

// A tally counts requests of one sort: all of them, and those of the interval.
type tally struct {
	sum, interval counts
}

type counts struct {
	times              *hdrhistogram.Histogram // µs
	requests, failures int64
	in, out            int64 // bytes
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longest.Microseconds(), digits)
}

func newTally() *tally { return &tally{counts{times: newHistogram()}, counts{times: newHistogram()}} }

func (t *tally) add(d time.Duration, p reply, failed bool) {
	for _, c := range []*counts{&t.sum, &t.interval} {
		recordTime(c.times, d)
		c.requests++
		c.in += p.in
		c.out += p.out
		if failed {
			c.failures++
		}
	}
}

func recordTime(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d, 0), longest).Microseconds()) // within its range
}

func (c *counts) reset() {
	h := c.times
	h.Reset()
	*c = counts{times: h}
}

// A recorder takes in what happens.
type recorder struct {
	mu    sync.Mutex
	all   *tally // of the mix, not of what is done beside it
	kinds [kinds]*tally
	late  *tally // own scheduling delay
	fails map[failureKey]*Failure
	mix   *Mix
}

type failureKey struct {
	kind Kind
	what string
}

func newRecorder(m *Mix) *recorder {
	r := &recorder{mix: m, all: newTally(), late: newTally(), fails: map[failureKey]*Failure{}}
	for k := range r.kinds {
		r.kinds[k] = newTally()
	}
	return r
}

// done is one request, finished.
func (r *recorder) done(k Kind, took time.Duration, p reply, failure, example string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kinds[k].add(took, p, failure != "")
	if k != SeeOwn {
		r.all.add(took, p, failure != "")
	}
	if failure != "" {
		r.fail(k, failure, example)
	}
}

func (r *recorder) fail(k Kind, what, example string) {
	key := failureKey{k, what}
	if r.fails[key] == nil && len(r.fails) >= maxFailures {
		key.what = "other failures"
	}
	f := r.fails[key]
	if f == nil {
		f = &Failure{Kind: k.name(r.mix), What: key.what, Example: clip(example)}
		r.fails[key] = f
	}
	f.Count++
}

// wake is a delay between the time a user should have gone on and did.
func (r *recorder) wake(late time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late.add(late, reply{}, false)
}

// restart forgets the totals: what follows is what counts.
func (r *recorder) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range append(r.kinds[:], r.all, r.late) {
		t.sum.reset()
	}
	clear(r.fails)
}

// cut ends the interval.
func (r *recorder) cut(took time.Duration) Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Sample{Seconds: took.Seconds()}
	all := statsOf("", &r.all.interval, took)
	s.Requests, s.PerSecond, s.Failures = all.Requests, all.PerSecond, all.Failures
	s.BytesIn, s.P50, s.P95, s.P99 = all.BytesIn, all.P50, all.P95, all.P99
	late := statsOf("", &r.late.interval, took)
	s.LateP99 = late.P99
	for k := range r.kinds {
		if r.kinds[k].sum.requests > 0 {
			s.Kinds = append(s.Kinds, statsOf(Kind(k).name(r.mix), &r.kinds[k].interval, took))
		}
		if Kind(k) == SeeOwn { // no part of the mix, but a failure all the same
			s.Failures += r.kinds[k].interval.failures
		}
		r.kinds[k].interval.reset()
	}
	r.all.interval.reset()
	r.late.interval.reset()
	return s
}

// totals are the figures since the start, or since the restart.
func (r *recorder) totals(took time.Duration) (all Stats, perKind []Stats, late Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all = statsOf("all", &r.all.sum, took)
	for k := range r.kinds {
		if c := &r.kinds[k].sum; c.requests > 0 {
			perKind = append(perKind, statsOf(Kind(k).name(r.mix), c, took))
		}
	}
	all.Failures += r.kinds[SeeOwn].sum.failures
	return all, perKind, statsOf("late", &r.late.sum, took)
}

func (r *recorder) failures() []Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Failure
	for _, f := range r.fails {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b Failure) int {
		if a.Count != b.Count {
			return int(b.Count - a.Count)
		}
		return strings.Compare(a.Kind+a.What, b.Kind+b.What)
	})
	return list
}

// bins is the distribution of all response times.
func (r *recorder) bins() []Bin {
	r.mu.Lock()
	defer r.mu.Unlock()
	return binsOf(r.all.sum.times)
}
