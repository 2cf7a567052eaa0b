package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"cairn/loadtest/load"
	"cairn/loadtest/report"
)

// The results stand in the README between these.
const (
	beginMark = "<!-- compare: begin; written by make compare -->"
	endMark   = "<!-- compare: end -->"
	chartName = "compare.svg"
)

// markdown is what is published.
func (c *comparison) markdown() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("| stack | users held | requests/s | p50 | p95 | p99 | a page |")
	line("|---|---:|---:|---:|---:|---:|---:|")
	for i, s := range c.machine.stacks {
		limit := c.doc.Limits[i]
		l, ok := at(limit, limit.Held)
		if !ok {
			line("| **%s**: %s | none | | | | | |", s.name, s.about)
			continue
		}
		line("| **%s**: %s | %s%s | %s | %s | %s | %s | %s |", s.name, s.about, map[bool]string{true: "≥ "}[limit.Capped], report.Count(int64(limit.Held)),
			report.Rate(l.PerSecond), report.Millis(l.P50), report.Millis(l.P95), report.Millis(l.P99), report.Bytes(l.BytesEach))
	}
	line("")
	if limits := c.doc.Limits; len(limits) == allStacks && limits[0].Held > 0 && limits[1].Held > 0 {
		line("Cairn holds **%.0f ×** the users of the tutorial's stack as it is written, and **%.0f ×** those of the generous variant.",
			float64(limits[2].Held)/float64(limits[0].Held), float64(limits[2].Held)/float64(limits[1].Held))
		line("")
	}
	c.rampTable(line)
	line("<details><summary>Every level</summary>\n")
	line("| stack | users | | requests/s | p50 | p95 | p99 | failures | received/s | lost of acknowledged |")
	line("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|")
	for _, limit := range c.doc.Limits {
		for _, l := range report.Sorted(limit) {
			line("| %s | %s | %s%s | %s | %s | %s | %s | %s | %s | %d of %s |", limit.Name, report.Count(int64(l.Load)), map[bool]string{true: "held", false: "not held"}[l.Held],
				map[bool]string{true: " ¹"}[l.ToolsLimit != ""], report.Rate(l.PerSecond), report.Millis(l.P50), report.Millis(l.P95), report.Millis(l.P99),
				report.Count(l.Failures), report.Bytes(l.BytesIn), l.Lost, report.Count(l.Acked))
		}
	}
	line("")
	if strings.Contains(b.String(), " ¹ ") {
		line("¹ The load tool was late itself: tool and target share the machine's processors.\n")
	}
	line("</details>\n")
	line("Measured on %s:\n", c.doc.Made.Format("2 January 2006"))
	for _, p := range append(c.doc.Settings[len(c.machine.stacks):], c.doc.Machine...) {
		line("- %s: %s", p.Name, p.Value)
	}
	return strings.TrimSpace(b.String())
}

func (c *comparison) rampTable(line func(string, ...any)) {
	if c.ramps[len(c.machine.stacks)-1] == nil {
		return
	}
	line("The tutorial's ramp (%d users a second up to %d, then %v):\n", spawnRate, c.flags.Users, rampHold)
	line("| stack | requests/s at the end | p50 | p95 | p99 | failures | received in all | own write seen, p50 |")
	line("|---|---:|---:|---:|---:|---:|---:|---:|")
	for i, s := range c.machine.stacks {
		r := c.ramps[i]
		if r == nil {
			continue
		}
		seen := "at once" // the write is the commit
		if see, ok := r.Kind(load.SeeOwn); ok {
			seen = report.Millis(see.P50)
		}
		line("| %s | %s | %s | %s | %s | %s of %s | %s | %s |", s.name, report.Rate(endRate(r)), report.Millis(r.All.P50), report.Millis(r.All.P95),
			report.Millis(r.All.P99), report.Count(r.All.Failures), report.Count(r.All.Requests), report.Bytes(float64(r.All.BytesIn)), seen)
	}
	line("")
}

// endRate is the rate of the plateau: the mean of its last half.
func endRate(r *load.Result) float64 {
	last := r.Series[max(0, len(r.Series)-int(rampHold.Seconds())/2):]
	var sum float64
	for _, s := range last {
		sum += s.PerSecond
	}
	return sum / float64(max(1, len(last)))
}

func at(l report.Limit, users int) (report.Level, bool) {
	for _, level := range l.Levels {
		if level.Load == users && level.Held {
			return level, true
		}
	}
	return report.Level{}, false
}

// publish puts the results and the chart into the README and beside it.
func (c *comparison) publish(readme string) error {
	old, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("publish the results: %w", err)
	}
	before, rest, ok := strings.Cut(string(old), beginMark)
	_, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return errors.New("publish the results: " + readme + " has no marks for them")
	}
	chart, err := c.doc.LevelPicture()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(readme), chartName), chart, 0o644); err != nil {
		return err
	}
	text := before + beginMark + "\n![p95 over users, for the three stacks](" + chartName + ")\n\n" + c.markdown() + "\n" + endMark + after
	if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Println("the results are in", readme)
	return nil
}
