package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	rebuildName = "cairn-rebuild" // of its connection, its hold and its lock
	// holdFor is how long the hold on the stream outlives a rebuild that died;
	// holdEvery is how often a live one renews it.
	holdFor, holdEvery = 10 * time.Minute, time.Minute
	// swapPatience bounds the wait for readers of the old table, and with it
	// the time that the projector stalls. It is below fencePatience.
	swapPatience = 3 * time.Second
	// swapTries bounds the attempts at the swap.
	swapTries = 100
	// nextMessage bounds the wait for a message that must be there.
	nextMessage = 30 * time.Second
)

// Rebuilt says what a rebuild did.
type Rebuilt struct {
	Kept     int64  // rows taken over from before the replay window
	Replayed int    // events of the replay window
	From, To uint64 // their sequences
}

// Rebuild rebuilds the table of points: the old rows from before the replay
// window, and the stream's events from there on. Reads and writes continue
// meanwhile; the swap is one transaction. It refuses where the stream does not
// begin right behind what the old rows cover, and leaves nothing behind when it
// fails.
func Rebuild(ctx context.Context, endpoint bus.Endpoint, databaseURL string, log *slog.Logger) (done Rebuilt, err error) {
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
	conn, err := from.connect(ctx, rebuildName)
	if err != nil {
		return done, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := lockRebuild(ctx, conn); err != nil {
		return done, err
	}
	// Until the end nobody merges what this copies.
	for _, lock := range []string{segmentsLock, sealLock} {
		if err := lockSegments(ctx, conn, lock); err != nil {
			return done, err
		}
	}
	defer func() {
		if cleanErr := endRebuild(context.WithoutCancel(ctx), conn); cleanErr != nil {
			err = errors.Join(err, cleanErr)
		}
	}()
	r := &rebuild{conn: conn, js: js, log: log, w: &writer{conn: conn, log: log, patience: fencePatience, bracket: unfenced, inPlace: map[int]int{}}}
	if err := r.begin(ctx); err != nil {
		return r.done, err
	}
	stopHolding := r.keepHold(ctx, from)
	defer stopHolding()
	for range swapTries {
		if err := r.catchUp(ctx); err != nil {
			return r.done, err
		}
		err := r.swap(ctx)
		if err == nil {
			return r.done, nil
		}
		if !hasCode(err, lockNotAvailable) {
			return r.done, err
		}
		if err := endStalledCopies(ctx, conn, copyIdle); err != nil {
			return r.done, err
		}
		log.Info("the checkpoint, or the table latest, is in use; trying the swap again")
	}
	return r.done, fmt.Errorf("the checkpoint, or the table latest, was in use at each of %d attempts to swap", swapTries)
}

type rebuild struct {
	conn *pgx.Conn
	js   jetstream.JetStream
	log  *slog.Logger
	w    *writer
	done Rebuilt
	// edge is the first position of the replay window. Segments below it stay; of
	// those that reach beyond it, the rows below go into the new one.
	edge int64
	id   int // of the new segment
}

func lockRebuild(ctx context.Context, conn *pgx.Conn) error {
	var got bool
	if err := conn.QueryRow(ctx, `select pg_try_advisory_lock(hashtext($1))`, rebuildName).Scan(&got); err != nil {
		return fmt.Errorf("lock for the rebuild: %w", err)
	}
	if !got {
		return errors.New("another rebuild is running")
	}
	return nil
}

// endRebuild removes what a rebuild, this one or one that died, left.
func endRebuild(ctx context.Context, conn *pgx.Conn) error {
	if conn.IsClosed() {
		return errors.New("the connection to Postgres was lost; the next rebuild clears up")
	}
	if _, err := conn.Exec(ctx, `rollback; delete from trim_hold where name = '`+rebuildName+`'`); err != nil {
		return err
	}
	return dropStrays(ctx, conn)
}

// begin holds the stream, takes over the old rows, and finds the replay window.
func (r *rebuild) begin(ctx context.Context) error {
	// The hold comes first, at 0: what the stream has after that, it keeps.
	if err := hold(ctx, r.conn); err != nil {
		return err
	}
	at, err := readCheckpoint(ctx, r.conn)
	if err != nil {
		return err
	}
	s, err := r.js.Stream(ctx, bus.Stream)
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", bus.Stream, err)
	}
	info := s.CachedInfo()
	if err := compare(at, bus.CreatedAt(info), info.State); err != nil {
		return err
	}
	first := info.State.FirstSeq
	if info.State.Msgs == 0 {
		first = info.State.LastSeq + 1
	}
	// What retention dropped is not to come back, though the stream may still have it, and
	// changes of it, and retries. Nothing tells them from others but that they came before.
	var dropped int64
	if err := r.conn.QueryRow(ctx, `select dropped from checkpoint`).Scan(&dropped); err != nil {
		return fmt.Errorf("read when retention dropped points last: %w", err)
	}
	first = max(first, uint64(dropped)+1) //nolint:gosec // a sequence
	r.w.at = checkpoint{sequence: first - 1}
	r.done.From = first
	r.edge = int64(event.At(first, 0))
	r.w.view = r.view
	r.log.Info("rebuild: taking over the rows from before the replay window", "below_sequence", first)
	return r.takeOver(ctx)
}

