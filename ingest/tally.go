package ingest

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"cairn/bus"
	"cairn/event"
)

const (
	// maxOutcomeRows is how many rows of each outcome an answer names: what a
	// person reads.
	maxOutcomeRows = 100
	// maxStretches bounds what a tally remembers of envelopes whose outcome is
	// open: 65 million rows that the projection has yet to reach.
	maxStretches = 1 << 16
)

// A stretch is events side by side, all of one envelope, and the rows of the
// upload that they came from.
type stretch struct {
	first event.Position
	count int
	runs  []rowRun
}

// A rowRun says that the event at index came from row, and those after it from the
// rows after that.
type rowRun struct {
	index int
	row   int64
}

// addRow notes that the event at index came from row.
func addRow(runs []rowRun, index int, row int64) []rowRun {
	if n := len(runs); n > 0 && runs[n-1].row+int64(index-runs[n-1].index) == row {
		return runs
	}
	return append(runs, rowRun{index, row})
}

func (s *stretch) row(index int) int64 {
	i, exact := slices.BinarySearchFunc(s.runs, index, func(r rowRun, index int) int { return r.index - index })
	if !exact {
		i--
	}
	return s.runs[i].row + int64(index-s.runs[i].index)
}

// A tally counts what became of one upload's events. It belongs to the projection,
// under whose lock it is.
type tally struct {
	open    []stretch // on disk, and not heard of yet; in the order of positions
	counts  map[bus.Outcome]int64
	rows    map[bus.Outcome][]int64 // the first of each, but for those created
	unknown int64                   // events whose announcement was lost
}

// track makes a tally, which receives all announcements until drop.
func (p *projection) track() *tally {
	t := &tally{counts: map[bus.Outcome]int64{}, rows: map[bus.Outcome][]int64{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tallies[t] = struct{}{}
	return t
}

func (p *projection) drop(t *tally) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tallies, t)
}

// add takes a stretch that is on disk; it may have been announced already.
func (p *projection) add(t *tally, s stretch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range slices.Backward(p.heard) {
		if p.heard[i].First <= s.first.Sequence() && t.take(&p.heard[i], s) {
			return
		}
	}
	if len(t.open) == maxStretches {
		t.unknown += int64(s.count)
		return
	}
	at, _ := slices.BinarySearchFunc(t.open, s.first, func(o stretch, p event.Position) int { return cmp.Compare(o.first, p) })
	t.open = slices.Insert(t.open, at, s) // nearly always the last
}

// hear takes the announcement of a batch. It looks no further than that reaches, for
// many tallies may be far ahead of the projection.
func (t *tally) hear(a *bus.Applied) {
	for len(t.open) > 0 && t.take(a, t.open[0]) {
		t.open = t.open[1:]
	}
}

// take counts the stretch, if the announcement settles it: by what it says, or by
// being of a later batch, so that the stretch's own is lost.
func (t *tally) take(a *bus.Applied, s stretch) bool {
	sequence := s.first.Sequence()
	switch {
	case sequence > a.Sequence:
		return false
	case sequence < a.First || a.Truncated:
		t.unknown += int64(s.count)
		return true
	}
	created := int64(s.count)
	for outcome, ranges := range a.Outcomes {
		for _, r := range ranges {
			created -= t.count(outcome, s, r)
		}
	}
	for _, r := range a.Late { // which are among the unchanged
		t.count(bus.OutcomeLate, s, r)
	}
	t.counts[bus.OutcomeCreated] += created
	return true
}

// count counts those of the stretch that are in the range.
func (t *tally) count(outcome bus.Outcome, s stretch, r bus.Range) int64 {
	from, to := max(r[0], s.first), min(r[1], s.first+event.Position(s.count-1))
	if from > to {
		return 0
	}
	for p := from; p <= to && len(t.rows[outcome]) < maxOutcomeRows; p++ {
		t.rows[outcome] = append(t.rows[outcome], s.row(int(p-s.first)))
	}
	n := int64(to - from + 1)
	t.counts[outcome] += n
	return n
}

