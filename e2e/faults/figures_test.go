package faults

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// figures are what a campaign counts.
type figures struct {
	mu       sync.Mutex
	began    time.Time
	rounds   int
	struck   map[string]int // by kind
	shapes   map[string]int
	counts   map[string]int
	killed   map[string]int // by the step at which the projector was killed
	acked    int            // points
	requests int            // that were acknowledged
	retries  int
	reads    int
	changes  int

	last      time.Time // of the acknowledgements, or the beginning of the writing
	longest   time.Duration
	longestIn string
	now       string // what strikes now
	slowest   time.Duration
	slowestIn string
	unsureIn  int // points that no answer vouched for and that are there
}

func newFigures() *figures {
	return &figures{began: time.Now(), struck: map[string]int{}, shapes: map[string]int{}, counts: map[string]int{}, killed: map[string]int{}}
}

func (f *figures) count(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[what]++
}

// killing notes that the projector is killed at a step.
func (f *figures) killing(step string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.killed[step]++
}

// killedAt is how often the projector was killed at a step.
func (f *figures) killedAt(step string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.killed[step]
}

// rarest is the step at which the projector was killed least often.
func (f *figures) rarest(steps []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.MinFunc(steps, func(a, b string) int { return f.killed[a] - f.killed[b] })
}

// round notes what a round will be like. From now on writers should make
// progress.
func (f *figures) round(r *round) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rounds++
	f.shapes[r.shape]++
	for _, x := range r.faults {
		f.struck[x.kind+" "+x.target]++
	}
	f.last, f.now = time.Now(), r.String()
}

func (f *figures) acknowledged(points int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if gap := now.Sub(f.last); gap > f.longest {
		f.longest, f.longestIn = gap, f.now
	}
	f.last = now
	f.acked += points
	f.requests++
}

func (f *figures) retried() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retries++
}

func (f *figures) changed(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes += n
}

func (f *figures) read() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
}

// stored notes how many points a system holds that no answer vouched for.
func (f *figures) stored(unacknowledged int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsureIn += unacknowledged
}

// settled notes how long it took from the end of the faults until all was
// answered and visible.
func (f *figures) settled(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d > f.slowest {
		f.slowest, f.slowestIn = d, f.now
	}
}

// String is Markdown, for DESIGN.md.
func (f *figures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	total := 0
	for _, n := range f.struck {
		total += n
	}
	line := func(what string, value any) { fmt.Fprintf(&b, "| %s | %v |\n", what, value) }
	b.WriteString("| | |\n|---|---|\n")
	line("rounds", f.rounds)
	for _, s := range slices.Sorted(maps.Keys(f.shapes)) {
		line("– of them with the roles "+s, f.shapes[s])
	}
	line("time", time.Since(f.began).Round(time.Second))
	line("points acknowledged, and there once with their values", f.acked)
	line("points there that no answer vouched for", f.unsureIn)
	line("requests acknowledged", f.requests)
	line("changes (put, patched, deleted, uploaded), each as the model has it", f.changes)
	line("retries", f.retries)
	line("reads during the faults that saw what they had to", f.reads)
	line("longest time without an acknowledged write", f.longest.Round(10*time.Millisecond).String()+" ("+f.longestIn+")")
	line("longest time from the end of the faults until all was answered and visible", f.slowest.Round(10*time.Millisecond).String()+" ("+f.slowestIn+")")
	for _, s := range slices.Sorted(maps.Keys(f.counts)) {
		line(s, f.counts[s])
	}
	for _, s := range slices.Sorted(maps.Keys(f.killed)) {
		line("killed at "+s, f.killed[s])
	}
	line("faults", total)
	kinds := map[string][]string{}
	sums := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(f.struck)) {
		kind, target, _ := strings.Cut(name, " ")
		kinds[kind] = append(kinds[kind], fmt.Sprintf("%s %d", target, f.struck[name]))
		sums[kind] += f.struck[name]
	}
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		line("– "+k, fmt.Sprintf("%d: %s", sums[k], strings.Join(kinds[k], ", ")))
	}
	return b.String()
}
