package fleet

import (
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Result is what became of a run.
type Result struct {
	Started  time.Time        `json:"started"`
	Seconds  float64          `json:"seconds"`
	HTTP     int              `json:"devices_http"`
	MQTT     int              `json:"devices_mqtt"`
	Made     int64            `json:"fixes_made"`
	Acked    int64            `json:"fixes_acknowledged"`
	Dropped  int64            `json:"fixes_dropped"` // by devices that could keep no more
	Failures int64            `json:"failures"`
	Reasons  map[string]int64 `json:"reasons,omitempty"`
	Sent     []Times          `json:"sent"` // from when a fix was due until it was acknowledged; of Overland the batch's last
	Latest   []Times          `json:"latest"`
	Late     Times            `json:"tool_late"`
	Verified *Verification    `json:"verified"`
	// Crossings is nil where there was no fence.
	Crossings *Crossings `json:"crossings,omitempty"`
}

// LatestP99 is that of all questions, in milliseconds.
func (r *Result) LatestP99() (worst float64) {
	for _, t := range r.Latest {
		worst = max(worst, t.P99)
	}
	return worst
}

func (f *fleet) result(took time.Duration) *Result {
	r := &Result{Started: f.start, Seconds: took.Seconds(), HTTP: f.HTTP, MQTT: f.MQTT, Made: f.made.Load(), Acked: f.acked.Load(), Dropped: f.dropped.Load(),
		Failures: f.failures.count(), Reasons: f.failures.reasons(), Late: timesOf(f.late)}
	for k := range f.sent {
		if t := timesOf(f.sent[k]); t.Count > 0 {
			t.Name = kindNames[k]
			r.Sent = append(r.Sent, t)
		}
	}
	for q := range f.latest {
		if t := timesOf(f.latest[q]); t.Count > 0 {
			t.Name = queryNames[q]
			r.Latest = append(r.Latest, t)
		}
	}
	return r
}

// Times are those of some requests, in milliseconds.
type Times struct {
	Name  string  `json:"name,omitempty"`
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// A histogram of durations, in microseconds up to an hour.
type histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Hour.Microseconds(), 3)
}

func (h *histogram) record(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h == nil {
		h.h = newHistogram()
	}
	_ = h.h.RecordValue(min(max(d.Microseconds(), 1), time.Hour.Microseconds()))
}

func (h *histogram) into(sum *hdrhistogram.Histogram) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.h != nil {
		sum.Merge(h.h)
	}
}

func timesOf(of ...*histogram) Times {
	sum := newHistogram()
	for _, h := range of {
		h.into(sum)
	}
	ms := func(q float64) float64 { return float64(sum.ValueAtQuantile(q)) / 1000 }
	return Times{Count: sum.TotalCount(), P50: ms(50), P95: ms(95), P99: ms(99), Max: float64(sum.Max()) / 1000}
}

// maxReasons bounds the kinds of failures that are told apart.
const maxReasons = 20

type failures struct {
	mu    sync.Mutex
	all   int64
	texts map[string]int64
}

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.texts == nil {
		f.texts = map[string]int64{}
	}
	f.all++
	text := err.Error()
	if _, known := f.texts[text]; !known && len(f.texts) >= maxReasons {
		text = "other reasons"
	}
	f.texts[text]++
}

func (f *failures) count() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all
}

func (f *failures) reasons() map[string]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]int64{}
	for text, n := range f.texts {
		out[text] = n
	}
	return out
}

// Commonest are the reasons, most frequent first.
func (r *Result) Commonest() (texts []string) {
	for text := range r.Reasons {
		texts = append(texts, text)
	}
	slices.SortFunc(texts, func(a, b string) int { return int(r.Reasons[b] - r.Reasons[a]) })
	return texts
}
