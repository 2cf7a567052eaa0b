package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"regexp"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

type size struct {
	class         string
	width, height vg.Length
	ticks         int // labels that fit below
}

// A chart is drawn twice, because text in a picture that is scaled down for a
// phone cannot be read any more; the style sheet shows one of the two.
var sizes = []size{{"wide", 760, 230, 9}, {"narrow", 360, 230, 4}}

// The colours here are names only: what becomes of them is up to the style
// sheet, for paper, light and dark.
var (
	inkColor   = color.NRGBA{R: 1, A: 255}
	gridColor  = color.NRGBA{R: 2, A: 255}
	boundColor = color.NRGBA{R: 3, A: 255}
	seriesHue  = []color.NRGBA{{G: 1, A: 255}, {G: 2, A: 255}, {G: 3, A: 255}}

	styleNames = strings.NewReplacer(
		"#010000", "var(--ink)", "#020000", "var(--grid)", "#030000", "var(--bound)",
		"#000100", "var(--series1)", "#000200", "var(--series2)", "#000300", "var(--series3)",
		"font-family:Liberation Sans;", "",
	)
	// svgHead is what stands before the picture: a prolog that HTML has no
	// place for, and a size that the style sheet is to set.
	svgHead = regexp.MustCompile(`(?s)^.*?<svg [^>]*viewBox="([^"]*)"[^>]*>`)
)

const (
	fontSize  = vg.Length(11)
	lineWidth = vg.Length(1.6)
	hairWidth = vg.Length(0.6)
	labelGap  = vg.Length(5)
	// margin is for the half of a label that stands beyond the axis' end.
	margin = vg.Length(16)
)

// A line is one series of a chart.
type line struct {
	Name   string
	Color  int // of the style sheet's, from 1
	points plotter.XYs
}

// A chart is some lines over a common axis.
type chart struct {
	Title   string
	Lines   []line
	Note    string // below the title
	bins    *plotter.Histogram
	scatter bool // the points are shown
	legend  bool // inside, where no caption stands above
	logX    bool
	x, y    func(float64) string
	yMin    float64 // the axis reaches at least this far
	bound   float64 // a line across; 0: none
}

// SVG draws the chart in all sizes.
func (c *chart) SVG() (template.HTML, error) {
	var all strings.Builder
	for _, s := range sizes {
		svg, err := c.draw(s)
		if err != nil {
			return "", err
		}
		all.WriteString(svg)
	}
	return template.HTML(all.String()), nil // made of numbers and our own words
}

func (c *chart) draw(s size) (string, error) {
	p, err := c.plot(s.ticks)
	if err != nil {
		return "", fmt.Errorf("draw %s: %w", c.Title, err)
	}
	canvas := vgsvg.New(s.width, s.height)
	p.Draw(draw.Crop(draw.New(canvas), c.left(), -margin, 0, 0))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", fmt.Errorf("draw %s: %w", c.Title, err)
	}
	svg := svgHead.ReplaceAllString(b.String(), `<svg class="`+s.class+`" viewBox="$1" role="img" aria-label="`+template.HTMLEscapeString(c.Title)+`">`)
	return styleNames.Replace(svg), nil
}

// left is the margin where a label may begin left of the axis.
func (c *chart) left() vg.Length {
	if c.logX {
		return margin / 2
	}
	return 0
}