// Outcomes are what became of an upload's rows.
type Outcomes struct {
	Created   int64 `json:"created"`
	Unchanged int64 `json:"unchanged"`
	// DeletedBefore are those of the unchanged that are of deleted points, which stay
	// deleted. A projector of a version before does not tell.
	DeletedBefore int64 `json:"deleted_before,omitempty"`
	Replaced      int64 `json:"replaced"`
	Deleted       int64 `json:"deleted,omitempty"`
	// Skipped are those that were there already, with on-conflict=skip.
	Skipped int64 `json:"skipped,omitempty"`
	// Missing are deletions of what was not there.
	Missing   int64 `json:"missing,omitempty"`
	Conflicts int64 `json:"conflicts"`
	// Outside have the id of a point outside the area of the key, which stays.
	Outside int64 `json:"outside,omitempty"`
	Refused int64 `json:"refused,omitempty"`
	// Open are those that are not projected yet, Unknown those of which it was not
	// heard.
	Open    int64 `json:"open,omitempty"`
	Unknown int64 `json:"unknown,omitempty"`
	// Rows are the first of each, but for those created.
	Rows map[string][]int64 `json:"rows,omitempty"`
	Note string             `json:"note,omitempty"`
}

// outcomeNames are as answers have them.
var outcomeNames = map[bus.Outcome]string{
	bus.OutcomeUnchanged: "unchanged", bus.OutcomeLate: "deleted_before", bus.OutcomeReplaced: "replaced", bus.OutcomeDeleted: "deleted",
	bus.OutcomePrecondition: "skipped", bus.OutcomeMissing: "missing", bus.OutcomeGone: "missing",
	bus.OutcomeConflict: "conflicts", bus.OutcomeOutside: "outside", bus.OutcomeRefused: "refused", bus.OutcomeUnreadable: "refused",
}

// known reports whether all is.
func (o *Outcomes) known() bool { return o.Open == 0 && o.Unknown == 0 }

// outcomesOf waits until nothing is open, or ctx ends.
func (p *projection) outcomesOf(ctx context.Context, t *tally) *Outcomes {
	p.await(ctx, func() bool { return len(t.open) == 0 })
	return p.outcomesSoFar(t)
}

// outcomesSoFar is what is known so far.
func (p *projection) outcomesSoFar(t *tally) *Outcomes {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := &Outcomes{
		Created: t.counts[bus.OutcomeCreated], Unchanged: t.counts[bus.OutcomeUnchanged], DeletedBefore: t.counts[bus.OutcomeLate],
		Replaced: t.counts[bus.OutcomeReplaced], Deleted: t.counts[bus.OutcomeDeleted], Skipped: t.counts[bus.OutcomePrecondition],
		Missing:   t.counts[bus.OutcomeMissing] + t.counts[bus.OutcomeGone],
		Conflicts: t.counts[bus.OutcomeConflict], Outside: t.counts[bus.OutcomeOutside], Refused: t.counts[bus.OutcomeRefused] + t.counts[bus.OutcomeUnreadable],
		Unknown: t.unknown,
	}
	for _, s := range t.open {
		o.Open += int64(s.count)
	}
	for outcome, rows := range t.rows {
		if o.Rows == nil {
			o.Rows = map[string][]int64{}
		}
		name := outcomeNames[outcome]
		all := slices.Concat(o.Rows[name], rows)
		slices.Sort(all)
		o.Rows[name] = all[:min(len(all), maxOutcomeRows)]
	}
	o.Note = o.note()
	return o
}

// note is what a person should know of rows that did not become points.
func (o *Outcomes) note() string {
	var notes []string
	if o.Conflicts > 0 {
		notes = append(notes, "conflicts have the id of a point with other content, which stays; they are parked. ?on-conflict=replace replaces, skip leaves them out")
	}
	if o.DeletedBefore > 0 {
		notes = append(notes, "Those deleted_before, which count as unchanged, are of points that were deleted, and stay so: ?on-conflict=replace creates them again")
	}
	return strings.Join(notes, ". ")
}
