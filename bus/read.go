package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"cairn/event"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// SubjectRead is where the projector answers for single points: ingest, which
// knows no database, asks there before it merges a patch.
const SubjectRead = "cairn.read"

// readGroup makes one of several projectors answer.
const readGroup = "projector"

// maxReads bounds the requests that one projector works on at once; a further one
// is refused at once.
const maxReads = 64

// ErrReadsUnavailable says that no projector answers for points now.
var ErrReadsUnavailable = errors.New("the projector does not answer for points now")

// A Stored is what the database has of one point.
type Stored struct {
	Found    bool           `json:"found"`
	Deleted  bool           `json:"deleted"`
	Position event.Position `json:"position"`
	// Revision is the position of its last change: what a condition asks for.
	Revision event.Position `json:"revision"`
	// Point is its GeoJSON Feature; nil where there is none.
	Point json.RawMessage `json:"point,omitempty"`
}

type readRequest struct {
	ID uuid.UUID `json:"id"`
}

type readAnswer struct {
	Stored
	Error string `json:"error,omitempty"`
}

// Read asks the projector for a point, until ctx ends. Its error is
// [ErrReadsUnavailable] where nobody could answer.
func Read(ctx context.Context, nc *nats.Conn, id uuid.UUID) (Stored, error) {
	data, err := json.Marshal(readRequest{id})
	if err != nil {
		return Stored{}, fmt.Errorf("encode the request for a point: %w", err)
	}
	m, err := nc.RequestWithContext(ctx, SubjectRead, data)
	if err != nil {
		return Stored{}, fmt.Errorf("%w: %w", ErrReadsUnavailable, err)
	}
	var answer readAnswer
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return Stored{}, fmt.Errorf("read the answer for a point: %w", err)
	}
	if answer.Error != "" {
		return Stored{}, fmt.Errorf("%w: %s", ErrReadsUnavailable, answer.Error)
	}
	return answer.Stored, nil
}

// ServeRead answers for points, with read, until the connection closes.
func ServeRead(nc *nats.Conn, read func(id uuid.UUID) (Stored, error)) error {
	places := make(chan struct{}, maxReads)
	_, err := nc.QueueSubscribe(SubjectRead, readGroup, func(m *nats.Msg) {
		select {
		case places <- struct{}{}:
		default:
			respond(m, readAnswer{Error: "it has too many requests to answer"})
			return
		}
		go func() {
			defer func() { <-places }()
			var q readRequest
			var answer readAnswer
			err := json.Unmarshal(m.Data, &q)
			if err == nil {
				answer.Stored, err = read(q.ID)
			}
			if err != nil {
				answer.Error = err.Error()
			}
			respond(m, answer)
		}()
	})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", SubjectRead, err)
	}
	return nil
}

func respond(m *nats.Msg, a readAnswer) {
	data, err := json.Marshal(a)
	if err == nil {
		_ = m.Respond(data) // the caller waits no longer than its context
	}
}
