package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// SubjectKeep is where the projector takes changes of what is kept beside the points:
// ingest, which knows no database, passes them on.
const SubjectKeep = "cairn.keep"

// The kinds of what is kept.
const (
	KindFence = "fence"
	KindHook  = "hook"
)

// ErrKeeperAway says that no projector takes such a change now, or that it could not
// make it.
var ErrKeeperAway = errors.New("the projector takes no change of fences and hooks now")

// maxKeeps bounds the changes that one projector works on at once.
const maxKeeps = 16

// A Keep is a change: what is to be kept under an id.
type Keep struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Body []byte `json:"body,omitempty"` // JSON; none: it is to go
}

// A Kept is what became of it: created, replaced, deleted or missing, or why not.
type Kept struct {
	Outcome Outcome  `json:"outcome,omitempty"`
	Body    []byte   `json:"body,omitempty"` // JSON: as it is kept
	Refusal *Refusal `json:"refusal,omitempty"`
	Error   string   `json:"error,omitempty"` // nothing is known of what became of it
}

// A Refusal is what is wrong with a change.
type Refusal struct {
	Status  int    `json:"status"` // of HTTP
	Pointer string `json:"pointer,omitempty"`
	Detail  string `json:"detail"`
}

// AskToKeep asks for a change, until ctx ends. Its error is [ErrKeeperAway].
func AskToKeep(ctx context.Context, nc *nats.Conn, k Keep) (kept Kept, err error) {
	data, err := json.Marshal(k)
	if err != nil {
		return kept, fmt.Errorf("encode a change of a %s: %w", k.Kind, err)
	}
	m, err := nc.RequestWithContext(ctx, SubjectKeep, data)
	if err != nil {
		return kept, fmt.Errorf("%w: %w", ErrKeeperAway, err)
	}
	if err := json.Unmarshal(m.Data, &kept); err != nil {
		return kept, fmt.Errorf("read what became of a %s: %w", k.Kind, err)
	}
	if kept.Error != "" {
		return kept, fmt.Errorf("%w: %s", ErrKeeperAway, kept.Error)
	}
	return kept, nil
}

// ServeKeep makes such changes, with keep, until the connection closes.
func ServeKeep(nc *nats.Conn, keep func(Keep) (Kept, error)) error {
	places := make(chan struct{}, maxKeeps)
	_, err := nc.QueueSubscribe(SubjectKeep, readGroup, func(m *nats.Msg) {
		select {
		case places <- struct{}{}:
		default:
			answerKeep(m, Kept{Error: "it has too many changes to make"})
			return
		}
		go func() {
			defer func() { <-places }()
			var k Keep
			var kept Kept
			err := json.Unmarshal(m.Data, &k)
			if err == nil {
				kept, err = keep(k)
			}
			if err != nil {
				kept = Kept{Error: err.Error()}
			}
			answerKeep(m, kept)
		}()
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", SubjectKeep, err)
	}
	return nil
}

func answerKeep(m *nats.Msg, k Kept) {
	if data, err := json.Marshal(k); err == nil {
		_ = m.Respond(data) // who asked waits no longer than its context
	}
}
