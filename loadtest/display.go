package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"cairn/loadtest/load"
	"cairn/loadtest/report"
)

const (
	// lineEvery is how often a plain line is written: a log of an hour stays
	// readable.
	lineEvery = 5 * time.Second

	clearBelow = "\x1b[J"
	bold       = "\x1b[1m"
	red        = "\x1b[31m"
	normal     = "\x1b[0m"
)

// A display tells a person how it goes. It is called by one goroutine at a time.
type display struct {
	out      io.Writer
	terminal bool
	size     func() (width, height int)

	label, target string
	drawn         int           // lines that are on the screen
	lastLine      time.Duration // of the run
	planned       time.Duration
}

func (d *display) begin(label string, target load.Target) {
	d.label, d.target, d.lastLine = label, target.URL.Redacted(), 0
	if !d.terminal {
		d.print("%s on %s", label, d.target)
	}
}

func (d *display) print(format string, args ...any) {
	_, _ = fmt.Fprintf(d.out, format+"\n", args...)
}

// progress shows where the run is.
func (d *display) progress(p load.Progress) {
	at := time.Duration(p.Sample.At * float64(time.Second))
	d.planned = p.Planned
	if d.terminal {
		d.draw(d.screen(p, at))
		return
	}
	if at-d.lastLine < lineEvery-lineEvery/20 { // ticks are not exact
		return
	}
	d.lastLine = at
	s := p.Sample
	who := fmt.Sprintf("%5d users", s.Users)
	if s.Users == 0 {
		who = fmt.Sprintf("%5d in flight", s.InFlight)
	}
	d.print("%6s  %s  %7s req/s  %5s failed  p50 %-8s p95 %-8s p99 %-8s%s", clock(at), who, report.Rate(s.PerSecond),
		report.Count(p.All.Failures), report.Millis(s.P50), report.Millis(s.P95), report.Millis(s.P99), settling(p))
}

func settling(p load.Progress) string {
	if p.Settling {
		return "  (not counted yet)"
	}
	return ""
}

func clock(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// screen is the run as a table.
func (d *display) screen(p load.Progress, at time.Duration) []string {
	s := p.Sample
	lines := []string{
		bold + d.label + normal + " on " + d.target,
		fmt.Sprintf("%s of %s  %s%s", clock(at), clock(p.Planned), bar(at, p.Planned), settling(p)),
		"",
		fmt.Sprintf("%d users, %d requests in flight, %s requests/s, %s/s received", s.Users, s.InFlight, report.Rate(s.PerSecond), report.Bytes(float64(s.BytesIn)/s.Seconds)),
		fmt.Sprintf("now: p50 %s, p95 %s, p99 %s", report.Millis(s.P50), report.Millis(s.P95), report.Millis(s.P99)),
		fmt.Sprintf("this tool: late by %s (p99), %.2f cores", report.Millis(s.LateP99), s.Cores),
		"",
		fmt.Sprintf("%-24s %9s %8s %8s %9s %9s %9s", "since the beginning", "requests", "per s", "failed", "p50", "p95", "p99"),
	}
	for _, k := range append(p.Kinds, p.All) {
		line := fmt.Sprintf("%-24s %9s %8s %8s %9s %9s %9s", k.Name, report.Count(k.Requests), report.Rate(k.PerSecond), report.Count(k.Failures),
			report.Millis(k.P50), report.Millis(k.P95), report.Millis(k.P99))
		if k.Failures > 0 {
			line = red + line + normal
		}
		lines = append(lines, line)
	}
	return append(lines, "", "Ctrl-C ends it, with a report.")
}

func bar(at, planned time.Duration) string {
	const width = 30
	full := min(width, int(width*at/max(planned, 1)))
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

// draw replaces what was drawn before. Lines are cut to the terminal's width:
// one that wraps would shift all that follows.
func (d *display) draw(lines []string) {
	width, height := d.size()
	if len(lines) >= height {
		lines = lines[:max(1, height-1)]
	}
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", d.drawn)
	}
	b.WriteString(clearBelow)
	for _, line := range lines {
		b.WriteString(cut(line, width-1) + "\n")
	}
	d.drawn = len(lines)
	_, _ = io.WriteString(d.out, b.String())
}

// cut shortens a line to what can be seen of it, without its colours.
func cut(line string, width int) string {
	seen := 0
	for i := 0; i < len(line); {
		if line[i] == '\x1b' {
			end := strings.IndexByte(line[i:], 'm')
			i += end + 1
			continue
		}
		if seen == width {
			return line[:i] + normal
		}
		_, size := utf8.DecodeRuneInString(line[i:])
		i += size
		seen++
	}
	return line
}

// erase takes the table away, so that what follows stands in its place.
func (d *display) erase() {
	if d.drawn > 0 {
		_, _ = fmt.Fprintf(d.out, "\x1b[%dA\r%s", d.drawn, clearBelow)
		d.drawn = 0
	}
}

func (d *display) note(text string) {
	d.erase()
	if d.terminal {
		d.draw([]string{text + " …"})
		return
	}
	d.print("%s", text)
}

// end is the line that stays of a run.
func (d *display) end(r *load.Result) {
	d.erase()
	d.print("%s: %s requests in %.0f s, %s/s, %s failed, p50 %s, p95 %s, p99 %s", d.label, report.Count(r.All.Requests), r.Seconds,
		report.Rate(r.All.PerSecond), report.Count(r.All.Failures), report.Millis(r.All.P50), report.Millis(r.All.P95), report.Millis(r.All.P99))
	if r.Tool.Limit != "" {
		d.print("  note: %s", r.Tool.Limit)
	}
}

func (d *display) verdict(n int, unit string, held bool, r *load.Result) {
	word := "held"
	if !held {
		word = "not held"
	}
	d.print("  %d %s: %s", n, unit, word)
	for i, f := range r.Failures {
		if i == 3 {
			break
		}
		d.print("  %s × %s: %s", report.Count(f.Count), f.Kind, f.What)
	}
}

// close is the end of all: the table of what was shown, and the checks.
func (d *display) close(doc *report.Document, path string) {
	d.print("")
	for _, run := range doc.Runs {
		if !run.Shown {
			continue
		}
		d.print("%-24s %9s %8s %8s %9s %9s %9s %9s  (%s)", "", "requests", "per s", "failed", "p50", "p95", "p99", "bytes", run.Label)
		for _, k := range append(run.Result.Kinds, run.Result.All) {
			d.print("%-24s %9s %8s %8s %9s %9s %9s %9s", k.Name, report.Count(k.Requests), report.Rate(k.PerSecond), report.Count(k.Failures),
				report.Millis(k.P50), report.Millis(k.P95), report.Millis(k.P99), report.Bytes(k.BytesEach()))
		}
		for _, f := range run.Result.Failures {
			d.print("  %s × %s: %s", report.Count(f.Count), f.Kind, f.What)
			if f.Example != "" {
				d.print("    %s", strings.TrimSpace(f.Example))
			}
		}
		d.print("")
	}
	for _, r := range doc.Ratios {
		d.print("%-24s first ÷ second %.2f (%.2f to %.2f)", r.Name, r.Median, r.Least, r.Most)
	}
	for _, c := range doc.Checks {
		word := "held  "
		if !c.OK {
			word = "FAILED"
		}
		d.print("%s  %s", word, c.Text)
	}
	d.print("report: %s", path)
}
