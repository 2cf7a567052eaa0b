package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// SubjectKeep is where the projector takes changes of fences and hooks:
// ingest, which knows no database, passes them on.
const SubjectKeep = "cairn.keep"

// The kinds of resources.
const (
	KindFence = "fence"
	KindHook  = "hook"
)

// ErrChangesUnavailable says that no projector takes such a change now, or that it could not
// make it.
var ErrChangesUnavailable = errors.New("the projector takes no change of fences and hooks now")

// maxChanges bounds the changes that one projector works on at once.
const maxChanges = 16

// A ResourceChange says what is to be stored under an id.
type ResourceChange struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Body []byte `json:"body,omitempty"` // JSON; none: it is to go
}

// A ResourceResult is what became of it: created, replaced, deleted or missing, or why not.
type ResourceResult struct {
	Outcome Outcome  `json:"outcome,omitempty"`
	Body    []byte   `json:"body,omitempty"` // JSON: as it is stored
	Refusal *Refusal `json:"refusal,omitempty"`
	Error   string   `json:"error,omitempty"` // nothing is known of what became of it
}

// A Refusal is what is wrong with a change.
type Refusal struct {
	Status  int    `json:"status"` // of HTTP
	Pointer string `json:"pointer,omitempty"`
	Detail  string `json:"detail"`
}

// RequestChange asks for a change, until ctx ends. Its error is [ErrChangesUnavailable].
func RequestChange(ctx context.Context, nc *nats.Conn, k ResourceChange) (result ResourceResult, err error) {
	data, err := json.Marshal(k)
	if err != nil {
		return result, fmt.Errorf("encode a change of a %s: %w", k.Kind, err)
	}
	m, err := nc.RequestWithContext(ctx, SubjectKeep, data)
	if err != nil {
		return result, fmt.Errorf("%w: %w", ErrChangesUnavailable, err)
	}
	if err := json.Unmarshal(m.Data, &result); err != nil {
		return result, fmt.Errorf("read what became of a %s: %w", k.Kind, err)
	}
	if result.Error != "" {
		return result, fmt.Errorf("%w: %s", ErrChangesUnavailable, result.Error)
	}
	return result, nil
}

// ServeChanges makes such changes, with keep, until the connection closes.
func ServeChanges(nc *nats.Conn, keep func(ResourceChange) (ResourceResult, error)) error {
	places := make(chan struct{}, maxChanges)
	_, err := nc.QueueSubscribe(SubjectKeep, readGroup, func(m *nats.Msg) {
		select {
		case places <- struct{}{}:
		default:
			respondChange(m, ResourceResult{Error: "it has too many changes to make"})
			return
		}
		go func() {
			defer func() { <-places }()
			var k ResourceChange
			var result ResourceResult
			err := json.Unmarshal(m.Data, &k)
			if err == nil {
				result, err = keep(k)
			}
			if err != nil {
				result = ResourceResult{Error: err.Error()}
			}
			respondChange(m, result)
		}()
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", SubjectKeep, err)
	}
	return nil
}

func respondChange(m *nats.Msg, k ResourceResult) {
	if data, err := json.Marshal(k); err == nil {
		_ = m.Respond(data) // who asked waits no longer than its context
	}
}
