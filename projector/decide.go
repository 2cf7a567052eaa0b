package projector

import (
	"time"

	"cairn/bus"
	"cairn/event"

	"github.com/google/uuid"
	"github.com/paulmach/orb"
)

// A point is what is known of one id while a batch is decided about: first what
// the database has, then what each event made of it.
type point struct {
	id       uuid.UUID
	there    bool   // in the database before the batch
	segment  int    // where, if it is there; else 0
	moved    bool   // it lies in its segment's table of changed rows
	tid      string // where its row lies
	exists   bool   // now, deleted or not
	deleted  bool
	position event.Position // where it was created
	revision event.Position // its last change; its position where there was none
	content  int            // two of one id with the same number say the same
	// What the batch did: the row whose content it has, or none of them.
	source  int
	was     bool // it was there and not deleted, before the batch
	changed bool // it has a revision that is not its position
	touched bool // the batch did something to it
	author  string
	// where it is, if it is there and the batch asks for that.
	where orb.Point
	// What it was called before the batch, and when it was observed, if it was there.
	name string
	at   time.Time
}

const stored = -1 // a point's source: what the database has

// decide applies the row's event to its point and says what became of it. The
// whole meaning of events is here:
//
//	             never was   there, same   there, other   deleted
//	created      created     unchanged     conflict       late
//	put          created     unchanged     replaced       created
//	deleted      missing     deleted       deleted        gone
//
// A condition that asks for a point is answered with missing and gone where there
// is none; every other one that does not hold with precondition. An event that the
// point has seen already (a replay) changes nothing.
func (p *point) decide(index int, r *row, content int) bus.Outcome {
	if p.exists && r.position <= p.revision {
		return bus.OutcomeUnchanged
	}
	if outcome := p.refuse(r.need, r.kind); outcome != "" {
		return outcome
	}
	switch {
	case r.kind == event.Deleted && !p.exists:
		return bus.OutcomeMissing
	case r.kind == event.Deleted && p.deleted:
		return bus.OutcomeGone
	case r.kind == event.Deleted:
		p.deleted = true
		p.change(r)
		return bus.OutcomeDeleted
	case !p.exists:
		p.exists, p.touched, p.position, p.revision = true, true, r.position, r.position
		p.source, p.content, p.author, p.where = index, content, r.author, r.at
		return bus.OutcomeCreated
	case r.kind == event.Created && p.deleted:
		return bus.OutcomeLate
	case !p.deleted && p.content == content:
		return bus.OutcomeUnchanged
	case r.kind == event.Created:
		return bus.OutcomeConflict
	}
	outcome := bus.OutcomeReplaced
	if p.deleted {
		outcome = bus.OutcomeCreated
	}
	p.deleted, p.source, p.content, p.where = false, index, content, r.at
	p.change(r)
	return outcome
}

func (p *point) change(r *row) {
	p.revision, p.changed, p.touched, p.author = r.position, true, true, r.author
}

// refuse is the outcome of an event whose condition does not hold, or "".
func (p *point) refuse(need event.Condition, kind string) bus.Outcome {
	revision, exact := need.Revision()
	live := p.exists && !p.deleted
	a := need.Area()
	// Where a deleted point was is not known any more.
	outside := a != nil && p.exists && (p.deleted || !a.Has(p.where[0], p.where[1]))
	switch {
	case need.None() && live:
		return bus.OutcomePrecondition
	case outside && (exact || need.Any() || kind == event.Deleted): // to whoever wrote it, there is none
		return bus.OutcomeMissing
	case outside && live:
		return bus.OutcomeOutside
	case (need.Any() || exact) && !p.exists:
		return bus.OutcomeMissing
	case (need.Any() || exact) && p.deleted:
		return bus.OutcomeGone
	case exact && p.revision != revision:
		return bus.OutcomePrecondition
	}
	return ""
}

// An eventOutcome is what became of one event, where the batch does not say it by leaving it out.
type eventOutcome struct {
	position event.Position
	outcome  bus.Outcome
}

// A verdict is what a batch does: the points it touches, and what became of each
// event.
type verdict struct {
	points   map[uuid.UUID]*point
	order    []*point // by their first event
	staged   map[event.Position]stagedRow
	outcomes []eventOutcome
	applied  []int // the rows that did something to a point
	parked   []parkedEvent
	counted  map[bus.Outcome]int
}

func (v *verdict) add(p event.Position, o bus.Outcome) {
	counted := o
	if o == bus.OutcomeLate {
		counted = bus.OutcomeUnchanged
	}
	v.counted[counted]++
	if o != bus.OutcomeCreated {
		v.outcomes = append(v.outcomes, eventOutcome{p, o})
	}
}
