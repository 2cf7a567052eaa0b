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
	answer, err := request[readAnswer](ctx, nc, SubjectRead, readRequest{id}, ErrReadsUnavailable)
	if err == nil && answer.Error != "" {
		err = fmt.Errorf("%w: %s", ErrReadsUnavailable, answer.Error)
	}
	return answer.Stored, err
}

// ServeRead answers for points, with read, until the connection closes.
func ServeRead(nc *nats.Conn, read func(id uuid.UUID) (Stored, error)) error {
	return respond(nc, SubjectRead, maxReads, func(q readRequest) (a readAnswer, err error) {
		a.Stored, err = read(q.ID)
		return a, err
	}, func(failure string) readAnswer { return readAnswer{Error: failure} })
}
