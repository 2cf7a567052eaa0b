package bus

import (
	"encoding/json"
	"fmt"

	"cairn/event"

	"github.com/nats-io/nats.go"
)

// SubjectApplied carries announcements over core NATS: a hint, which may be
// lost, and never proof.
const SubjectApplied = "cairn.applied"

// Applied announces that the projection has come to Sequence: what is there, up
// to and with that envelope, is rows now, but for the positions that it parked.
type Applied struct {
	// First is where the batch that Parked is about begins; 0 where the
	// announcement only says how far the projection is.
	First    uint64           `json:"first,omitempty"`
	Sequence uint64           `json:"sequence"`
	Parked   []event.Position `json:"parked,omitempty"`
}

// Announce tells whoever listens.
func Announce(nc *nats.Conn, a Applied) error {
	data, err := json.Marshal(a)
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
