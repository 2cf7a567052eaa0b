package projector

import (
	"errors"
	"testing"

	"cairn/bus"
)

// A mismatch stops at once where the stream has one copy, and at the second look
// where a new leader may not have counted yet what it has.
func TestBelievesAMismatchTwice(t *testing.T) {
	wrong, away := mismatch("mend it", "the stream is short"), errors.New("no answer")
	stops := func(err error) bool {
		var m *Mismatch
		return errors.As(err, &m)
	}
	single := &projector{cfg: Config{Bus: bus.Endpoint{}}}
	if !stops(single.believe(wrong)) {
		t.Error("one copy: it is not believed")
	}
	several := &projector{replicated: true}
	for i, step := range []struct {
		err  error
		stop bool
	}{{wrong, false}, {wrong, true}, {wrong, true}, {away, false}, {wrong, false}, {nil, false}, {wrong, false}, {wrong, true}} {
		if got := stops(several.believe(step.err)); got != step.stop {
			t.Errorf("step %d: it stops %v, want %v", i, got, step.stop)
		}
	}
}
