package server

import (
	"encoding/json"
	"fmt"
	"time"

	"cairn/bus"

	"github.com/nats-io/nats.go"
)

const (
	// direct is where JetStream answers requests for messages of the stream.
	direct = api + "DIRECT.GET." + bus.Stream
	// subjectGet is where those of the user without a password come to instead. A request
	// may ask for a batch, and the server would put all of it into memory, however large
	// the request says it may be, before anybody has read any of it.
	subjectGet = "cairn.get"
	// singleTimeout bounds what takes microseconds while the stream works.
	singleTimeout = 2 * time.Second
)

// A single is a request for one message (nats-server, JSApiMsgGetRequest).
type single struct {
	Seq       uint64     `json:"seq,omitempty"`
	LastFor   string     `json:"last_by_subj,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	NoHeaders bool       `json:"no_hdr,omitempty"`
}

// serveSingles passes requests for one message on, and refuses others.
func serveSingles(nc *nats.Conn) error {
	_, err := nc.QueueSubscribe(subjectGet, subjectGet, func(m *nats.Msg) {
		var r struct {
			single
			Batch    int      `json:"batch"`
			MaxBytes int      `json:"max_bytes"`
			Multi    []string `json:"multi_last"`
		}
		err := json.Unmarshal(m.Data, &r)
		if err != nil || r.Batch != 0 || r.MaxBytes != 0 || len(r.Multi) > 0 {
			_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"408"}, "Description": {"Only Single Messages"}}})
			return
		}
		// Anew, so that it has nothing that was not looked at; and in the middle, because a
		// client may not name another account's reply subject. Without an answer, there is none.
		data, err := json.Marshal(r.single)
		if err != nil {
			return
		}
		if found, err := nc.Request(direct, data, singleTimeout); err == nil {
			_ = m.RespondMsg(&nats.Msg{Header: found.Header, Data: found.Data})
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subjectGet, err)
	}
	return nil
}
