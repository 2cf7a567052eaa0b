// Package report shows what a load test has found: as one HTML file that needs
// nothing else, as JSON with all figures, and as CSV for other programs.
package report

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cairn/loadtest/load"
)

// A Document is all that is shown.
type Document struct {
	Title    string    `json:"title"`
	Made     time.Time `json:"made"`
	Settings []Pair    `json:"settings"`
	Machine  []Pair    `json:"machine"`
	// Checks decide the exit code.
	Checks []Check `json:"checks"`
	// Bound is the p95 that is allowed, in ms.
	Bound  float64      `json:"bound_p95_ms"`
	Runs   []Run        `json:"runs"`
	Limits []Limit      `json:"limits,omitempty"`
	Ratios []load.Ratio `json:"ratios,omitempty"`
}

// A Pair is something that has a name.
type Pair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Check is a threshold, or another thing that must hold.
type Check struct {
	Text string `json:"text"`
	OK   bool   `json:"ok"`
}

// A Run is one run under a name; those with Shown have a section of their own.
type Run struct {
	Label  string       `json:"label"`
	Shown  bool         `json:"-"`
	Result *load.Result `json:"result"`
}

// A Limit is the highest load that a target held.
type Limit struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"` // users, or requests/s
	Held   int     `json:"held"`
	Capped bool    `json:"capped"` // the search ended at its maximum
	Levels []Level `json:"levels"`
}

// A Level is one load that was tried for a full level. Times are in ms.
type Level struct {
	Load       int     `json:"load"`
	Held       bool    `json:"held"`
	PerSecond  float64 `json:"requests_per_second"`
	P50        float64 `json:"p50_ms"`
	P95        float64 `json:"p95_ms"`
	P99        float64 `json:"p99_ms"`
	Failures   int64   `json:"failures"`
	BytesIn    float64 `json:"bytes_in_per_second"`
	BytesEach  float64 `json:"bytes_each_get"`
	Lost       int64   `json:"lost"` // acknowledged points that were not there
	Acked      int64   `json:"acknowledged"`
	ToolsLimit string  `json:"tool,omitempty"`
}

// LevelOf takes a level's figures from its run.
func LevelOf(n int, held bool, r *load.Result) Level {
	l := Level{
		Load: n, Held: held, PerSecond: r.All.PerSecond, P50: r.All.P50, P95: r.All.P95, P99: r.All.P99,
		Failures: r.All.Failures, BytesIn: float64(r.All.BytesIn) / r.Seconds, ToolsLimit: r.Tool.Limit,
	}
	if get, ok := r.Kind(load.GetNewest); ok {
		l.BytesEach = get.BytesEach()
	}
	if v := r.Verified; v != nil {
		l.Acked, l.Lost = v.Acknowledged, int64(v.Missing+v.Different)
	}
	return l
}

// Passed says that all checks hold.
func (d *Document) Passed() bool {
	for _, c := range d.Checks {
		if !c.OK {
			return false
		}
	}
	return true
}

// Names of the files in a report's folder.
const (
	PageName     = "index.html"
	dataName     = "result.json"
	seriesName   = "series.csv"
	requestsName = "requests.csv"
)

// Write puts all files into the folder, in place of those of the report before.
// It returns the path of the page.
func (d *Document) Write(folder string) (string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("make the report's folder: %w", err)
	}
	for name, make := range map[string]func() ([]byte, error){
		PageName: d.page, dataName: d.data, seriesName: d.series, requestsName: d.requests,
	} {
		content, err := make()
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), content, 0o644)
		}
		if err != nil {
			return "", fmt.Errorf("write the report's %s: %w", name, err)
		}
	}
	return filepath.Join(folder, PageName), nil
}
