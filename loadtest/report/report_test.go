package report

import (
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cairn/loadtest/load"
)

func example() *Document {
	r := &load.Result{
		Target: "http://127.0.0.1:8080", Seconds: 30, Users: 300,
		All:      load.Stats{Name: "all", Requests: 4500, Failures: 3, PerSecond: 150, P50: 2, P95: 12.3, P99: 40, Max: 700, BytesIn: 5e7},
		Kinds:    []load.Stats{{Name: "GET /points", Requests: 3000, P95: 12}, {Name: "POST /point", Requests: 1500, Failures: 3}},
		Failures: []load.Failure{{Kind: "POST /point", What: "503 Service Unavailable", Example: `<script>alert("no")</script>`, Count: 3}},
		Bins:     []load.Bin{{From: 1, To: 2, Count: 2000}, {From: 2, To: 4, Count: 2500}},
		Verified: &load.Verification{Acknowledged: 1497, Checked: 1000, How: "each at its own address"},
		Tool:     load.Tool{LateP99: 1, Cores: 0.1, Procs: 2, Machine: 0.5},
	}
	for i := range 30 {
		r.Series = append(r.Series, load.Sample{At: float64(i + 1), Seconds: 1, Users: 10 * i, Requests: 150, PerSecond: 150, P50: 2, P95: 12, P99: 40})
	}
	return &Document{
		Title: "Load test", Made: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Bound: 1000,
		Settings: []Pair{{"Target", r.Target}}, Machine: Machine(),
		Checks: []Check{{"p95 is 12 ms", true}, {"3 of 4,500 requests failed", false}},
		Runs:   []Run{{Label: "The run", Shown: true, Result: r}},
		Limits: []Limit{{Name: "it", Unit: "users", Held: 200, Levels: []Level{{Load: 400, P95: 9000}, {Load: 100, Held: true, P95: 10}, {Load: 200, Held: true, P95: 100}}}},
		Ratios: []load.Ratio{load.NewRatio("p95, ms", []float64{10, 12}, []float64{20, 20})},
	}
}

func TestReportIsOneFileThatNeedsNothingElse(t *testing.T) {
	folder := t.TempDir()
	path, err := example().Write(filepath.Join(folder, "new", "folder"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	if outside := regexp.MustCompile(`(?i)(src|href)\s*=|@import|url\(|<script|<link`).FindString(page); outside != "" {
		t.Errorf("the page asks for something: %s", outside)
	}
	for _, part := range []string{"&lt;script&gt;", "var(--series1)", `class="wide"`, `class="narrow"`, "prefers-color-scheme: dark", "@media print", "4,500", "GET /points", "503 Service Unavailable", "0.55"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not have %s", part)
		}
	}
	// Four charts of the run and one of the levels, in two sizes.
	if n := strings.Count(page, "<svg "); n != 10 {
		t.Errorf("%d pictures", n)
	}
	if left := regexp.MustCompile(`#0[0-3]0[0-3]00`).FindString(page); left != "" {
		t.Errorf("the colour %s has no name in the style sheet", left)
	}
}

func TestDataHasEverything(t *testing.T) {
	folder := t.TempDir()
	d := example()
	if _, err := d.Write(folder); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(folder, dataName))
	if err != nil {
		t.Fatal(err)
	}
	var again Document
	if err := json.Unmarshal(data, &again); err != nil {
		t.Fatal(err)
	}
	if r := again.Runs[0].Result; r.All != d.Runs[0].Result.All || len(r.Series) != 30 || again.Limits[0].Held != 200 {
		t.Errorf("%+v", again)
	}
	for name, lines := range map[string]int{seriesName: 31, requestsName: 4} {
		f, err := os.Open(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(f).ReadAll()
		_ = f.Close()
		if err != nil || len(rows) != lines {
			t.Errorf("%s: %d lines, %v", name, len(rows), err)
		}
	}
}

func TestLevelPictureIsXML(t *testing.T) {
	svg, err := example().LevelPicture()
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		_, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	if !strings.HasPrefix(string(svg), `<svg xmlns="http://www.w3.org/2000/svg"`) || !strings.Contains(string(svg), ">it<") {
		t.Errorf("%.200s", svg)
	}
}

// A target that never answered has no times, no bars and no levels.
func TestEmptyRunCanBeShown(t *testing.T) {
	for _, levels := range [][]Level{nil, {{Load: 1}}, {{Load: 50, P95: 1e6}}} {
		d := &Document{Bound: 1000, Runs: []Run{{Shown: true, Result: &load.Result{}}}, Limits: []Limit{{Unit: "users", Levels: levels}}}
		if _, err := d.Write(t.TempDir()); err != nil {
			t.Errorf("%+v: %v", levels, err)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for got, want := range map[string]string{
		Millis(0): "0", Millis(0.123): "0.12 ms", Millis(3.14159): "3.1 ms", Millis(345.6): "346 ms", Millis(1234): "1.23 s", Millis(125_000): "2m5s",
		Bytes(0): "0 B", Bytes(999): "999 B", Bytes(1234): "1.2 kB", Bytes(5.67e8): "567 MB", Bytes(7e12): "7000 GB",
		Count(12): "12", Count(1234567): "1,234,567", Count(-1000): "-1,000",
		Rate(0): "0", Rate(1.234): "1.23", Rate(33.33): "33.3", Rate(5432.1): "5,432",
		axisMillis(1000): "1 s", axisMillis(0.5): "0.5 ms", memory("16777216 kB"): "16.0 GiB",
	} {
		if got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

func TestRoundLabels(t *testing.T) {
	for at, want := range map[float64]float64{0: 1, 0.7: 1, 1: 1, 1.1: 2, 3: 5, 7: 10, 130: 200} {
		if got := roundStep(at); got != want {
			t.Errorf("the step from %g is %g, not %g", at, got, want)
		}
	}
}
