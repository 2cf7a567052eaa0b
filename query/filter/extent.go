package filter

import (
	"math"

	"cairn/internal/earth"
)

// An Extent is what a planner can know of an expression: nothing outside of it
// passes. It may be wider than the truth, never narrower.
type Extent struct {
	// Boxes: all that passes lies in one of them. Nil: anywhere.
	Boxes []Box
	// From and To bound the time observed, else received, in microseconds
	// since 2000-01-01 UTC, both included.
	From, To int64
	// Names: what passes has one of them. Nil: any, or none.
	Names []string
	// Low and High bound the position, both included.
	Low, High int64
}

// Everything is the extent of no filter.
func Everything() Extent {
	return Extent{From: math.MinInt64, To: math.MaxInt64, Low: math.MinInt64, High: math.MaxInt64}
}

// Timed reports whether times are bounded.
func (x *Extent) Timed() bool { return x.From != math.MinInt64 || x.To != math.MaxInt64 }

// maxBoxes bounds the boxes of an extent: each is a search in an index.
const maxBoxes = 8

// Bound returns the extent of an expression.
func Bound(e Expr) Extent {
	x := Everything()
	switch e := e.(type) {
	case And:
		for _, part := range e {
			x.narrow(Bound(part))
		}
	case Or:
		if len(e) > 0 {
			x = Bound(e[0])
			for _, part := range e[1:] {
				x.widen(Bound(part))
			}
		}
	case Box:
		x.Boxes = []Box{e}
	case Area:
		x.Boxes = []Box{e.bounds}
	case Near:
		x.Boxes = []Box{e.Bounds()}
	case In:
		if e.Field.kind == name && !e.Field.fold {
			for _, v := range e.Values {
				x.Names = append(x.Names, v.text)
			}
		}
	case Compare:
		x.compare(e)
	}
	return x
}

func (x *Extent) compare(e Compare) {
	switch e.Field.kind {
	case name:
		if e.Op == Equal && !e.Field.fold {
			x.Names = []string{e.Value.text}
		}
	case when:
		x.From, x.To = between(e.Op, e.Value.number)
	case position:
		if d, _ := parseDecimal(e.Value.text); d.exponent >= len(d.digits) && d.exponent < 19 {
			var n int64
			for i := range d.exponent {
				n *= 10
				if i < len(d.digits) {
					n += int64(d.digits[i] - '0')
				}
			}
			if d.negative {
				n = -n
			}
			x.Low, x.High = between(e.Op, n)
		}
	}
}

// between is the range of whole numbers for which the comparison with n holds, or a
// wider one.
func between(op Op, n int64) (from, to int64) {
	switch op {
	case Equal:
		return n, n
	case Less:
		return math.MinInt64, max(n, math.MinInt64+1) - 1
	case LessOrEqual:
		return math.MinInt64, n
	case Greater:
		return min(n, math.MaxInt64-1) + 1, math.MaxInt64
	case GreaterOrEqual:
		return n, math.MaxInt64
	default:
		return math.MinInt64, math.MaxInt64
	}
}

// narrow makes x the extent of both holding.
func (x *Extent) narrow(o Extent) {
	x.From, x.To = max(x.From, o.From), min(x.To, o.To)
	x.Low, x.High = max(x.Low, o.Low), min(x.High, o.High)
	if x.Names == nil || o.Names != nil && len(o.Names) < len(x.Names) {
		x.Names = o.Names
	}
	if x.Boxes == nil || o.Boxes != nil && size(o.Boxes) < size(x.Boxes) {
		x.Boxes = o.Boxes
	}
}

// widen makes x the extent of either holding.
func (x *Extent) widen(o Extent) {
	x.From, x.To = min(x.From, o.From), max(x.To, o.To)
	x.Low, x.High = min(x.Low, o.Low), max(x.High, o.High)
	if x.Names != nil && o.Names != nil {
		x.Names = append(append([]string(nil), x.Names...), o.Names...)
	} else {
		x.Names = nil
	}
	if x.Boxes != nil && o.Boxes != nil && len(x.Boxes)+len(o.Boxes) <= maxBoxes {
		x.Boxes = append(append([]Box(nil), x.Boxes...), o.Boxes...)
	} else {
		x.Boxes = nil
	}
}

// size is the area of the boxes, in square degrees.
func size(boxes []Box) (sum float64) {
	for _, b := range boxes {
		width := b.East - b.West
		if width < 0 {
			width += 360
		}
		sum += width * (b.North - b.South)
	}
	return sum
}

// Bounds is a box that all that is near lies in.
func (e Near) Bounds() Box {
	west, south, east, north := earth.Around(Place{e.Longitude, e.Latitude}, e.Metres)
	return Box{west, south, east, north}
}

// MaxMetres bounds [Near].
const MaxMetres = earth.MaxMetres

// Distance is how far two places are apart, in metres.
func Distance(lon1, lat1, lon2, lat2 float64) float64 {
	return earth.Distance(lon1, lat1, lon2, lat2)
}
