package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"cairn/bus"
	"cairn/event"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Salvaged says what a salvage did.
type Salvaged struct {
	Read      uint64 // messages that the old stream still gave
	Applied   uint64 // of these, those that the database has for certain
	Missing   uint64 // sequences between its first and last that it did not
	First     uint64 // the new stream's first sequence
	Published uint64 // messages published again
}

// Salvage puts a new stream in the place of one that the database was not fed
// from, or that is damaged or gone. What the old one still has is published
// again, with new positions, but for what the database has applied (see applied.go):
// applied once more it would bring back what was dropped, and replace what is newer.
// Positions that either has seen are not used again. Conditions that name the revision
// of an event which is published again name its new one.
//
// It may be ended at any point and run again: the old stream's messages are
// copied to a stream of their own before it is deleted, and that one goes last.
// Writes are refused from its beginning until all of it is in the new stream, or what
// is older would come after them.
//
// acknowledged is the highest sequence that writers were told, where that is
// known (see server.ReadAcknowledged); 0 where not.
func Salvage(ctx context.Context, endpoint bus.Endpoint, databaseURL string, maxBytes int64, acknowledged uint64, log *slog.Logger) (done Salvaged, err error) {
	nc, err := bus.Reach(ctx, endpoint, log)
	if err != nil {
		return done, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return done, fmt.Errorf("open JetStream: %w", err)
	}
	from, err := sourceOf(ctx, js, databaseURL)
	if err != nil {
		return done, err
	}
	conn, err := from.connect(ctx, "cairn-salvage")
	if err != nil {
		return done, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	at, err := readCheckpoint(ctx, conn)
	if err != nil {
		return done, err
	}
	if s, _, err := openStream(ctx, js, conn, at, Config{Log: log, MaxBytes: maxBytes}); err == nil && s.CachedInfo().State.LastSeq >= acknowledged {
		_, closed := bus.SalvagedTo(s.CachedInfo()) // by a salvage that was ended
		if _, err := js.Stream(ctx, bus.SalvageStream); !closed && errors.Is(err, jetstream.ErrStreamNotFound) {
			return done, errors.New("stream and database belong together: there is nothing to salvage")
		}
	} else if stop := (*Mismatch)(nil); err != nil && !errors.As(err, &stop) {
		return done, err
	}
	var highest int64
	err = conn.QueryRow(ctx, `select greatest(max(position), max(revision), (select floor from checkpoint), 0) from points`).Scan(&highest)
	if err != nil {
		return done, fmt.Errorf("look for the last position: %w", err)
	}
	s := &salvage{js: js, conn: conn, log: log, done: &done, at: at, acknowledged: acknowledged, above: max(at.sequence, event.Position(highest).Sequence(), acknowledged)}
	if err := s.copyOld(ctx); err != nil {
		return done, err
	}
	stream, err := s.newStream(ctx, maxBytes)
	if err != nil {
		return done, err
	}
	created := bus.CreatedAt(stream.CachedInfo())
	_, err = conn.Exec(ctx, `update checkpoint set stream_created = $1, sequence = $2, message_id = '', updated_at = now()
		where stream_created is distinct from $1`,
		created, int64(done.First-1)) //nolint:gosec // a sequence
	if err != nil {
		return done, fmt.Errorf("note the new stream in the checkpoint: %w", err)
	}
	return done, s.publishAgain(ctx)
}

type salvage struct {
	js   jetstream.JetStream
	conn *pgx.Conn
	log  *slog.Logger
	done *Salvaged
	at   checkpoint
	// acknowledged is the highest sequence that writers were told; 0: not known.
	acknowledged uint64
	above        uint64 // the new stream begins above this sequence
	moved        moved
}

// copyOld seals the old stream, copies it, and deletes it. Where it is gone
// already, there is nothing to do.
func (s *salvage) copyOld(ctx context.Context) error {
	old, err := s.js.Stream(ctx, bus.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s.log.Info("salvage: there is no old stream")
		return nil
	}
	if err != nil {
		return err
	}
	if copied, err := s.js.Stream(ctx, bus.SalvageStream); err == nil && old.CachedInfo().State.FirstSeq > bus.SalvagedAbove(copied.CachedInfo()) {
		return nil // it is the new one: an earlier salvage came this far
	}
	cfg := old.CachedInfo().Config
	cfg.Sealed = true // no write is acknowledged that would not be copied
	if old, err = s.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("seal the old stream: %w", err)
	}
	state := old.CachedInfo().State
	s.above = max(s.above, state.LastSeq)
	if err := s.js.DeleteStream(ctx, bus.SalvageStream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("clear an earlier salvage: %w", err)
	}
	if _, err := bus.CreateSalvageStream(ctx, s.js, s.above); err != nil {
		return err
	}
	applied, err := s.applied(ctx, old)
	if err != nil {
		return err
	}
	for sequence := state.FirstSeq; state.Msgs > 0 && sequence <= state.LastSeq; sequence++ {
		if sequence <= applied {
			s.done.Applied++
			continue
		}
		m, err := old.GetMsg(ctx, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			s.done.Missing++
			continue
		}
		if err != nil {
			return fmt.Errorf("read message %d of the old stream: %w", sequence, err)
		}
		if m.Header == nil {
			m.Header = nats.Header{}
		}
		m.Header.Set(bus.HeaderSalvaged, strconv.FormatUint(sequence, 10))
		if err := s.publish(ctx, bus.SalvageSubject, m.Header, m.Data); err != nil {
			return err
		}
		s.done.Read++
	}
	s.log.Info("salvage: copied the old stream", "messages", s.done.Read, "applied", s.done.Applied, "missing", s.done.Missing)
	return s.js.DeleteStream(ctx, bus.Stream)
}

