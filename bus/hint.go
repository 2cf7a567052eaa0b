package bus

import "sync/atomic"

// A Hint is where a role tells another in its process what the database has reached,
// as soon as it hears it: announcements reach each of them by a connection of its own,
// and whoever was told by one role that their change is done may ask the other before
// that has heard of it. nil tells nobody.
type Hint struct {
	receive atomic.Pointer[func(sequence uint64)]
}

// To says who hears from now on.
func (h *Hint) To(hear func(sequence uint64)) {
	if h != nil {
		h.receive.Store(&hear)
	}
}

// Tell returns when it was heard.
func (h *Hint) Tell(sequence uint64) {
	if h == nil {
		return
	}
	if hear := h.receive.Load(); hear != nil {
		(*hear)(sequence)
	}
}
