package projector

import (
	"context"
	"fmt"

	"cairn/event"

	"github.com/jackc/pgx/v5"
)

const (
	// maxCrossings bounds the table of crossings: 150 MB.
	maxCrossings = 1_000_000
	// crossingsAge is how long they are kept, unless points are kept for less.
	crossingsAge = 7 * hookDay
	// tidyRows bounds what is deleted at once.
	tidyRows = 10_000
	// maxRetries bounds what waits for a hook, or was given up: of more, those given up
	// go first, then the oldest.
	maxRetries = 10_000
)

// tidy deletes old crossings and old messages to hooks, and counts the messages.
func (d *deliverer) tidy(ctx context.Context) error {
	keep := crossingsAge
	if d.keep > 0 {
		keep = min(keep, d.keep)
	}
	// They are in the order of their times.
	var upTo *int64
	err := d.pool.QueryRow(ctx, `select greatest(
		(select max(position) from (select position, recorded_at from fence_events order by position limit $1) e where recorded_at < now() - $2::interval),
		(select max(position) from (select position from fence_events order by position limit
			least($1, greatest(0, (select count(*) from fence_events) - $3))) e))`, tidyRows, keep, maxCrossings).Scan(&upTo)
	if err != nil {
		return fmt.Errorf("look for old crossings: %w", err)
	}
	if upTo != nil {
		err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `update checkpoint set fence_floor = greatest(fence_floor, $1)`, *upTo+1); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `delete from fence_events where position <= $1`, *upTo)
			return err
		})
		if err != nil {
			return fmt.Errorf("let go of crossings up to %d: %w", event.Position(*upTo), err)
		}
	}
	tag, err := d.pool.Exec(ctx, `delete from hook_retries where next_at is null and recorded_at < now() - $1::interval or (hook, position, n) in (
		select hook, position, n from (select hook, position, n, row_number() over (partition by hook order by next_at is null, position desc, n desc) as k from hook_retries) r where k > $2)`, keep, maxRetries)
	if err != nil {
		return fmt.Errorf("let go of old messages to hooks: %w", err)
	}
	if n := tag.RowsAffected(); n > 0 {
		d.log.Info("let go of old messages to hooks", "messages", n)
	}
	var waiting, dead float64
	if err := d.pool.QueryRow(ctx, `select count(next_at), count(*) - count(next_at) from hook_retries`).Scan(&waiting, &dead); err != nil {
		return fmt.Errorf("count the messages to hooks: %w", err)
	}
	d.metrics.open.WithLabelValues("waiting").Set(waiting)
	d.metrics.open.WithLabelValues("dead").Set(dead)
	return nil
}
