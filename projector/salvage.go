package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cairn/bus"
	"cairn/event"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Salvaged says what a salvage did.
type Salvaged struct {
	Read      uint64 // messages that the old stream still gave
	Missing   uint64 // sequences between its first and last that it did not
	First     uint64 // the new stream's first sequence
	Published uint64 // messages published again
}

// Salvage puts a new stream in the place of one that the database was not fed
// from, or that is damaged or gone. What the old one still has is published
// again, with new positions: those that are rows already add nothing, because
// their ids are there. Positions that either has seen are not used again.
//
// It may be ended at any point and run again: the old stream's messages are
// copied to a stream of their own before it is deleted, and that one goes last.
// Writes are refused from its beginning until the new stream is there.
//
// acknowledged is the highest sequence that writers were told, where that is
// known (see server.ReadMark); 0 where not.
func Salvage(ctx context.Context, endpoint bus.Endpoint, databaseURL string, maxBytes int64, acknowledged uint64, log *slog.Logger) (done Salvaged, err error) {
	nc, err := bus.Connect(endpoint, log)
	if err != nil {
		return done, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return done, fmt.Errorf("open JetStream: %w", err)
	}
	conn, err := connectAs(ctx, databaseURL, "cairn-salvage")
	if err != nil {
		return done, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	at, err := readCheckpoint(ctx, conn)
	if err != nil {
		return done, err
	}
	if s, _, err := openStream(ctx, js, conn, at, Config{Log: log, MaxBytes: maxBytes}); err == nil && s.CachedInfo().State.LastSeq >= acknowledged {
		if _, err := js.Stream(ctx, bus.SalvageStream); errors.Is(err, jetstream.ErrStreamNotFound) {
			return done, errors.New("stream and database belong together: there is nothing to salvage")
		}
	} else if stop := (*Mismatch)(nil); err != nil && !errors.As(err, &stop) {
		return done, err
	}
	var highest int64
	if err := conn.QueryRow(ctx, `select coalesce(max(position), 0) from points`).Scan(&highest); err != nil {
		return done, fmt.Errorf("look for the last position: %w", err)
	}
	s := &salvage{js: js, log: log, done: &done, above: max(at.sequence, event.Position(highest).Sequence(), acknowledged)}
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
	js    jetstream.JetStream
	log   *slog.Logger
	done  *Salvaged
	above uint64 // the new stream begins above this sequence
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
	for sequence := state.FirstSeq; state.Msgs > 0 && sequence <= state.LastSeq; sequence++ {
		m, err := old.GetMsg(ctx, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			s.done.Missing++
			continue
		}
		if err != nil {
			return fmt.Errorf("read message %d of the old stream: %w", sequence, err)
		}
		if err := s.publish(ctx, bus.SalvageSubject, m.Header, m.Data); err != nil {
			return err
		}
		s.done.Read++
	}
	s.log.Info("salvage: copied the old stream", "messages", s.done.Read, "missing", s.done.Missing)
	return s.js.DeleteStream(ctx, bus.Stream)
}

// newStream makes the stream, or finds the one that an earlier salvage made.
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
	return bus.CreateStream(ctx, s.js, s.above, maxBytes)
}

// publishAgain moves the copied messages into the new stream.
func (s *salvage) publishAgain(ctx context.Context) error {
	copied, err := s.js.Stream(ctx, bus.SalvageStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	state := copied.CachedInfo().State
	for sequence := state.FirstSeq; state.Msgs > 0 && sequence <= state.LastSeq; sequence++ {
		m, err := copied.GetMsg(ctx, sequence)
		if err != nil {
			return fmt.Errorf("read message %d of the copy: %w", sequence, err)
		}
		if err := s.publish(ctx, bus.Subject, m.Header, m.Data); err != nil {
			return err
		}
		s.done.Published++
	}
	return s.js.DeleteStream(ctx, bus.SalvageStream)
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
