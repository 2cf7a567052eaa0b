package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"millis": Millis, "bytes": Bytes, "count": Count, "rate": Rate,
	"times":    func(v float64) string { return fmt.Sprintf("%.2f", v) },
	"levels":   Sorted,
	"countInt": func(n int) string { return Count(int64(n)) },
	"size":     func(n int64) string { return Bytes(float64(n)) },
	"percent":  func(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) },
}).Parse(pageText))

// A section is one run on the page.
type section struct {
	Run
	Charts []*chart
}

func (d *Document) page() ([]byte, error) {
	var sections []section
	for _, r := range d.Runs {
		if r.Shown {
			sections = append(sections, section{r, chartsOf(r.Result, d.Bound)})
		}
	}
	var level *chart
	if len(d.Limits) > 0 {
		level = levelChart(d.Limits, d.Bound)
	}
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, map[string]any{
		"Doc": d, "Style": template.CSS(pageStyle), "Sections": sections, "Levels": level, "Alerts": d.alerts(),
	})
	return b.Bytes(), err
}

// alerts are what a reader must know before the figures.
func (d *Document) alerts() []string {
	var all []string
	for _, r := range d.Runs {
		if r.Result.Interrupted && !slices.Contains(all, interrupted) {
			all = append(all, interrupted)
		}
		if r.Shown && r.Result.Tool.Limit != "" {
			all = append(all, r.Label+": "+r.Result.Tool.Limit+".")
		}
	}
	return all
}

const interrupted = "The run was interrupted; these are the figures until then."

// Sorted are the levels by their load.
func Sorted(l Limit) []Level {
	return slices.SortedStableFunc(slices.Values(l.Levels), func(a, b Level) int { return a.Load - b.Load })
}
