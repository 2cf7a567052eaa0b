package load

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// Values at the middle of n equal shares of a distribution are that
// distribution without chance.
func fill(c *counts, quantile func(float64) float64) {
	const n = 50_000
	for i := range n {
		recordTime(c.times, time.Duration(quantile((float64(i)+0.5)/n)*float64(time.Second)))
		c.requests++
	}
}

func TestPercentilesOfKnownDistributions(t *testing.T) {
	for name, quantile := range map[string]func(float64) float64{
		"even":        func(p float64) float64 { return 0.010 + 0.090*p },
		"exponential": func(p float64) float64 { return -0.050 * math.Log(1-p) },
		"Pareto":      func(p float64) float64 { return 0.002 * math.Pow(1-p, -1/1.5) },
		"two humps": func(p float64) float64 {
			if p < 0.9 {
				return 0.004 + 0.001*p
			}
			return 0.8 + 0.1*p
		},
	} {
		c := counts{times: newHistogram()}
		fill(&c, quantile)
		s := statsOf(name, &c, 10*time.Second)
		for p, got := range map[float64]float64{0.50: s.P50, 0.95: s.P95, 0.99: s.P99} {
			if want := 1000 * quantile(p); math.Abs(got-want) > 0.005*want {
				t.Errorf("%s: p%g is %g ms, not %g", name, 100*p, got, want)
			}
		}
		if s.PerSecond != 5000 {
			t.Errorf("%s: %g a second, not 5000", name, s.PerSecond)
		}
	}
}

func TestBinsHoldEveryValueOnce(t *testing.T) {
	c := counts{times: newHistogram()}
	fill(&c, func(p float64) float64 { return -0.050 * math.Log(1-p) })
	bins := binsOf(c.times)
	var sum int64
	for i, b := range bins {
		sum += b.Count
		if i > 0 && math.Abs(b.From-bins[i-1].To) > 1e-9 {
			t.Errorf("bar %d begins at %g ms, the one before ends at %g", i, b.From, bins[i-1].To)
		}
		want := 50_000 * (math.Exp(-b.From/50) - math.Exp(-b.To/50))
		if want > 500 && math.Abs(float64(b.Count)-want) > 0.03*want {
			t.Errorf("%g to %g ms: %d values, not %.0f", b.From, b.To, b.Count, want)
		}
	}
	if sum != c.requests {
		t.Errorf("the bars hold %d of %d values", sum, c.requests)
	}
	if binsOf(newHistogram()) != nil {
		t.Error("bars of nothing")
	}
}

func TestTimesBeyondTheHistogramCountAsTheLongest(t *testing.T) {
	c := counts{times: newHistogram(), requests: 1}
	recordTime(c.times, time.Hour)
	if got := statsOf("", &c, time.Second).Max; math.Abs(got-float64(longest.Milliseconds())) > 0.001*got {
		t.Errorf("an hour counts as %g ms", got)
	}
}

func TestSampleOfAcknowledgedPointsIsFair(t *testing.T) {
	const n, keep, rounds = 100, 10, 4000
	var times [n]float64
	for round := range rounds {
		p := newPoints(&Config{Seed: uint64(round), Keep: keep})
		for i := range n {
			p.acknowledge(uint64(i), func() string { return "/" })
		}
		if len(p.kept) != keep || p.acked.Load() != n {
			t.Fatalf("%d kept of %d", len(p.kept), p.acked.Load())
		}
		for _, a := range p.kept {
			times[a.number]++
		}
	}
	want := float64(rounds * keep / n)
	for i, got := range times {
		if math.Abs(got-want) > 4*math.Sqrt(want*(1-float64(keep)/n)) {
			t.Errorf("point %d was kept %g times in %d, not about %g", i, got, rounds, want)
		}
	}
}

func TestPointsLieEvenlyAndAreTheSameAgain(t *testing.T) {
	p := newPoints(&Config{Seed: 9, Name: "x"})
	var west, south int
	const n = 10_000
	for i := range uint64(n) {
		longitude, latitude := p.place(i)
		again, _ := p.place(i)
		if longitude != again || math.Abs(longitude) > 180 || math.Abs(latitude) > 90 {
			t.Fatalf("point %d: %g, %g, then %g", i, longitude, latitude, again)
		}
		if longitude < 0 {
			west++
		}
		if latitude < 0 {
			south++
		}
	}
	if math.Abs(float64(west)-n/2) > 3*math.Sqrt(n)/2 || math.Abs(float64(south)-n/2) > 3*math.Sqrt(n)/2 {
		t.Errorf("%d of %d west, %d south", west, n, south)
	}
	want := fmt.Sprintf(`{"longitude":%v,"latitude":%v,"name":"x-3","id":"q"}`, first(p.place(3)), second(p.place(3)))
	if got := string(p.appendPoint(nil, 3, "q")); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func first(a, _ float64) float64  { return a }
func second(_, b float64) float64 { return b }

func TestSearchFindsTheLimit(t *testing.T) {
	for _, limit := range []int{0, 1, 7, 50, 99, 1234, 20_000, 90_000} {
		s := NewSearch(50, 20_000, 0.05)
		tries := 0
		for n, ok := s.Next(); ok; n, ok = s.Next() {
			if tries++; tries > 40 {
				t.Fatalf("a limit of %d is not found", limit)
			}
			s.Record(n <= limit)
		}
		want := min(limit, 20_000)
		if s.Held() > want || float64(s.Held()) < float64(want)*0.95-1 || s.Capped() != (limit >= 20_000) {
			t.Errorf("a limit of %d: %d held, capped %t", limit, s.Held(), s.Capped())
		}
	}
}

func TestRatioOfRounds(t *testing.T) {
	r := NewRatio("x", []float64{10, 30, 20, 5}, []float64{5, 10, 10, 0})
	if r.Median != 2 || r.Least != 2 || r.Most != 3 {
		t.Errorf("%+v", r)
	}
	if m := Median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("the median is %g", m)
	}
}

func TestToolSaysWhenItIsTheLimit(t *testing.T) {
	for _, c := range []struct {
		tool Tool
		p95  float64
		says bool
	}{
		{Tool{LateP99: 5, Cores: 1, Procs: 1}, 6, false},    // as good as nothing
		{Tool{LateP99: 40, Cores: 1, Procs: 1}, 900, false}, // a small part of the p95
		{Tool{LateP99: 40, Cores: 0.97, Procs: 1}, 90, true},
		{Tool{LateP99: 200, Cores: 0.4, Procs: 2, Machine: 0.99}, 900, true},
		{Tool{LateP99: 200, Cores: 0.4, Procs: 2, Machine: 0.2}, 900, true},
	} {
		c.tool.judge(c.p95)
		if (c.tool.Limit != "") != c.says {
			t.Errorf("%+v with a p95 of %g ms", c.tool, c.p95)
		}
	}
}
