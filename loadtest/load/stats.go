package load

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Stats are the figures of some requests. Times are in milliseconds.
type Stats struct {
	Name      string  `json:"name"`
	Requests  int64   `json:"requests"`
	Failures  int64   `json:"failures"`
	PerSecond float64 `json:"requests_per_second"`
	Mean      float64 `json:"mean_ms"`
	Min       float64 `json:"min_ms"`
	P50       float64 `json:"p50_ms"`
	P95       float64 `json:"p95_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
	BytesIn   int64   `json:"bytes_in"`
	BytesOut  int64   `json:"bytes_out"`
}

// BytesEach is how many bytes an answer had.
func (s Stats) BytesEach() float64 {
	if s.Requests == 0 {
		return 0
	}
	return float64(s.BytesIn) / float64(s.Requests)
}

func statsOf(name string, c *counts, took time.Duration) Stats {
	s := Stats{Name: name, Requests: c.requests, Failures: c.failures, BytesIn: c.in, BytesOut: c.out}
	if took > 0 {
		s.PerSecond = float64(c.requests) / took.Seconds()
	}
	if c.requests == 0 {
		return s
	}
	q := c.times.ValueAtPercentilesSlice([]float64{50, 95, 99})
	s.P50, s.P95, s.P99 = ms(q[0]), ms(q[1]), ms(q[2])
	s.Mean, s.Min, s.Max = c.times.Mean()/1000, ms(c.times.Min()), ms(c.times.Max())
	return s
}

func ms(micros int64) float64 { return float64(micros) / 1000 }

// A Bin is a bar of a histogram.
type Bin struct {
	From  float64 `json:"from_ms"`
	To    float64 `json:"to_ms"`
	Count int64   `json:"count"`
}

// binsPerDecade of the logarithmic histogram: each bar is a quarter wider than
// the one before, which shows two humps where there are two causes.
const binsPerDecade = 10

// binsOf sorts the values into bars that grow by the same factor, from the
// smallest value to the largest.
func binsOf(h *hdrhistogram.Histogram) []Bin {
	if h.TotalCount() == 0 {
		return nil
	}
	edge := func(i int) float64 { return math.Pow(10, float64(i)/binsPerDecade) } // ms
	index := func(micros int64) int {
		return int(math.Floor(math.Log10(ms(max(micros, 1))) * binsPerDecade))
	}
	first, last := index(h.Min()), index(h.Max())
	bins := make([]Bin, last-first+1)
	for i := range bins {
		bins[i] = Bin{From: edge(first + i), To: edge(first + i + 1)}
	}
	for _, b := range h.Distribution() {
		if b.Count == 0 {
			continue
		}
		i := min(max(index((b.From+b.To)/2)-first, 0), len(bins)-1)
		bins[i].Count += b.Count
	}
	return bins
}
