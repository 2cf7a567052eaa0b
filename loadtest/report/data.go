package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"

	"cairn/loadtest/load"
)

func (d *Document) data() ([]byte, error) {
	b, err := json.MarshalIndent(d, "", "  ")
	return append(b, '\n'), err
}

func table(header []string, rows [][]string) ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.Write(header); err != nil {
		return nil, err
	}
	err := w.WriteAll(rows) // flushes
	return b.Bytes(), err
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
func whole(v int64) string    { return strconv.FormatInt(v, 10) }

// series is a line an interval.
func (d *Document) series() ([]byte, error) {
	var rows [][]string
	for _, run := range d.Runs {
		for _, s := range run.Result.Series {
			rows = append(rows, []string{
				run.Label, run.Result.Target, number(s.At), number(s.Seconds), strconv.Itoa(s.Users), strconv.Itoa(s.InFlight),
				whole(s.Requests), number(s.PerSecond), whole(s.Failures), whole(s.BytesIn),
				number(s.P50), number(s.P95), number(s.P99), number(s.LateP99), number(s.Cores),
			})
		}
	}
	return table([]string{"run", "target", "at_s", "seconds", "users", "in_flight", "requests", "requests_per_second", "failures", "bytes_in",
		"p50_ms", "p95_ms", "p99_ms", "own_delay_p99_ms", "own_cores"}, rows)
}

// requests is a line a kind of request.
func (d *Document) requests() ([]byte, error) {
	var rows [][]string
	for _, run := range d.Runs {
		for _, s := range append([]load.Stats{run.Result.All}, run.Result.Kinds...) {
			rows = append(rows, []string{
				run.Label, run.Result.Target, s.Name, whole(s.Requests), whole(s.Failures), number(s.PerSecond),
				number(s.Mean), number(s.Min), number(s.P50), number(s.P95), number(s.P99), number(s.Max), whole(s.BytesIn), whole(s.BytesOut),
			})
		}
	}
	return table([]string{"run", "target", "request", "requests", "failures", "requests_per_second",
		"mean_ms", "min_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms", "bytes_in", "bytes_out"}, rows)
}
