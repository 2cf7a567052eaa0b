package bus

import (
	"context"
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
	result, err = request[ResourceResult](ctx, nc, SubjectKeep, k, ErrChangesUnavailable)
	if err == nil && result.Error != "" {
		err = fmt.Errorf("%w: %s", ErrChangesUnavailable, result.Error)
	}
	return result, err
}

// ServeChanges makes such changes, with keep, until the connection closes.
func ServeChanges(nc *nats.Conn, keep func(ResourceChange) (ResourceResult, error)) error {
	return respond(nc, SubjectKeep, maxChanges, keep, func(failure string) ResourceResult { return ResourceResult{Error: failure} })
}
