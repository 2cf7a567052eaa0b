package projector

import (
	"testing"
	"time"

	"cairn/bus"
)

func TestRate(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0)
	var r rate
	for i := range 30 { // 90 events a second, 18 of them changes
		r.add(begin.Add(time.Duration(i)*time.Second), &verdict{counted: map[bus.Outcome]int{bus.OutcomeCreated: 60, bus.OutcomeUnchanged: 12, bus.OutcomeReplaced: 10, bus.OutcomeDeleted: 8}})
	}
	for _, tt := range []struct {
		name            string
		after           time.Duration
		events, changes float64
	}{
		{"at once", 30 * time.Second, 90, 18},
		{"a third of the span later", 33 * time.Second, 60, 12},
		{"a minute later", 90 * time.Second, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if events, changes := r.perSecond(begin.Add(tt.after)); events != tt.events || changes != tt.changes {
				t.Errorf("%v events and %v changes a second, want %v and %v", events, changes, tt.events, tt.changes)
			}
		})
	}
}
