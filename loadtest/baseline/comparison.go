package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"cairn/loadtest/load"
	"cairn/loadtest/report"
)

// The tutorial's load.
const (
	spawnRate   = 3 // users/s
	leastThink  = time.Second
	mostThink   = 3 * time.Second
	reads       = 2 // for each write
	timeout     = 60 * time.Second
	rampHold    = 60 * time.Second
	followShare = 0.02
)

// A comparison is one run of all.
type comparison struct {
	flags   flags
	machine *machine
	doc     report.Document
	ramps   [allStacks]*load.Result
}

func (c *comparison) run(ctx context.Context) error {
	c.doc = report.Document{
		Title: "Cairn and the tutorial's stack", Made: time.Now(), Bound: c.flags.bound(),
		Machine:  append(report.Machine(), report.Pair{Name: "Measured with", Value: c.machine.versions(ctx)}),
		Settings: c.settings(),
	}
	for i, s := range c.machine.stacks {
		c.doc.Limits = append(c.doc.Limits, report.Limit{Name: s.name, Unit: "users"})
		if !c.flags.Ramp || ctx.Err() != nil {
			continue
		}
		plan := load.Plan{Users: c.flags.Users, SpawnRate: spawnRate, Think: load.Span{Min: leastThink, Max: mostThink}}
		plan.Duration = rampHold + time.Duration(plan.Users/spawnRate)*time.Second
		r, lost, err := c.measure(ctx, s, "the tutorial's ramp", plan)
		if err != nil {
			return err
		}
		c.ramps[i] = r
		c.doc.Runs[len(c.doc.Runs)-1].Shown = true
		c.checkLost(s, "the ramp", lost)
	}
	return c.search(ctx)
}

func (c *comparison) settings() []report.Pair {
	pairs := []report.Pair{}
	for _, s := range c.machine.stacks {
		pairs = append(pairs, report.Pair{Name: s.name, Value: s.about})
	}
	return append(pairs,
		report.Pair{Name: "Load", Value: fmt.Sprintf("users who think %v to %v, %d reads of the newest page for each write, Accept-Encoding: gzip", leastThink, mostThink, reads)},
		report.Pair{Name: "Levels", Value: fmt.Sprintf("%v each, from a table of %d rows; held: p95 at most %v, no failures, nothing lost", c.flags.Level, rows, c.flags.P95)},
	)
}

// search raises the users of each stack, in turns, until its limit is known.
func (c *comparison) search(ctx context.Context) error {
	var searches []*load.Search
	most := min(c.flags.Max, c.machine.maxConnections)
	for i := range c.machine.stacks {
		searches = append(searches, load.NewSearch(c.flags.Start[i], most, c.flags.Precision))
	}
	for open := true; open; {
		open = false
		for i, s := range c.machine.stacks {
			n, more := searches[i].Next()
			if !more || ctx.Err() != nil {
				continue
			}
			open = true
			held, err := c.level(ctx, i, s, n)
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				break
			}
			searches[i].Record(held)
			c.doc.Limits[i].Held, c.doc.Limits[i].Capped = searches[i].Held(), searches[i].Capped()
		}
	}
	return nil
}

func (c *comparison) level(ctx context.Context, i int, s *stack, users int) (held bool, err error) {
	plan := load.Plan{Think: load.Span{Min: leastThink, Max: mostThink}}.Level(users, c.flags.Level)
	r, lost, err := c.measure(ctx, s, fmt.Sprintf("%d users", users), plan)
	if err != nil || ctx.Err() != nil {
		return false, err
	}
	held = r.All.Requests > 0 && r.All.P95 <= c.doc.Bound && r.All.Failures == 0 && lost == 0
	level := report.LevelOf(users, held, r)
	level.Acked, level.Lost = r.Acked, lost
	c.doc.Limits[i].Levels = append(c.doc.Limits[i].Levels, level)
	c.checkLost(s, fmt.Sprintf("%d users", users), lost)
	fmt.Printf("  %s\n", map[bool]string{true: "held", false: "not held"}[held])
	return held, nil
}

func (c *comparison) checkLost(s *stack, where string, lost int64) {
	if lost > 0 {
		c.doc.Checks = append(c.doc.Checks, report.Check{Text: fmt.Sprintf("%s, %s: %d acknowledged points are not in the table", s.name, where, lost)})
	}
}

// measure sets the table back, puts the load on, and counts what is there.
func (c *comparison) measure(ctx context.Context, s *stack, label string, plan load.Plan) (*load.Result, int64, error) {
	if err := s.reset(ctx); err != nil {
		return nil, 0, err
	}
	label = s.name + ", " + label
	fmt.Printf("%s  %s\n", time.Now().Format(time.TimeOnly), label)
	r, err := load.Run(ctx, load.Config{
		Target: load.Target{URL: s.url, AcceptEncoding: "gzip", Timeout: timeout},
		Plan:   plan,
		Mix:    load.Mix{Get: reads, Post: 1, Newest: 1, GetPath: "/points", PostPath: "/point", BoxDegrees: 1},
		Name:   fmt.Sprintf("load-%08x", rand.Uint32()), Seed: rand.Uint64(), Follow: followShare,
	})
	if err != nil {
		return nil, 0, err
	}
	c.doc.Runs = append(c.doc.Runs, report.Run{Label: label, Result: r})
	fmt.Printf("  %s requests/s, p50 %s, p95 %s, p99 %s, %d of %s failed, %s each, %s/s received\n", report.Rate(r.All.PerSecond),
		report.Millis(r.All.P50), report.Millis(r.All.P95), report.Millis(r.All.P99), r.All.Failures, report.Count(r.All.Requests),
		report.Bytes(r.All.BytesEach()), report.Bytes(float64(r.All.BytesIn)/r.Seconds))
	for _, f := range r.Failures[:min(3, len(r.Failures))] {
		fmt.Printf("  %s × %s: %s\n", report.Count(f.Count), f.Kind, f.What)
	}
	if r.Tool.Limit != "" {
		fmt.Printf("  note: %s\n", r.Tool.Limit)
	}
	if ctx.Err() != nil {
		return r, 0, nil
	}
	lost, err := s.lost(ctx, r.Acked)
	return r, lost, err
}
