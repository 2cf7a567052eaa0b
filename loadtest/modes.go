package main

import (
	"context"
	"fmt"

	"cairn/loadtest/load"
	"cairn/loadtest/report"
)

// findLimits finds that of each target, in turns, round by round.
func (t *test) findLimits(ctx context.Context) error {
	rounds := 1
	if len(t.targets) == 2 {
		rounds = t.flags.Rounds
	}
	held := make([][]float64, len(t.targets))
	for round := range rounds {
		for i, target := range t.targets {
			name := target.URL.Host
			if rounds > 1 {
				name = fmt.Sprintf("%s, round %d", name, round+1)
			}
			limit, err := t.findLimit(ctx, name, target)
			if limit != nil {
				t.doc.Limits = append(t.doc.Limits, *limit)
			}
			if err != nil || ctx.Err() != nil {
				return err
			}
			held[i] = append(held[i], float64(limit.Held))
		}
	}
	if len(t.targets) == 2 {
		t.doc.Ratios = []load.Ratio{load.NewRatio(t.unit()+" held", held[0], held[1])}
	}
	return nil
}

// unit is what a level is counted in.
func (t *test) unit() string {
	if t.plan.Open() {
		return "requests/s"
	}
	return "users"
}

func (t *test) findLimit(ctx context.Context, name string, target load.Target) (*report.Limit, error) {
	limit := &report.Limit{Name: name, Unit: t.unit()}
	search := load.NewSearch(t.flags.Start, t.flags.Max, t.flags.Precision)
	best := -1 // the run of the highest level held
	for ctx.Err() == nil {
		n, ok := search.Next()
		if !ok {
			break
		}
		r, err := t.measure(ctx, fmt.Sprintf("%s: %d %s", name, n, t.unit()), target, t.plan.Level(n, t.flags.Level))
		if err != nil {
			return limit, err
		}
		if ctx.Err() != nil {
			break // less than a full level says nothing
		}
		held := t.holds(r)
		limit.Levels = append(limit.Levels, report.LevelOf(n, held, r))
		search.Record(held)
		if limit.Held = search.Held(); held && n == limit.Held {
			best = len(t.doc.Runs) - 1
		}
		t.display.verdict(n, t.unit(), held, r)
	}
	limit.Capped = search.Capped()
	if best < 0 {
		best = len(t.doc.Runs) - 1
	}
	t.doc.Runs[best].Shown = true
	t.checkLimit(limit)
	return limit, nil
}

func (t *test) checkLimit(limit *report.Limit) {
	more := ""
	if limit.Capped {
		more = " or more (--max)"
	}
	t.check(limit.Held > 0, "%s holds %d %s%s with a p95 of at most %s", limit.Name, limit.Held, limit.Unit, more, report.Millis(t.doc.Bound))
	for _, level := range limit.Levels {
		if level.Lost > 0 {
			t.check(false, "%s at %d %s: %d acknowledged points are missing or different", limit.Name, level.Load, limit.Unit, level.Lost)
		}
	}
}

// figures are what --compare compares.
var figures = []struct {
	name string
	of   func(*load.Result) float64
}{
	{"p50, ms", func(r *load.Result) float64 { return r.All.P50 }},
	{"p95, ms", func(r *load.Result) float64 { return r.All.P95 }},
	{"p99, ms", func(r *load.Result) float64 { return r.All.P99 }},
	{"requests/s", func(r *load.Result) float64 { return r.All.PerSecond }},
	{"bytes a request", func(r *load.Result) float64 { return r.All.BytesEach() }},
}

// compare measures both targets in each round. Who is first changes from round
// to round, so that what the one leaves behind for the other evens out.
func (t *test) compare(ctx context.Context) error {
	n := t.plan.Users
	if t.plan.Open() {
		n = int(t.plan.Rate)
	}
	plan := t.plan.Level(n, t.flags.Level)
	var results [2][]*load.Result
	for round := range t.flags.Rounds {
		pair := [2]*load.Result{}
		for turn := range 2 {
			which := (round + turn) % 2
			label := fmt.Sprintf("%s, round %d", [2]string{"First", "Second"}[which], round+1)
			r, err := t.measure(ctx, label, t.targets[which], plan)
			if err != nil {
				return err
			}
			if round == t.flags.Rounds-1 || ctx.Err() != nil {
				t.show()
			}
			pair[which] = r
			if ctx.Err() != nil {
				t.ratios(results)
				return nil
			}
		}
		for i, r := range pair {
			results[i] = append(results[i], r)
			t.check(t.holds(r), "%s, round %d: p95 %s, %d failures", [2]string{"first", "second"}[i], round+1, report.Millis(r.All.P95), r.All.Failures)
		}
	}
	t.ratios(results)
	return nil
}

func (t *test) ratios(results [2][]*load.Result) {
	if len(results[0]) == 0 {
		return
	}
	for _, f := range figures {
		var values [2][]float64
		for i := range results {
			for _, r := range results[i] {
				values[i] = append(values[i], f.of(r))
			}
		}
		t.doc.Ratios = append(t.doc.Ratios, load.NewRatio(f.name, values[0], values[1]))
	}
}
