package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cairn/bus"
	"cairn/event"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxParked bounds the events that wait for a person: 100,000 of 256 KiB, the
// worst, are 25 GiB; of the usual size, 30 MiB.
const maxParked = 100_000

// parkedSet gathers what a transaction parks.
type parkedSet struct {
	list  []parkedEvent
	known int // rows whose id was there already, with the same content or another
}

// applyStaged is the careful way, for batches with events that are there
// already or that Postgres refuses: through a temporary table, so that each row
// can be looked at. It costs about half as much again as the straight way.
func (w *writer) applyStaged(ctx context.Context, b *batch, set *parkedSet) error {
	if err := w.ensureStaged(ctx); err != nil {
		return err
	}
	if err := w.stage(ctx, b, 0, len(b.rows), set); err != nil {
		return err
	}
	if err := w.mergeStaged(ctx, b, set); err != nil {
		return err
	}
	return w.writeParked(ctx, set.list)
}

func (w *writer) ensureStaged(ctx context.Context) error {
	if _, err := w.conn.Exec(ctx, `create temporary table if not exists staged (like `+w.table+`) on commit delete rows`); err != nil {
		return fmt.Errorf("create the table for staging: %w", err)
	}
	return nil
}

// stage copies rows from to to into the temporary table. Where Postgres refuses
// them it halves, until it has found the single rows that it refuses: those are
// parked.
func (w *writer) stage(ctx context.Context, b *batch, from, to int, set *parkedSet) error {
	if from == to {
		return nil
	}
	if _, err := w.conn.Exec(ctx, "savepoint range"); err != nil {
		return fmt.Errorf("set savepoint: %w", err)
	}
	refused := w.copyRange(ctx, "staged", b, from, to)
	if refused != nil && !isContent(refused) {
		return refused
	}
	end := "release range"
	if refused != nil {
		end = "rollback to range; release range"
	}
	if _, err := w.conn.PgConn().Exec(ctx, end).ReadAll(); err != nil {
		return fmt.Errorf("%s: %w", end, err)
	}
	if refused == nil {
		return nil
	}
	if to-from == 1 {
		r := b.rows[from]
		set.list = append(set.list, parkedEvent{position: r.position, id: r.id, reason: bus.OutcomeRefused, detail: refusal(refused), event: r.event})
		return nil
	}
	middle := from + (to-from)/2
	if err := w.stage(ctx, b, from, middle, set); err != nil {
		return err
	}
	return w.stage(ctx, b, middle, to, set)
}

// refusal is what Postgres said, without our words around it.
func refusal(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err.Error()
	}
	return strings.TrimSpace(fmt.Sprintf("%s (SQLSTATE %s) %s", pg.Message, pg.Code, pg.Detail))
}

// mergeStaged inserts what is new, in the order of positions, so that of two
// events with one id the first wins. Of the rest it parks what says something
// else than the row that is there; what says the same is a retry and adds
// nothing. The time received is not content: it differs in every retry.
func (w *writer) mergeStaged(ctx context.Context, b *batch, set *parkedSet) error {
	tag, err := w.conn.Exec(ctx, `insert into `+w.table+` (`+schema.List("", schema.Columns)+`) select `+schema.List("", schema.Columns)+` from staged order by position on conflict (id) do nothing`)
	if err != nil {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.ConstraintName == w.table+"_position_key" {
			return mismatch(remedyRestore, "the database has rows with the positions of messages %d to %d already (%s): the stream has used sequences again",
				b.first, b.last, pg.Detail)
		}
		return fmt.Errorf("insert what is new: %w", err)
	}
	staged := len(b.rows) - (len(set.list) - len(b.parked))
	set.known = staged - int(tag.RowsAffected())
	if set.known == 0 {
		return nil
	}
	rows, err := w.conn.Query(ctx, `
		select s.position, p.position from staged s join `+w.table+` p using (id)
		where p.position <> s.position and
			(`+schema.List("s.", schema.Content)+`) is distinct from (`+schema.List("p.", schema.Content)+`)
		order by s.position`)
	if err != nil {
		return fmt.Errorf("compare with what is there: %w", err)
	}
	var position, there event.Position
	_, err = pgx.ForEachRow(rows, []any{(*int64)(&position), (*int64)(&there)}, func() error {
		i, _ := slices.BinarySearchFunc(b.rows, position, func(r row, p event.Position) int { return int(r.position - p) })
		r := b.rows[i]
		set.list = append(set.list, parkedEvent{position: r.position, id: r.id, reason: bus.OutcomeConflict, event: r.event,
			detail: fmt.Sprintf("the point at position %d has this id and other content", there)})
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare with what is there: %w", err)
	}
	return nil
}

// writeParked keeps what will not become rows, and lets go of the oldest where
// there are more than maxParked: first of those that were published again.
func (w *writer) writeParked(ctx context.Context, list []parkedEvent) error {
	if len(list) == 0 {
		return nil
	}
	positions, ids := make([]int64, len(list)), make([]*string, len(list))
	reasons, details, events := make([]string, len(list)), make([]string, len(list)), make([][]byte, len(list))
	for i, p := range list {
		positions[i], reasons[i], details[i], events[i] = int64(p.position), string(p.reason), printable(p.detail), p.event
		if p.id != uuid.Nil {
			text := p.id.String()
			ids[i] = &text
		}
	}
	_, err := w.conn.Exec(ctx, `insert into parked (position, point_id, reason, detail, event)
		select position, id::uuid, reason, detail, event
		from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[]) as p(position, id, reason, detail, event)
		on conflict (position) do nothing`, positions, ids, reasons, details, events)
	if err != nil {
		return fmt.Errorf("park %d events: %w", len(list), err)
	}
	tag, err := w.conn.Exec(ctx, `delete from parked where position in (
		select position from parked order by resolved_at is null, position
		limit greatest((select count(*) from parked) - $1, 0))`, maxParked)
	if err != nil {
		return fmt.Errorf("bound the parked events: %w", err)
	}
	if n := tag.RowsAffected(); n > 0 {
		w.log.Error("too many events are parked; let go of the oldest", "bound", maxParked, "gone", n)
	}
	return nil
}

// printable is s as Postgres takes it for text.
func printable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}
