package projector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"cairn/bus"
	"cairn/event"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

// Which of a stream's messages the database has applied is known by the checkpoint,
// while the stream is whole. One that went back, because its store lost its end or is
// from a backup, and took writes since, has other messages at the same sequences. So
// the database remembers the ids of messages that it applied: of the last few thousand
// batches each, and of those before ever fewer.

const (
	// appliedSlots is how many are remembered of each kind: every second batch, every
	// fourth, and so on. The distance between two that are remembered is at most a
	// 2,048th of their age, in batches, and all of them are some 100,000 rows.
	appliedSlots = 4096
	// appliedIDBytes is more than the id of any message that Cairn made; a longer one
	// is not remembered.
	appliedIDBytes = 64
)

// slotOf is where the batch with that number is remembered, counted from 1.
func slotOf(number uint64) int {
	kind := bits.TrailingZeros64(number)
	return kind*appliedSlots + int(number>>(kind+1)%appliedSlots) //nolint:gosec // below 64 × 4,096
}

// remember is the statement that notes the batch's last message as applied; "" if there is none.
func (w *writer) remember(b *batch) string {
	if w.bracket != fenced || b.empty() || b.lastID == "" || len(b.lastID) > appliedIDBytes {
		return ""
	}
	return fmt.Sprintf(`insert into applied_messages (slot, sequence, message_id) values (%d, %d, '%s')
		on conflict (slot) do update set sequence = excluded.sequence, message_id = excluded.message_id; `, slotOf(w.number), b.last, quote(b.lastID))
}

// applied is the sequence up to which the database has all of the stream for certain: a
// message there is still the one that it applied. Where the checkpoint's message is lost,
// nothing has come in its place if the mark of what was acknowledged is there: a store
// that ends before it takes no writes.
func (s *salvage) applied(ctx context.Context, old jetstream.Stream) (uint64, error) {
	if s.at.messageID != "" && s.at.streamCreated.Equal(bus.CreatedAt(old.CachedInfo())) {
		id, err := bus.MessageID(ctx, old, s.at.sequence)
		switch {
		case err == nil && id == s.at.messageID, errors.Is(err, bus.ErrNoMessage) && s.acknowledged >= s.at.sequence:
			return s.at.sequence, nil
		case err != nil && !errors.Is(err, bus.ErrNoMessage):
			return 0, err
		}
	}
	above, err := s.remembered(ctx, old)
	if err != nil {
		return 0, err
	}
	return s.traced(ctx, old, above)
}

// remembered is the highest sequence whose message is one that the database remembers.
func (s *salvage) remembered(ctx context.Context, old jetstream.Stream) (uint64, error) {
	state := old.CachedInfo().State
	rows, err := s.conn.Query(ctx, `select sequence, message_id from applied_messages where sequence between $1 and $2 order by sequence desc`,
		state.FirstSeq, min(state.LastSeq, s.at.sequence))
	if err != nil {
		return 0, fmt.Errorf("read what was applied: %w", err)
	}
	type message struct {
		Sequence uint64
		ID       string
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[message])
	if err != nil {
		return 0, fmt.Errorf("read what was applied: %w", err)
	}
	for _, m := range all {
		id, err := bus.MessageID(ctx, old, m.Sequence)
		if err != nil && !errors.Is(err, bus.ErrNoMessage) {
			return 0, err
		}
		if err == nil && id == m.ID {
			return m.Sequence, nil
		}
	}
	return 0, nil
}

// traceStep is how many messages are looked at together: their points fit into memory.
const traceStep = 128

// traced is the highest sequence above the given one whose message left a row that is
// still as that message made it, or the given one: what is remembered has gaps.
func (s *salvage) traced(ctx context.Context, old jetstream.Stream, above uint64) (uint64, error) {
	state := old.CachedInfo().State
	if state.Msgs == 0 {
		return above, nil
	}
	above = max(above, state.FirstSeq-1)
	for high := min(state.LastSeq, s.at.sequence); high > above; high -= min(traceStep, high-above) {
		low := max(above, high-min(traceStep, high))
		traces, err := s.traces(ctx, low, high)
		if err != nil {
			return 0, err
		}
		for sequence := high; sequence > low && len(traces) > 0; sequence-- {
			if len(traces[sequence]) == 0 {
				continue
			}
			m, err := old.GetMsg(ctx, sequence)
			if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				return 0, fmt.Errorf("read message %d of the old stream: %w", sequence, err)
			}
			if err == nil && left(traces[sequence], m) {
				return sequence, nil
			}
		}
	}
	return above, nil
}

// A trace is what a row says of the event that made it as it is.
type trace struct {
	id       uuid.UUID
	received time.Time
}

// traces are those of messages above low and up to high, by sequence and position.
func (s *salvage) traces(ctx context.Context, low, high uint64) (map[uint64]map[event.Position]trace, error) {
	rows, err := s.conn.Query(ctx, `select position, id, received_at from points where position >= $1 and position < $2 and revision is null
		union all select revision, id, received_at from points where revision >= $1 and revision < $2`, int64(event.At(low+1, 0)), int64(event.At(high+1, 0)))
	if err != nil {
		return nil, fmt.Errorf("look for the rows of messages %d to %d: %w", low+1, high, err)
	}
	traces := map[uint64]map[event.Position]trace{}
	var position int64
	var t trace
	_, err = pgx.ForEachRow(rows, []any{&position, (*[16]byte)(&t.id), &t.received}, func() error {
		at := event.Position(position)
		if traces[at.Sequence()] == nil {
			traces[at.Sequence()] = map[event.Position]trace{}
		}
		traces[at.Sequence()][at] = t
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for the rows of messages %d to %d: %w", low+1, high, err)
	}
	return traces, nil
}

// left reports whether one of the rows is as an event of the message made it. One that
// was sent again has another time of receipt.
func left(traces map[event.Position]trace, m *jetstream.RawStreamMsg) bool {
	var decoder event.Decoder
	index := 0
	for line := range bytes.Lines(m.Data) {
		var e event.Event
		t, there := traces[event.At(m.Sequence, min(index, event.MaxIndex))]
		if there && decoder.Event(bytes.TrimSuffix(line, []byte("\n")), &e) == nil && e.ID == t.id && e.Received.Equal(t.received) {
			return true
		}
		index++
	}
	return false
}
