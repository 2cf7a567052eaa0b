package load

import (
	"fmt"
	"time"
)

// A Sample is an interval of a run. Times are in milliseconds.
type Sample struct {
	At        float64 `json:"at_s"` // its end, from the run's start
	Seconds   float64 `json:"seconds"`
	Users     int     `json:"users"`
	InFlight  int     `json:"in_flight"`
	Requests  int64   `json:"requests"`
	PerSecond float64 `json:"requests_per_second"`
	Failures  int64   `json:"failures"`
	BytesIn   int64   `json:"bytes_in"`
	P50       float64 `json:"p50_ms"`
	P95       float64 `json:"p95_ms"`
	P99       float64 `json:"p99_ms"`
	LateP99   float64 `json:"own_delay_p99_ms"`
	Cores     float64 `json:"own_cores"` // of the processor, used by this process
	Kinds     []Stats `json:"kinds,omitempty"`
}

// A Failure is a cause, and how often it was met.
type Failure struct {
	Kind    string `json:"request"`
	What    string `json:"what"`
	Example string `json:"example,omitempty"`
	Count   int64  `json:"count"`
}

// Progress is what is known while a run continues.
type Progress struct {
	Sample   Sample
	Planned  time.Duration
	Settling bool // the totals begin later
	All      Stats
	Kinds    []Stats
}

// A Result is what a run has shown.
type Result struct {
	Target      string        `json:"target"`
	Started     time.Time     `json:"started"`
	Seconds     float64       `json:"seconds"` // that the totals are of
	Interrupted bool          `json:"interrupted"`
	Users       int           `json:"users"` // at the end
	Rate        float64       `json:"rate,omitempty"`
	All         Stats         `json:"all"`
	Kinds       []Stats       `json:"kinds"`
	Failures    []Failure     `json:"failures"`
	Bins        []Bin         `json:"histogram"`
	Series      []Sample      `json:"series"`
	Tool        Tool          `json:"tool"`
	Acked       int64         `json:"acknowledged"` // points
	Verified    *Verification `json:"verification,omitempty"`

	run *runner
}

// Kind returns the figures of one kind of request, if there were any.
func (r *Result) Kind(k Kind) (Stats, bool) {
	name := k.name(&r.run.cfg.Mix)
	for _, s := range r.Kinds {
		if s.Name == name {
			return s, true
		}
	}
	return Stats{}, false
}

const (
	// lateEnough is when the tool's own delay can be seen in a response time at
	// all, and lateShare when it is a part of the p95 that changes its meaning.
	lateEnough = 10.0 // ms
	lateShare  = 0.1
	// busyShare of its processors is when the tool has none left.
	busyShare = 0.85
)

// A Tool is how the tool itself did: a generator that is late measures itself.
type Tool struct {
	LateP50 float64 `json:"own_delay_p50_ms"` // between the time to continue and doing so
	LateP99 float64 `json:"own_delay_p99_ms"`
	Cores   float64 `json:"own_cores"`   // used, on average
	Procs   int     `json:"procs"`       // that it may use
	Machine float64 `json:"machine_use"` // share of the machine's processors in use by all; 0: not known
	// Limit says that the tool, not the target, may have been the limit; "" if not.
	Limit string `json:"limit,omitempty"`
}

// judge says whether the response times are the target's alone.
func (t *Tool) judge(p95 float64) {
	if t.LateP99 < lateEnough || t.LateP99 < lateShare*p95 {
		return
	}
	late := fmt.Sprintf("this tool was up to %.0f ms late itself (p99)", t.LateP99)
	switch {
	case t.Cores >= busyShare*float64(t.Procs):
		t.Limit = fmt.Sprintf("%s and used %.1f of the %d processors it may use: it is the limit here, not the target", late, t.Cores, t.Procs)
	case t.Machine >= busyShare:
		t.Limit = fmt.Sprintf("%s, for this machine's processors were in use to %.0f %%, of which it had %.2f cores itself: the response times are partly the machine's", late, 100*t.Machine, t.Cores)
	default:
		t.Limit = late + ": the response times contain that"
	}
}