func (c *chart) plot(ticks int) (*plot.Plot, error) {
	p := plot.New()
	p.BackgroundColor = nil
	text := font.Font{Typeface: "Liberation", Variant: "Sans", Size: fontSize}
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Width = 0
		axis.Tick.LineStyle.Width = 0
		axis.Tick.Label.Color, axis.Tick.Label.Font = inkColor, text
		axis.Padding = labelGap
	}
	p.Legend.TextStyle.Color, p.Legend.TextStyle.Font = inkColor, text
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.Padding = true, true, labelGap, labelGap/2
	p.X.Tick.Marker = labels(ticks, c.x)
	p.Y.Tick.Marker = labels(5, c.y)
	if c.logX {
		p.X.Scale = plot.LogScale{}
		p.X.Tick.Marker = decades(c.x)
	}
	grid := plotter.NewGrid()
	grid.Horizontal = draw.LineStyle{Color: gridColor, Width: hairWidth}
	grid.Vertical.Color = nil
	p.Add(grid)
	if c.bins != nil {
		p.Add(c.bins)
	}
	for _, l := range c.Lines {
		if err := c.add(p, l); err != nil {
			return nil, err
		}
	}
	c.fitX(&p.X)
	p.Y.Min = 0
	p.Y.Max = max(p.Y.Max*1.05, c.yMin) // so that the top is not cut
	if c.bound > 0 && c.bound <= p.Y.Max {
		bound, err := plotter.NewLine(plotter.XYs{{X: p.X.Min, Y: c.bound}, {X: p.X.Max, Y: c.bound}})
		if err != nil {
			return nil, err
		}
		bound.LineStyle = draw.LineStyle{Color: boundColor, Width: 1, Dashes: []vg.Length{4, 3}}
		p.Add(bound)
	}
	return p, nil
}

// fitX gives the axis a range that can be drawn whatever there is on it.
func (c *chart) fitX(x *plot.Axis) {
	switch {
	case x.Min > x.Max: // nothing
		x.Min, x.Max = 1, 10
	case x.Min == x.Max: // one point
		x.Min, x.Max = x.Min/2, x.Max*2
	}
	if !c.logX {
		x.Min = 0
	}
}

func (c *chart) add(p *plot.Plot, l line) error {
	if len(l.points) == 0 {
		return nil
	}
	hue := seriesHue[l.Color-1]
	drawn, err := plotter.NewLine(l.points)
	if err != nil {
		return err
	}
	drawn.LineStyle = draw.LineStyle{Color: hue, Width: lineWidth}
	p.Add(drawn)
	if c.legend {
		p.Legend.Add(l.Name, drawn)
	}
	if !c.scatter {
		return nil
	}
	dots, err := plotter.NewScatter(l.points)
	if err != nil {
		return err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: hue, Radius: 3, Shape: draw.CircleGlyph{}}
	p.Add(dots)
	return nil
}

// labels puts about n of them at round values.
func labels(n int, format func(float64) string) plot.Ticker {
	return plot.TickerFunc(func(least, most float64) []plot.Tick {
		var ticks []plot.Tick
		step := roundStep((most - least) / float64(n))
		for v := float64(int(least/step)) * step; v <= most+step/1e6; v += step {
			if v >= least {
				ticks = append(ticks, plot.Tick{Value: v, Label: format(v)})
			}
		}
		return ticks
	})
}

// axisMillis is Millis without digits that round values do not need.
func axisMillis(ms float64) string {
	switch {
	case ms == 0:
		return "0"
	case ms < 1000:
		return short(ms) + " ms"
	}
	return short(ms/1000) + " s"
}

// roundStep is the next of 1, 2, 5, 10, 20, …
func roundStep(at float64) float64 {
	if at <= 0 {
		return 1
	}
	step := 1e-3
	for {
		for _, factor := range []float64{1, 2, 5} {
			if step*factor >= at {
				return step * factor
			}
		}
		step *= 10
	}
}

func decades(format func(float64) string) plot.Ticker {
	return plot.TickerFunc(func(least, most float64) []plot.Tick {
		var all, tens []plot.Tick
		for decade := 1e-4; decade <= most*1.0001; decade *= 10 {
			for _, factor := range []float64{1, 2, 5} {
				v := decade * factor
				if v < least*0.9999 || v > most*1.0001 {
					continue
				}
				t := plot.Tick{Value: v, Label: format(v)}
				all = append(all, t)
				if factor == 1 {
					tens = append(tens, t)
				}
			}
		}
		if len(tens) >= 3 {
			return tens
		}
		return all
	})
}
