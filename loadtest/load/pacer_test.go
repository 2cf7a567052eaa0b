package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestRampTurnsCountsIntoTimesAndBack(t *testing.T) {
	for _, r := range []Ramp{{Rate: 3}, {Rate: 500, Up: 10 * time.Second}, {Rate: 0.5, Up: time.Minute}} {
		last := time.Duration(-1)
		for n := range 2000 {
			at := r.At(float64(n))
			if at < last {
				t.Fatalf("%+v: number %d comes at %v, before the one before it", r, n, at)
			}
			last = at
			if got := r.Count(at); math.Abs(got-float64(n)) > 1e-4 {
				t.Fatalf("%+v: number %d comes at %v, when %g have come", r, n, at, got)
			}
		}
	}
}

func TestRampOfTheTutorial(t *testing.T) {
	users := Ramp{Rate: 3}
	if got := users.At(299); got.Round(time.Millisecond) != 99667*time.Millisecond {
		t.Errorf("the last of 300 users comes at %v", got)
	}
	r := Ramp{Rate: 100, Up: 10 * time.Second}
	for at, want := range map[time.Duration]float64{5 * time.Second: 125, 10 * time.Second: 500, 20 * time.Second: 1500} {
		if got := r.Count(at); got != want {
			t.Errorf("until %v %g have come, not %g", at, got, want)
		}
	}
}

// The critical values of the Kolmogorov-Smirnov test at 1 %. The seeds are
// fixed, so the test does not fail by chance.
func ksCritical(n int) float64 { return 1.63 / math.Sqrt(float64(n)) }

func ksDistance(sorted []float64, cdf func(float64) float64) float64 {
	var d float64
	n := float64(len(sorted))
	for i, v := range sorted {
		f := cdf(v)
		d = max(d, f-float64(i)/n, float64(i+1)/n-f)
	}
	return d
}

func TestArrivalsAtRandomAreAPoissonProcess(t *testing.T) {
	const n, rate = 20_000, 50.0
	a := NewArrivals(Ramp{Rate: rate}, rand.New(rand.NewPCG(1, 2)))
	var gaps []float64
	perSecond := map[int]float64{}
	var last time.Duration
	for range n {
		at := a.Next()
		gaps = append(gaps, (at - last).Seconds())
		perSecond[int(at/time.Second)]++
		last = at
	}
	slices.Sort(gaps)
	exponential := func(v float64) float64 { return 1 - math.Exp(-rate*v) }
	if d := ksDistance(gaps, exponential); d > ksCritical(n) {
		t.Errorf("the distances differ from the exponential distribution by %.4f, more than %.4f", d, ksCritical(n))
	}
	// A Poisson count has a variance as large as its mean.
	var sum, squares float64
	seconds := float64(int(last / time.Second))
	for s := range int(seconds) {
		sum += perSecond[s]
		squares += perSecond[s] * perSecond[s]
	}
	mean := sum / seconds
	if dispersion := (squares/seconds - mean*mean) / mean; math.Abs(mean-rate) > 1.5 || math.Abs(dispersion-1) > 0.2 {
		t.Errorf("%.2f a second with a dispersion of %.2f, not %g with 1", mean, dispersion, rate)
	}
}

func TestArrivalsFollowTheRamp(t *testing.T) {
	for _, rng := range []*rand.Rand{nil, rand.New(rand.NewPCG(3, 4))} {
		ramp := Ramp{Rate: 1000, Up: 10 * time.Second}
		a := NewArrivals(ramp, rng)
		var times []float64
		for at := a.Next(); at < 20*time.Second; at = a.Next() {
			times = append(times, at.Seconds())
		}
		total := ramp.Count(20 * time.Second)
		cdf := func(v float64) float64 { return ramp.Count(time.Duration(v*float64(time.Second))) / total }
		if d := ksDistance(times, cdf); d > ksCritical(len(times)) {
			t.Errorf("%d arrivals differ from the ramp by %.4f", len(times), d)
		}
		if rng == nil && len(times) != int(total)-1 && len(times) != int(total) {
			t.Errorf("%d arrivals at equal distances, not %g", len(times), total)
		}
	}
}

func TestThinkTimeIsEven(t *testing.T) {
	const n = 10_000
	rng := rand.New(rand.NewPCG(5, 6))
	s := Span{time.Second, 3 * time.Second}
	var all []float64
	for range n {
		all = append(all, s.draw(rng).Seconds())
	}
	slices.Sort(all)
	if d := ksDistance(all, func(v float64) float64 { return (v - 1) / 2 }); d > ksCritical(n) || all[0] < 1 || all[n-1] > 3 {
		t.Errorf("from %g to %g, %.4f off", all[0], all[n-1], d)
	}
}

func TestMixGoesByTheWeights(t *testing.T) {
	const n = 100_000
	rng := rand.New(rand.NewPCG(7, 8))
	m := Mix{Get: 2, Post: 1, Newest: 5, Box: 3, Point: 0, Again: 2, Bulk: 0.1}
	var got [kinds]float64
	for range n {
		got[m.draw(rng)]++
	}
	want := [kinds]float64{GetNewest: 1. / 3, GetBox: 0.2, GetAgain: 2. / 15, PostPoint: 0.3, PostBulk: 1. / 30}
	for k := range kinds {
		// Three standard deviations of a share.
		if off := math.Abs(got[k]/n - want[k]); off > 3*math.Sqrt(want[k]*(1-want[k])/n) {
			t.Errorf("kind %d: a share of %.4f, not %.4f", k, got[k]/n, want[k])
		}
	}
}
