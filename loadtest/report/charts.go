package report

import (
	"fmt"
	"strconv"
	"strings"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"

	"cairn/loadtest/load"
)

// longRun is from when minutes are easier to read than seconds.
const longRun = 300.0 // seconds

// over draws lines over the time of a run.
func over(samples []load.Sample, names []string, colors []int, values ...func(load.Sample) float64) (lines []line, x func(float64) string) {
	unit, name := 1.0, "s"
	if n := len(samples); n > 0 && samples[n-1].At > longRun {
		unit, name = 60, "min"
	}
	for i, value := range values {
		l := line{Name: names[i], Color: colors[i]}
		for _, s := range samples {
			l.points = append(l.points, plotter.XY{X: s.At / unit, Y: value(s)})
		}
		lines = append(lines, l)
	}
	return lines, func(v float64) string { return short(v) + " " + name }
}

func short(v float64) string {
	if v >= 1000 {
		return Count(int64(v))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// chartsOf are the tutorial's three, and the histogram.
func chartsOf(r *load.Result, bound float64) []*chart {
	who, count := "Users", func(s load.Sample) float64 { return float64(s.Users) }
	if r.Rate > 0 {
		who, count = "Requests in flight", func(s load.Sample) float64 { return float64(s.InFlight) }
	}
	users := &chart{Title: who, y: short, yMin: 1}
	users.Lines, users.x = over(r.Series, []string{who}, []int{1}, count)

	rate := &chart{Title: "Requests and failures per second", y: short, yMin: 1}
	rate.Lines, rate.x = over(r.Series, []string{"requests/s", "failures/s"}, []int{1, 3},
		func(s load.Sample) float64 { return s.PerSecond },
		func(s load.Sample) float64 { return float64(s.Failures) / s.Seconds })

	times := &chart{Title: "Response times", y: axisMillis, bound: bound}
	// An interval without an answer has no times: a line to 0 would be a lie.
	var answered []load.Sample
	for _, s := range r.Series {
		if s.Requests > 0 {
			answered = append(answered, s)
		}
	}
	times.Lines, times.x = over(answered, []string{"p50", "p95", "p99"}, []int{1, 2, 3},
		func(s load.Sample) float64 { return s.P50 },
		func(s load.Sample) float64 { return s.P95 },
		func(s load.Sample) float64 { return s.P99 })
	all := []*chart{users, rate, times}
	if h := histogram(r); h != nil {
		all = append(all, h)
	}
	return all
}

func histogram(r *load.Result) *chart {
	if len(r.Bins) == 0 {
		return nil
	}
	bars := &plotter.Histogram{FillColor: seriesHue[0], LineStyle: draw.LineStyle{Color: gridColor, Width: hairWidth}}
	for _, b := range r.Bins {
		bars.Bins = append(bars.Bins, plotter.HistogramBin{Min: b.From, Max: b.To, Weight: float64(b.Count)})
	}
	return &chart{Title: "How many requests took how long", Note: "The time axis is logarithmic.", bins: bars, logX: true, x: axisMillis, y: short, yMin: 1}
}

// highest is how many times the bound a chart of levels shows: what is far
// beyond it would press the rest to the floor.
const highest = 3

// levelChart is the p95 over the load, one line a target.
func levelChart(limits []Limit, bound float64) *chart {
	c := &chart{
		Title: "p95 over " + limits[0].Unit,
		Note: fmt.Sprintf("The dashed line is the bound, %s. What is above %s is drawn there. The axis of %s is logarithmic.",
			axisMillis(bound), axisMillis(highest*bound), limits[0].Unit),
		scatter: true, logX: true, x: short, y: axisMillis, bound: bound, yMin: bound * 1.1,
	}
	for i, l := range limits { // a hue may come again, for another round
		one := line{Name: l.Name, Color: i%len(seriesHue) + 1}
		for _, level := range Sorted(l) {
			one.points = append(one.points, plotter.XY{X: float64(level.Load), Y: min(level.P95, highest*bound)})
		}
		c.Lines = append(c.Lines, one)
	}
	return c
}

// pictureStyle is what the page's style sheet does, for a picture that stands
// alone.
const pictureStyle = `<style>svg{--ink:#3d4450;--grid:#dfe3e9;--bound:#8a93a1;--series1:#2563c9;--series2:#c2680a;--series3:#b3265e;font-family:system-ui,sans-serif}
@media(prefers-color-scheme:dark){svg{--ink:#b4bdc9;--grid:#2c333d;--bound:#7d8897;--series1:#6ea8ff;--series2:#f0a44b;--series3:#ff7fa8}}</style>`

// LevelPicture is the chart of the levels as an SVG file.
func (d *Document) LevelPicture() ([]byte, error) {
	c := levelChart(d.Limits, d.Bound)
	c.legend = true
	svg, err := c.draw(sizes[0])
	if err != nil {
		return nil, err
	}
	head, body, _ := strings.Cut(svg, ">")
	return []byte(strings.Replace(head, "<svg ", `<svg xmlns="http://www.w3.org/2000/svg" `, 1) + ">" + pictureStyle + body), nil
}
