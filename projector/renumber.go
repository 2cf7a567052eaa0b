package projector

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"strconv"

	"cairn/bus"
	"cairn/event"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// moved says which messages of an old stream were copied, and where they are: runs of
// sequences that follow one another in both, in their order.
type moved []movedRun

type movedRun struct {
	old, copied, new uint64 // the first sequence of each
	count            uint64
}

// note adds a message that follows those before it.
func (m *moved) note(h nats.Header, copied, now uint64) {
	old, err := strconv.ParseUint(h.Get(bus.HeaderSalvaged), 10, 64)
	if err != nil {
		return // an earlier version copied it
	}
	if n := len(*m); n > 0 {
		if last := &(*m)[n-1]; last.old+last.count == old && last.new+last.count == now {
			last.count++
			return
		}
	}
	*m = append(*m, movedRun{old, copied, now, 1})
}

// find is where a message of the old stream is in the copy and in the new one.
func (m moved) find(old uint64) (copied, now uint64, ok bool) {
	i := sort.Search(len(m), func(i int) bool { return m[i].old > old }) - 1
	if i < 0 || old >= m[i].old+m[i].count {
		return 0, 0, false
	}
	return m[i].copied + old - m[i].old, m[i].new + old - m[i].old, true
}

// renumber is the message's envelope with the conditions that name the revision of an
// event which was moved before it: they name its new position. A number that is not
// that of an event about the same point is a revision that the database has.
func (s *salvage) renumber(ctx context.Context, copied jetstream.Stream, m *jetstream.RawStreamMsg) ([]byte, error) {
	if !bytes.Contains(m.Data, []byte(`,"if":`)) {
		return m.Data, nil
	}
	var decoder event.Decoder
	var out []byte
	for line := range bytes.Lines(m.Data) {
		var e event.Event
		if err := decoder.Event(bytes.TrimSuffix(line, []byte("\n")), &e); err == nil {
			if revision, ok := e.If.Revision(); ok {
				now, err := s.revisionNow(ctx, copied, revision, e.ID)
				if err != nil {
					return nil, err
				}
				// It is before anything that a client chose.
				line = bytes.Replace(line, conditionOf(revision), conditionOf(now), 1)
			}
		}
		out = append(out, line...)
	}
	return out, nil
}

func conditionOf(revision event.Position) []byte {
	return strconv.AppendInt([]byte(`,"if":`), int64(revision), 10)
}

func (s *salvage) revisionNow(ctx context.Context, copied jetstream.Stream, revision event.Position, id uuid.UUID) (event.Position, error) {
	at, now, ok := s.moved.find(revision.Sequence())
	if !ok {
		return revision, nil
	}
	m, err := copied.GetMsg(ctx, at)
	if err != nil {
		return 0, fmt.Errorf("read message %d of the copy: %w", at, err)
	}
	var decoder event.Decoder
	var e event.Event
	index := 0
	for line := range bytes.Lines(m.Data) {
		if index == revision.Index() && decoder.Event(bytes.TrimSuffix(line, []byte("\n")), &e) == nil && e.ID == id {
			return event.At(now, index), nil
		}
		index++
	}
	return revision, nil
}
