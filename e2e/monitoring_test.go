package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

var (
	metricNames = regexp.MustCompile(`\b(?:cairn|process)_[a-z_]+`)
	labelNames  = regexp.MustCompile(`\b([a-z_]+)(?:=~|!=|!~|=)\\?"`)
	grouping    = regexp.MustCompile(`by \(([a-z_, ]+)\)`)
	words       = regexp.MustCompile(`[a-z_]+`)
)

// Every metric and every label that the alert rules and the dashboard ask for is one
// that a server shows: a rule about a metric that is not there never fires.
func TestMonitoring(t *testing.T) {
	s := serve(t, testrig.PreparedFolder(t), "--mqtt-listen", testrig.AnyPort)
	testrig.MustPost(t, s.Base+"/point", paris)
	testrig.MustPost(t, s.Base+"/point", `{"id": 1, "longitude": 1, "latitude": 1}`)
	testrig.MustPost(t, s.Base+"/point", `{"id": 1, "longitude": 2, "latitude": 2}`) // parked
	a, err := testrig.Get(t.Context(), s.Base+"/points?min_position=1")
	if err != nil || a.Status != 200 {
		t.Fatal(a.Status, err)
	}
	shown := ""
	testkit.Eventually(t, testrig.Patience, "an event is parked", func() bool {
		a, err := testrig.Get(t.Context(), s.Base+"/metrics")
		shown = string(a.Body)
		return err == nil && regexp.MustCompile(`(?m)^cairn_parked_events_total\{.*\} [1-9]`).MatchString(shown)
	})
	names, labels := metricNames.FindAllString(shown, -1), labelNames.FindAllStringSubmatch(shown, -1)
	known := []string{"instance", "job"} // which Prometheus adds
	for _, l := range labels {
		known = append(known, l[1])
	}
	for _, file := range []string{"alerts.yml", "dashboard.json"} {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(repository, "deploy", "monitoring", file))
			if err != nil {
				t.Fatal(err)
			}
			asked := metricNames.FindAllString(string(text), -1)
			if len(asked) < 9 {
				t.Fatalf("only %q", asked)
			}
			for _, name := range asked {
				if !slices.Contains(names, name) {
					t.Errorf("/metrics has no %s", name)
				}
			}
			var used []string
			for _, l := range labelNames.FindAllStringSubmatch(string(text), -1) {
				used = append(used, l[1])
			}
			for _, g := range grouping.FindAllStringSubmatch(string(text), -1) {
				used = append(used, words.FindAllString(g[1], -1)...)
			}
			for _, l := range used {
				if !slices.Contains(known, l) {
					t.Errorf("no metric has the label %s", l)
				}
			}
		})
	}
}
