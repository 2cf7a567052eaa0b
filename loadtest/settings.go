package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"cairn/loadtest/report"
)

// settings are what a reader needs to do the same again.
func (t *test) settings() []report.Pair {
	f := t.flags
	pairs := []report.Pair{}
	add := func(name, format string, args ...any) {
		pairs = append(pairs, report.Pair{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	for i, target := range t.targets {
		add([]string{"Target", "Second target"}[i], "%s", target.URL.Redacted())
	}
	switch {
	case f.FindLimit:
		add("Load", "%s from %d, at most %d, levels of %v, to %g of the result", t.unit(), f.Start, f.Max, f.Level, f.Precision)
	case t.plan.Open():
		add("Load", "%g requests/s, arrivals %s, reached within %v", t.plan.Rate, f.Arrivals, t.plan.RateUp)
	default:
		add("Load", "%d users, %g a second", t.plan.Users, t.plan.SpawnRate)
	}
	if !t.plan.Open() {
		add("Think time", "%v to %v", t.plan.Think.Min, t.plan.Think.Max)
	}
	switch {
	case f.FindLimit:
	case f.Compare != "":
		add("Duration", "%d rounds of %v each", f.Rounds, f.Level)
	default:
		add("Duration", "%v", t.plan.Duration)
	}
	m := t.mix
	add("Mix", "read %g : write %g", m.Get, m.Post)
	add("Reads", "newest page %g, box of %g° %g, one point %g, with ETag %g", m.Newest, m.BoxDegrees, m.Box, m.Point, m.Again)
	if m.Limit > 0 {
		add("Page limit", "%d", m.Limit)
	}
	if m.Bulk > 0 {
		add("Bulk", "%g of the writes, %d points each", m.Bulk, m.BulkSize)
	}
	add("Accept-Encoding", "%s", orNone(f.AcceptEncoding))
	for _, h := range f.Header {
		name, _, _ := strings.Cut(h, ":") // a value may be a secret
		add("Header", "%s", name)
	}
	add("Timeout", "%v", f.Timeout)
	add("Allowed", "p95 %v, failures %s", f.P95, f.Failures.text)
	add("Seed", "%d", f.Seed)
	return pairs
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// maxStatus bounds what is read of a target's own words.
const maxStatus = 64 << 10

// describe is what the target says of itself: Cairn's version and role, or the
// server's name.
func describe(resp *http.Response) string {
	var status struct{ Version, Role string }
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err == nil && json.Unmarshal(body, &status) == nil && status.Role != "" {
		return fmt.Sprintf("Cairn %s, role %s", status.Version, status.Role)
	}
	if server := resp.Header.Get("Server"); server != "" {
		return server
	}
	return "does not say what it is"
}
