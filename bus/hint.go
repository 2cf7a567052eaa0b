package bus

import "sync/atomic"

// A Hint passes what the database has reached from one role to another in the same
// process. Announcements reach each role over a connection of its own, so a client that
// one role has told that its change is done may ask the other before the announcement
// has reached that. A nil Hint notifies nobody.
type Hint struct {
	receive atomic.Pointer[func(sequence uint64)]
}

// OnNotify sets the function that is called from now on.
func (h *Hint) OnNotify(receive func(sequence uint64)) {
	if h != nil {
		h.receive.Store(&receive)
	}
}

// Notify returns when the function has.
func (h *Hint) Notify(sequence uint64) {
	if h == nil {
		return
	}
	if receive := h.receive.Load(); receive != nil {
		(*receive)(sequence)
	}
}
