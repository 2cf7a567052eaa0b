package bus

import (
	"encoding/json"
	"fmt"
	"sort"

	"cairn/event"

	"github.com/nats-io/nats.go"
)

// SubjectApplied carries announcements over core NATS: a hint, which may be
// lost, and never proof.
const SubjectApplied = "cairn.applied"

// An Outcome is what became of an event. One that is not told became a row:
// [OutcomeCreated].
type Outcome string

// The outcomes of events.
const (
	OutcomeCreated      Outcome = "created"      // there is a point that was not there before
	OutcomeReplaced     Outcome = "replaced"     // the point has another content now
	OutcomeDeleted      Outcome = "deleted"      // the point is gone now
	OutcomeUnchanged    Outcome = "unchanged"    // it was like this already
	OutcomeLate         Outcome = "late"         // the creation of a point that was deleted, and stays so; see [Applied.Late]
	OutcomeConflict     Outcome = "conflict"     // parked: its id is there with other content
	OutcomeRefused      Outcome = "refused"      // parked: the database does not take it
	OutcomeUnreadable   Outcome = "unreadable"   // parked: it is no event
	OutcomeMissing      Outcome = "missing"      // there never was a point with this id
	OutcomeGone         Outcome = "gone"         // the point was deleted before
	OutcomePrecondition Outcome = "precondition" // the point is not as the event's condition asks
	OutcomeOutside      Outcome = "outside"      // the point lies where whoever wrote the event may change none
)

// Parked reports whether the event was parked.
func (o Outcome) Parked() bool {
	return o == OutcomeConflict || o == OutcomeRefused || o == OutcomeUnreadable
}

// maxOutcomeBytes bounds the outcomes in one announcement: the server takes
// messages of 1 MiB. Those of a batch of 5,000 events need less, however they lie:
// late ones are told twice.
const maxOutcomeBytes = 512 << 10

// A Range is positions of one envelope, both ends included.
type Range [2]event.Position

// Applied announces that the projection has reached Sequence: what is there, up
// to and with that envelope, is in the database.
type Applied struct {
	// First is where the batch begins that Outcomes are about; 0 where the
	// announcement only says how far the projection is.
	First    uint64              `json:"first,omitempty"`
	Sequence uint64              `json:"sequence"`
	Outcomes map[Outcome][]Range `json:"outcomes,omitempty"`
	// Late are those of the unchanged that are [OutcomeLate]. They are told as unchanged,
	// too, for an ingest of a version that does not know of them.
	Late []Range `json:"late,omitempty"`
	// Truncated says that there were more outcomes than an announcement holds, so
	// that none is known.
	Truncated bool `json:"truncated,omitempty"`
	// Database is the lineage of the primary that has it, where that is known.
	Database string `json:"database,omitempty"`
	// Catalogue is the number of the list of segments, as the projector saw it last;
	// 0: not known. Every second's announcement has it.
	Catalogue int64 `json:"catalogue,omitempty"`
	// Parked are the positions parked, for an ingest of a version before outcomes.
	Parked []event.Position `json:"parked,omitempty"`
}

// Add notes the outcome of an event. Events come in the order of positions.
func (a *Applied) Add(p event.Position, o Outcome) {
	if o == OutcomeCreated {
		return
	}
	if o.Parked() {
		a.Parked = append(a.Parked, p)
	}
	if a.Outcomes == nil {
		a.Outcomes = map[Outcome][]Range{}
	}
	if o == OutcomeLate {
		a.Late, o = extend(a.Late, p), OutcomeUnchanged
	}
	a.Outcomes[o] = extend(a.Outcomes[o], p)
}

// extend adds a position that is behind all others.
func extend(ranges []Range, p event.Position) []Range {
	if n := len(ranges); n > 0 && ranges[n-1][1]+1 == p && ranges[n-1][1].Sequence() == p.Sequence() {
		ranges[n-1][1] = p
		return ranges
	}
	return append(ranges, Range{p, p})
}

func contains(ranges []Range, p event.Position) bool {
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i][1] >= p })
	return i < len(ranges) && ranges[i][0] <= p
}

// Outcome reports what became of the event at p, if the announcement is about it.
func (a *Applied) Outcome(p event.Position) (outcome Outcome, known bool) {
	if s := p.Sequence(); a.First == 0 || a.Truncated || s < a.First || s > a.Sequence {
		return "", false
	}
	if contains(a.Late, p) {
		return OutcomeLate, true
	}
	for outcome, ranges := range a.Outcomes {
		if contains(ranges, p) {
			return outcome, true
		}
	}
	return OutcomeCreated, true
}

// Announce tells whoever listens.
func Announce(nc *nats.Conn, a Applied) error {
	data, err := json.Marshal(a)
	if err == nil && len(data) > maxOutcomeBytes {
		data, err = json.Marshal(Applied{First: a.First, Sequence: a.Sequence, Truncated: true, Database: a.Database})
	}
	if err != nil {
		return fmt.Errorf("encode announcement: %w", err)
	}
	return nc.Publish(SubjectApplied, data)
}

// OnApplied calls f with every announcement heard until the connection closes.
func OnApplied(nc *nats.Conn, f func(Applied)) error {
	_, err := nc.Subscribe(SubjectApplied, func(m *nats.Msg) {
		var a Applied
		if json.Unmarshal(m.Data, &a) == nil {
			f(a)
		}
	})
	return err
}
