package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cairn/bus"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxParked bounds the events that wait for a person: 100,000 of 256 KiB, the
// worst, are 25 GiB; of the usual size, 30 MiB.
const maxParked = 100_000

// applyStaged is the careful way, for batches that change points, that have events
// which are there already, or that Postgres refuses: through a temporary table, so
// that each row can be looked at.
func (w *writer) applyStaged(ctx context.Context, b *batch) (*verdict, error) {
	v := &verdict{points: make(map[uuid.UUID]*point, len(b.rows)), counted: map[bus.Outcome]int{}, parked: slices.Clone(b.parked)}
	if err := w.beforeBatch(ctx, b); err != nil {
		return nil, err
	}
	if err := w.makeStaged(ctx); err != nil {
		return nil, err
	}
	if err := w.stage(ctx, b, 0, len(b.rows), v); err != nil {
		return nil, err
	}
	if err := w.readPoints(ctx, b, v); err != nil {
		return nil, err
	}
	if err := w.readPlaces(ctx, b, v); err != nil {
		return nil, err
	}
	decide(b, v)
	if err := w.insert(ctx, b, v); err != nil {
		return nil, err
	}
	if err := w.change(ctx, b, v); err != nil {
		return nil, err
	}
	if err := w.followChanges(ctx, b, v); err != nil {
		return nil, err
	}
	return v, w.writeParked(ctx, v.parked)
}

var createStaged = `create temporary table if not exists staged (like points including defaults) on commit delete rows`

// makeStaged makes the temporary table. What an earlier batch of the same transaction has
// staged would be taken for this one's.
func (w *writer) makeStaged(ctx context.Context) error {
	sql := createStaged
	if w.bracket == nested {
		sql += "; truncate staged"
	}
	if _, err := w.conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("create the table for staging: %w", err)
	}
	return nil
}

// stage copies rows from to to into the temporary table. Where Postgres refuses
// them it halves, until it has found the single rows that it refuses: those are
// parked.
func (w *writer) stage(ctx context.Context, b *batch, from, to int, v *verdict) error {
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
		v.parked = append(v.parked, parkedEvent{position: r.position, id: r.id, reason: bus.OutcomeRefused, detail: refusal(refused), event: r.event})
		return nil
	}
	middle := from + (to-from)/2
	if err := w.stage(ctx, b, from, middle, v); err != nil {
		return err
	}
	return w.stage(ctx, b, middle, to, v)
}

// refusal is what Postgres said, without our words around it.
func refusal(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err.Error()
	}
	return strings.TrimSpace(fmt.Sprintf("%s (SQLSTATE %s) %s", pg.Message, pg.Code, pg.Detail))
}

// writeParked keeps what will not become rows, and drops the oldest where
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
		w.log.Error("too many events are parked; dropped the oldest", "bound", maxParked, "gone", n)
	}
	return nil
}

// printable is s as Postgres takes it for text.
func printable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}
