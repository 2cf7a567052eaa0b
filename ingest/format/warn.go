package format

import (
	"cmp"
	"fmt"
	"slices"

	"cairn/event"
)

// maxWarnings bounds the different warnings about one body; those about a row
// that say the same of the same field are one, with a count.
const maxWarnings = 50

// A Warning reports something that was stored, but perhaps not as it was meant.
type Warning struct {
	Row    int64  `json:"row,omitempty"` // the first one it is about; 0 for the body as a whole
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
	Count  int64  `json:"count"` // of rows
}

type warningKey struct{ field, kind string }

// Warnings are those about one body. The zero value is ready; it belongs to the
// goroutine that reads.
type Warnings struct {
	Strict bool // what would be a warning refuses its row

	all   map[warningKey]*Warning
	total int64
}

// Reset forgets them.
func (w *Warnings) Reset() { *w = Warnings{} }

// add reports a field of a row; warnings of one kind are counted together. With
// ?strict it returns an error, which rejects the row.
func (w *Warnings) add(row int64, field, kind, reason string) error {
	if w == nil {
		return nil
	}
	if w.Strict {
		return &event.FieldError{Reason: field + ": " + reason}
	}
	if kind == notATime || kind == notANumber || kind == longName {
		reason += "; it stays a property"
	}
	w.note(row, field, kind, reason)
	return nil
}

// note is add for what is no row's fault. It returns the warning, nil where there
// are too many.
func (w *Warnings) note(row int64, field, kind, reason string) *Warning {
	if w == nil {
		return nil
	}
	w.total++
	key := warningKey{field, kind}
	if known, ok := w.all[key]; ok {
		known.Count++
		return known
	}
	if len(w.all) == maxWarnings {
		return nil
	}
	if w.all == nil {
		w.all = map[warningKey]*Warning{}
	}
	one := &Warning{Row: row, Field: Clip(field), Reason: ClipReason(reason), Count: 1}
	w.all[key] = one
	return one
}

// List gives them in the order of their first rows.
func (w *Warnings) List() []Warning {
	list := make([]Warning, 0, len(w.all))
	for _, one := range w.all {
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}

// Total is how many there were, those included that List leaves out.
func (w *Warnings) Total() int64 { return w.total }

// The kinds of warnings.
const (
	notATime = "not a time"
	leftOut  = "left out"
	longName = "long name"

	// These are the doubts of a clock.
	noZone       = "no zone"
	skippedHour  = "skipped hour"
	repeatedHour = "repeated hour"
	notANumber   = "not a number"
)

// observe reads the time in a field of a row. What it cannot read it tells; the
// error is only of the strict.
func (o *Options) observe(p *event.Point, row int64, field, text string) error {
	t, doubt, err := o.clock.parse(text)
	if err != nil {
		return o.Warnings.add(row, field, notATime, Quote(text)+": "+err.Error()+"; "+o.parameter("time-format")+"%d/%m/%Y or the like reads others")
	}
	if doubt != "" {
		if err := o.assume(row, field, doubt); err != nil {
			return err
		}
	}
	p.Time = t
	return nil
}

// assume says that a time without a zone was taken for one of UTC.
func (o *Options) assume(row int64, field, doubt string) error {
	switch doubt {
	case skippedHour:
		return o.Warnings.add(row, field, doubt, "when clocks were set forward the time was skipped, and is read as if they had not been: "+o.parameter("time-zone")+"+01:00 or the like leaves no doubt")
	case repeatedHour:
		return o.Warnings.add(row, field, doubt, "when clocks were set back the time was there twice, and the one of them is assumed: "+o.parameter("time-zone")+"+01:00 or the like leaves no doubt")
	}
	return o.Warnings.add(row, field, noZone, "it names no time zone and is read as UTC: "+o.parameter("time-zone")+" names one")
}

// notThere says that a point lacks what the user named as the time. The error is only of
// the strict.
func (o *Options) notThere(row int64, name string) error {
	return o.Warnings.add(row, name, "not there", "the point has no property of this name, which "+o.parameter("time")+" names")
}

// tooLong says that a name is none. The error is only of the strict.
func (o *Options) tooLong(row int64, field string) error {
	return o.Warnings.add(row, field, longName, fmt.Sprintf("a name has at most %d characters, so this is not the point's", event.MaxNameRunes))
}

// A lookalike is a field that looks like a time, where none is taken for it.
type lookalike struct {
	name string // "" while none is known
	told *Warning
}

// tell counts a row without a time.
func (l *lookalike) tell(o *Options, row int64) {
	if l.name == "" || o.Warnings == nil {
		return
	}
	if l.told != nil {
		l.told.Count++
		o.Warnings.total++
		return
	}
	l.told = o.Warnings.note(row, l.name, "looks like a time", "the points have no time, but this looks like one: "+o.parameter("time")+l.name+" takes it")
}
