package ingest

import (
	"fmt"
	"testing"

	"cairn/bus"
	"cairn/event"
)

// What is told is what the announcements say, whenever they come; a lost one leaves
// its events unknown.
func TestTally(t *testing.T) {
	batch := func(first, last uint64, o bus.Outcome, ranges ...bus.Range) bus.Applied {
		return bus.Applied{First: first, Sequence: last, Outcomes: map[bus.Outcome][]bus.Range{o: ranges}}
	}
	at := event.At
	envelope := func(sequence uint64) stretch {
		return stretch{first: at(sequence, 2), count: 10, runs: []rowRun{{0, 101}, {5, 201}}}
	}
	conflict := batch(1, 2, bus.OutcomeConflict, bus.Range{at(1, 0), at(1, 3)}, bus.Range{at(2, 6), at(2, 40)})
	for _, x := range []struct {
		name string
		do   func(*projection, *tally)
	}{
		{"heard before", func(p *projection, y *tally) { p.hear(conflict); p.add(y, envelope(1)); p.add(y, envelope(2)) }},
		{"heard after", func(p *projection, y *tally) { p.add(y, envelope(1)); p.add(y, envelope(2)); p.hear(conflict) }},
		{"out of order", func(p *projection, y *tally) { p.add(y, envelope(2)); p.add(y, envelope(1)); p.hear(conflict) }},
	} {
		p := newProjection()
		y := p.track()
		x.do(p, y)
		o := p.outcomesSoFar(y)
		if got, want := fmt.Sprint(o.Created, o.Conflicts, o.Unknown, o.Open, o.Rows["conflicts"]), "12 8 0 0 [101 102 105 201 202 203 204 205]"; got != want {
			t.Errorf("%s: %s, want %s", x.name, got, want)
		}
	}
	p := newProjection()
	y := p.track()
	for sequence := range uint64(5) {
		p.add(y, envelope(sequence+1))
	}
	p.hear(bus.Applied{Sequence: 9}) // about no batch
	p.hear(batch(2, 2, bus.OutcomeUnchanged, bus.Range{at(2, 0), at(2, 99)}))
	p.hear(bus.Applied{First: 3, Sequence: 3, Truncated: true})
	p.hear(bus.Applied{First: 4, Sequence: 4})
	o := p.outcomesSoFar(y)
	if got, want := fmt.Sprint(o.Created, o.Unchanged, o.Unknown, o.Open), "10 10 20 10"; got != want {
		t.Errorf("with two lost: %s, want %s", got, want)
	}
	p.drop(y)
	p.hear(bus.Applied{First: 5, Sequence: 5})
	if p.outcomesSoFar(y).Open != 10 {
		t.Error("it hears after it was dropped")
	}
	late := batch(6, 6, bus.OutcomeUnchanged, bus.Range{at(6, 0), at(6, 8)})
	late.Late = []bus.Range{{at(6, 3), at(6, 3)}, {at(6, 7), at(6, 8)}}
	z := p.track()
	p.hear(late)
	p.add(z, envelope(6))
	p.drop(z)
	if o := p.outcomesSoFar(z); fmt.Sprint(o.Created, o.Unchanged, o.DeletedBefore, o.Rows["deleted_before"]) != "3 7 3 [102 201 202]" {
		t.Errorf("of deleted points: %+v", o)
	}
}