// takeOver makes the new segment, with those rows from before the window that the
// segments have which reach into it.
func (r *rebuild) takeOver(ctx context.Context) error {
	all, err := schema.Segments(ctx, r.conn)
	if err != nil {
		return err
	}
	if r.id, err = newTable(ctx, r.conn); err != nil {
		return err
	}
	for _, s := range all {
		if s.State != schema.Sealed && s.State != schema.Head || s.High <= r.edge {
			if s.Rows != nil && s.State == schema.Sealed {
				r.done.Kept += *s.Rows
			}
			continue
		}
		tag, err := r.conn.Exec(ctx, `insert into `+schema.Table(r.id)+` (`+schema.List("", schema.Columns)+`)
			select `+schema.List("", schema.Columns)+` from `+schema.Table(s.ID)+` where position < $1`, r.edge)
		if err != nil {
			return fmt.Errorf("take over the old rows: %w", err)
		}
		r.done.Kept += tag.RowsAffected()
	}
	return execAll(ctx, r.conn, schema.HeadIndexes(r.id))
}

// view is the catalogue as the replay has it: the segments below the window, and
// the new one in the place of all others.
func (r *rebuild) view(c *catalogue) {
	c.sealed = slices.DeleteFunc(c.sealed, func(s *schema.Segment) bool { return s.High > r.edge })
	c.head = schema.Segment{ID: r.id, Low: r.edge, High: schema.HeadEnd}
}

func hold(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `insert into trim_hold (name, sequence, until) values ($1, 0, now() + $2)
		on conflict (name) do update set until = excluded.until`, rebuildName, holdFor)
	if err != nil {
		return fmt.Errorf("hold the stream: %w", err)
	}
	return nil
}

// keepHold renews the hold on a connection of its own.
func (r *rebuild) keepHold(ctx context.Context, from source) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(holdEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			conn, err := from.connect(ctx, rebuildName)
			if err == nil {
				err = hold(ctx, conn)
				_ = conn.Close(ctx)
			}
			if err != nil {
				r.log.Warn("renew the hold on the stream", "error", err)
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// catchUp replays up to where the checkpoint is now.
func (r *rebuild) catchUp(ctx context.Context) error {
	at, err := readCheckpoint(ctx, r.conn)
	if err != nil {
		return err
	}
	return r.replay(ctx, at.sequence)
}

// replay applies the stream's events up to sequence to the new table.
func (r *rebuild) replay(ctx context.Context, to uint64) error {
	if r.w.at.sequence >= to {
		return nil
	}
	r.log.Info("rebuild: replaying", "from_sequence", r.w.at.sequence+1, "to_sequence", to)
	consumer, err := r.js.OrderedConsumer(ctx, bus.Stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.w.at.sequence + 1})
	if err != nil {
		return fmt.Errorf("read the stream: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(fetchBytes))
	if err != nil {
		return fmt.Errorf("read the stream: %w", err)
	}
	defer messages.Stop()
	var decoder event.Decoder
	b := newBatch(r.w.at.sequence + 1)
	for b.last < to {
		m, err := messages.Next(jetstream.NextMaxWait(nextMessage))
		if err != nil {
			return fmt.Errorf("message %d of the stream: %w", b.last+1, err)
		}
		if err := b.take(&decoder, m); err != nil {
			return fmt.Errorf("the stream lost a message while it was read: %w", err)
		}
		if b.full() || b.last == to {
			if _, err := r.w.apply(ctx, b); err != nil {
				return err
			}
			r.done.Replayed += len(b.rows)
			r.done.To = b.last
			b = newBatch(b.last + 1)
			if b.last == to {
				return nil
			}
		}
	}
	return nil
}

// swap puts the new table in the old one's place. The checkpoint's row is
// locked first, so the projector waits, and what came since is replayed within
// the same transaction.
func (r *rebuild) swap(ctx context.Context) error {
	_, err := r.conn.Exec(ctx, fmt.Sprintf(`begin; set local lock_timeout = %d; select from checkpoint for update`, swapPatience.Milliseconds()))
	if err != nil {
		return r.w.rollback(ctx, fmt.Errorf("lock the checkpoint: %w", err))
	}
	before, replayed := r.w.at, r.done
	r.w.bracket = nested
	err = r.catchUp(ctx)
	r.w.bracket = unfenced
	if err == nil {
		err = r.exchange(ctx)
	}
	if err == nil {
		_, err = r.conn.Exec(ctx, "commit")
	}
	if err != nil {
		r.w.at, r.done = before, replayed
		return r.w.rollback(ctx, fmt.Errorf("swap the tables: %w", err))
	}
	return nil
}

// exchange gives the new segment the place of all that reach into the window. It
// is the head: the projector seals it, and splits it where it is large.
func (r *rebuild) exchange(ctx context.Context) error {
	low := r.edge
	rows, err := r.conn.Query(ctx, `update segments set state = 'dropped', dropped_at = now()
		where state in ('sealed', 'head') and high > $1 returning low`, r.edge)
	if err != nil {
		return err
	}
	lows, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	low = min(low, slices.Min(append(lows, low)))
	if _, err := r.conn.Exec(ctx, `insert into segments (id, low, high, state) values ($1, $2, $3, 'head')`, r.id, low, int64(schema.HeadEnd)); err != nil {
		return err
	}
	// Maintenance gathers the newest of each name again.
	if _, err := r.conn.Exec(ctx, `truncate latest; update segments set latest_done = false, latest_name = null; update checkpoint set latest = sequence`); err != nil {
		return fmt.Errorf("reset the table latest: %w", err)
	}
	if _, err := r.conn.Exec(ctx, fmt.Sprintf(`update segments set latest_done = true where id = %d and not exists (select from %s)`, r.id, schema.Table(r.id))); err != nil {
		return fmt.Errorf("reset the table latest: %w", err)
	}
	if err := raiseCatalogue(ctx, r.conn); err != nil {
		return err
	}
	return tryReplaceView(ctx, r.conn, swapPatience) // maintenance does it where somebody reads it now
}
