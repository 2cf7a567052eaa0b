package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"cairn/loadtest/report"
)

func measured() *comparison {
	c := &comparison{flags: flags{P95: time.Second, Users: 300}, machine: &machine{}}
	c.doc.Bound, c.doc.Made = 1000, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for i, name := range []string{"Flask, tutorial", "Flask, generous", "Cairn"} {
		held := []int{90, 400, 6000}[i]
		c.machine.stacks = append(c.machine.stacks, &stack{name: name, about: "it is"})
		c.doc.Settings = append(c.doc.Settings, report.Pair{Name: name, Value: "it is"})
		c.doc.Limits = append(c.doc.Limits, report.Limit{Name: name, Unit: "users", Held: held, Levels: []report.Level{
			{Load: held, Held: true, P95: 900, Acked: 10}, {Load: 2 * held, P95: 4000},
		}})
	}
	return c
}

func TestResultsGoBetweenTheMarks(t *testing.T) {
	readme := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(readme, []byte("# before\n"+beginMark+"\nold results\n"+endMark+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // repeatedly
		if err := measured().publish(readme); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, part := range []string{"# before\n", endMark + "\nafter\n", "**67 ×**", "**15 ×**", "it is | 6,000 |", "](compare.svg)"} {
		if strings.Count(text, part) != 1 {
			t.Errorf("%q is there %d times in\n%s", part, strings.Count(text, part), text)
		}
	}
	if strings.Contains(text, "old results") {
		t.Error("the old results are still there")
	}
	if err := os.WriteFile(readme, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := measured().publish(readme); err == nil {
		t.Error("published where there is no place for it")
	}
}

// A stack that holds nothing can be told, too.
func TestNothingHeld(t *testing.T) {
	c := measured()
	c.doc.Limits[0].Held, c.doc.Limits[0].Levels = 0, nil
	if text := c.markdown(); !strings.Contains(text, "| none |") || strings.Contains(text, "Cairn holds") {
		t.Error(text)
	}
}

func TestProxyRoutesWritesOfCairnOnly(t *testing.T) {
	var b strings.Builder
	err := template.Must(template.ParseFS(files, "haproxy.cfg")).Execute(&b, map[string]any{
		"MaxConnections": 100, "Frontends": []frontend{
			{Name: "tutorial", Listen: "127.0.0.1:1", Servers: []string{"127.0.0.1:2", "127.0.0.1:3"}},
			{Name: "cairn", Listen: "127.0.0.1:4", Servers: []string{"127.0.0.1:5"}, Writers: []string{"127.0.0.1:6"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for part, times := range map[string]int{"balance leastconn": 3, "use_backend cairn-write": 2, "use_backend tutorial": 0, "server tutorial1 127.0.0.1:3": 1, "server cairn-write0 127.0.0.1:6": 1} {
		if got := strings.Count(text, part); got != times {
			t.Errorf("%q is there %d times, not %d, in\n%s", part, got, times, text)
		}
	}
}
