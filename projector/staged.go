package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cairn/bus"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// parkedSet gathers what a transaction parks.
type parkedSet struct {
	list  []parked
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
	const create = `create temporary table if not exists staged (like points including defaults) on commit delete rows`
	if _, err := w.conn.Exec(ctx, create); err != nil {
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
		set.list = append(set.list, parked{position: r.position, id: r.id, reason: reasonRefused, detail: refusal(refused), event: r.event})
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
	tag, err := w.conn.Exec(ctx, `insert into points select * from staged order by position on conflict (id) do nothing`)
	if err != nil {
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.ConstraintName == "points_position_key" {
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
		select s.position, p.position from staged s join points p using (id)
		where p.position <> s.position and
			(s.external_id, s.external_id_number, s.geom, s.altitude, s.observed_at, s.properties, s.members) is distinct from
			(p.external_id, p.external_id_number, p.geom, p.altitude, p.observed_at, p.properties, p.members)
		order by s.position`)
	if err != nil {
		return fmt.Errorf("compare with what is there: %w", err)
	}
	var position, there bus.Position
	_, err = pgx.ForEachRow(rows, []any{(*int64)(&position), (*int64)(&there)}, func() error {
		i, _ := slices.BinarySearchFunc(b.rows, position, func(r row, p bus.Position) int { return int(r.position - p) })
		r := b.rows[i]
		set.list = append(set.list, parked{position: r.position, id: r.id, reason: reasonConflict, event: r.event,
			detail: fmt.Sprintf("the point at position %d has this id and other content", there)})
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare with what is there: %w", err)
	}
	return nil
}

// writeParked keeps what will not become rows.
func (w *writer) writeParked(ctx context.Context, list []parked) error {
	for _, p := range list {
		var id *[16]byte
		if p.id != [16]byte{} {
			id = (*[16]byte)(&p.id)
		}
		_, err := w.conn.Exec(ctx, `insert into parked (position, point_id, reason, detail, event) values ($1, $2, $3, $4, $5)
			on conflict (position) do nothing`, int64(p.position), id, p.reason, strings.ToValidUTF8(strings.ReplaceAll(p.detail, "\x00", ""), "�"), p.event)
		if err != nil {
			return fmt.Errorf("park position %d: %w", p.position, err)
		}
	}
	return nil
}
