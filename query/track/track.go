// Package track writes the way of a device in the formats that other programs read:
// GeoJSON with times, MF-JSON, GPX and CSV. Whatever the length, it costs no more
// memory than some thousand fixes: where a format has places and times in lists of
// their own, the track is read twice, side by side.
package track

import (
	"math"
	"time"

	"cairn/query/filter"
	"cairn/query/plan"
)

// Options are what a client may choose.
type Options struct {
	Name      string
	Gap       time.Duration // a longer pause begins a new part; 0: it is all one
	Tolerance float64       // metres by which the line may be off; 0: every fix is kept
}

// A Source begins to read the track, as often as it is called.
type Source func() (Fixes, error)

// Fixes are those of a track, in the order of time; nil after the last.
type Fixes interface{ Next() (*plan.Fix, error) }

// A vertex is a fix that is kept.
type vertex struct {
	plan.Fix
	begins bool // a part
}

// vertices reads a track as its parts, simplified.
type vertices struct {
	fixes Fixes
	o     Options
	last  int64 // the time of the fix before
	any   bool  // there was one
	ahead *vertex
	// short: a part may be one fix. A line has two ends (RFC 7946, section 3.1.4), so
	// that a part of one fix has it twice else.
	short bool
	lines *simplifier // nil: every fix is kept
}

func (o Options) read(source Source) (*vertices, error) {
	fixes, err := source()
	v := &vertices{fixes: fixes, o: o}
	if o.Tolerance > 0 {
		v.lines = &simplifier{tolerance: o.Tolerance}
	}
	return v, err
}

// fix is the next one, with whether it begins a part; nil after the last.
func (v *vertices) fix() (*vertex, error) {
	f, err := v.fixes.Next()
	if f == nil || err != nil {
		return nil, err
	}
	out := &vertex{Fix: *f, begins: !v.any || v.o.Gap > 0 && f.Time-v.last > v.o.Gap.Microseconds()}
	v.last, v.any = f.Time, true
	return out, nil
}

// next is the next vertex; nil after the last.
func (v *vertices) next() (*vertex, error) {
	if f := v.ahead; f != nil {
		v.ahead = nil
		return f, nil
	}
	if v.lines == nil {
		return v.fix()
	}
	return v.lines.next(v.fix)
}

// peek is what next will return.
func (v *vertices) peek() (*vertex, error) {
	if v.ahead == nil {
		var err error
		if v.ahead, err = v.next(); err != nil {
			return nil, err
		}
	}
	return v.ahead, nil
}

// part hands f the vertices up to where the next part begins, and reports whether there
// is one.
func (v *vertices) part(f func(*vertex) error) (more bool, err error) {
	for n := 0; ; n++ {
		c, err := v.next()
		if err != nil || c == nil {
			return false, err
		}
		if err := f(c); err != nil {
			return false, err
		}
		ahead, err := v.peek()
		if err != nil {
			return false, err
		}
		if ahead != nil && !ahead.begins {
			continue
		}
		if n == 0 && !v.short {
			err = f(c)
		}
		return ahead != nil, err
	}
}

// rising leaves out fixes of a time that another had.
func rising(source Source) Source {
	return func() (Fixes, error) {
		fixes, err := source()
		return &risingFixes{fixes: fixes, last: math.MinInt64}, err
	}
}

type risingFixes struct {
	fixes Fixes
	last  int64
}

func (r *risingFixes) Next() (*plan.Fix, error) {
	for {
		f, err := r.fixes.Next()
		if f == nil || err != nil {
			return nil, err
		}
		if f.Time > r.last {
			r.last = f.Time
			return f, nil
		}
	}
}

// appendTime appends a time as RFC 3339 has it, in UTC.
func appendTime(dst []byte, micros int64) []byte {
	return time.UnixMicro(micros+filter.PostgresEpoch).UTC().AppendFormat(dst, time.RFC3339Nano)
}