// newStream makes the stream, closed to writers, or finds the one that an earlier salvage made.
func (s *salvage) newStream(ctx context.Context, maxBytes int64) (jetstream.Stream, error) {
	stream, err := s.js.Stream(ctx, bus.Stream)
	if err == nil {
		s.done.First = stream.CachedInfo().State.FirstSeq
		return stream, nil
	}
	if copied, err := s.js.Stream(ctx, bus.SalvageStream); err == nil {
		s.above = max(s.above, bus.SalvagedAbove(copied.CachedInfo()))
	}
	s.done.First = s.above + 1
	// In a cluster its nodes raise the number of copies.
	return bus.CreateClosed(ctx, s.js, s.above, maxBytes)
}

// publishAgain moves the copied messages into the new stream, and opens that.
func (s *salvage) publishAgain(ctx context.Context) error {
	stream, err := s.js.Stream(ctx, bus.Stream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", bus.Stream, err)
	}
	copied, err := s.js.Stream(ctx, bus.SalvageStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.open(ctx, stream)
	}
	if err != nil {
		return err
	}
	subject, closed := bus.SalvagedTo(stream.CachedInfo())
	if !closed && bus.Opened(stream.CachedInfo()) {
		return s.js.DeleteStream(ctx, bus.SalvageStream) // all of it is there
	}
	// What an earlier salvage published is the beginning: nobody else writes.
	above := bus.SalvagedAbove(copied.CachedInfo())
	there := uint64(0)
	if last := stream.CachedInfo().State.LastSeq; closed && last > above {
		there = last - above
	}
	state := copied.CachedInfo().State
	for sequence := state.FirstSeq; state.Msgs > 0 && sequence <= state.LastSeq; sequence++ {
		m, err := copied.GetMsg(ctx, sequence)
		if err != nil {
			return fmt.Errorf("read message %d of the copy: %w", sequence, err)
		}
		data, err := s.renumber(ctx, copied, m)
		if err != nil {
			return err
		}
		s.moved.note(m.Header, sequence, above+sequence)
		if sequence <= there {
			continue
		}
		if err := s.publish(ctx, subject, m.Header, data); err != nil {
			return err
		}
		s.done.Published++
	}
	if err := s.open(ctx, stream); err != nil {
		return err
	}
	return s.js.DeleteStream(ctx, bus.SalvageStream)
}

func (s *salvage) open(ctx context.Context, stream jetstream.Stream) error {
	if _, closed := bus.SalvagedTo(stream.CachedInfo()); !closed {
		return nil
	}
	return bus.Open(ctx, s.js)
}

// publishRetry is the pause where the stream is full and the projector has to
// make room first.
const publishRetry = 500 * time.Millisecond

func (s *salvage) publish(ctx context.Context, subject string, header nats.Header, data []byte) error {
	m := &nats.Msg{Subject: subject, Header: header, Data: data}
	for {
		_, err := s.js.PublishMsg(ctx, m)
		if err == nil || !bus.IsFull(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(publishRetry):
		}
	}
}
