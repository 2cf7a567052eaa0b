// Package parked implements "cairn parked": listing, showing, republishing and
// deleting the events that the projector could not apply.
package parked

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
)

// listed bounds a list without --all: what a person reads.
const listed = 50

// Which says which events a command is about: those at Positions, or All that
// were not published again yet.
type Which struct {
	Positions []int64
	All       bool
}

const (
	columns = `position, point_id::text, reason, detail, event, parked_at, resolved_position`
	chosen  = ` where case when $1 then resolved_at is null else position = any($2) end`
)

type entry struct {
	Position int64
	PointID  *string
	Reason   string
	Detail   string
	Event    []byte
	ParkedAt time.Time
	Resolved *int64 // the position that it got when it was published again
}

// List prints the newest, a line each.
func List(ctx context.Context, conn *pgx.Conn, all bool, out io.Writer) error {
	var waiting, total int
	err := conn.QueryRow(ctx, `select count(*) filter (where resolved_at is null), count(*) from parked`).Scan(&waiting, &total)
	if err != nil {
		return fmt.Errorf("count the parked events: %w", err)
	}
	limit := listed
	if all {
		limit = total
	}
	rows, err := conn.Query(ctx, `select `+columns+` from parked order by resolved_at is not null, position desc limit $1`, limit)
	if err != nil {
		return fmt.Errorf("list the parked events: %w", err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[entry])
	if err != nil {
		return fmt.Errorf("list the parked events: %w", err)
	}
	fmt.Fprintf(out, "%d parked, %d of them published again.\n", total, total-waiting)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, e := range events {
		state := ""
		if e.Resolved != nil {
			state = fmt.Sprintf("published again at %d", *e.Resolved)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", e.Position, e.ParkedAt.UTC().Format(time.RFC3339), e.Reason, e.Detail, state)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if total > limit {
		fmt.Fprintf(out, "… and %d more: --all lists them.\n", total-limit)
	}
	return nil
}

// Show prints the events whole.
func Show(ctx context.Context, conn *pgx.Conn, which Which, out io.Writer) error {
	events, err := find(ctx, conn, which)
	for _, e := range events {
		id := "not known"
		if e.PointID != nil {
			id = *e.PointID
		}
		fmt.Fprintf(out, "position  %d\nparked    %s\nreason    %s\ndetail    %s\nkey       %s\nevent     %s\n\n",
			e.Position, e.ParkedAt.UTC().Format(time.RFC3339Nano), e.Reason, e.Detail, id, e.Event)
	}
	return err
}

// Drop removes the events for good.
func Drop(ctx context.Context, conn *pgx.Conn, which Which, out io.Writer) error {
	if _, err := find(ctx, conn, which); err != nil {
		return err
	}
	tag, err := conn.Exec(ctx, `delete from parked`+chosen, which.All, which.Positions)
	if err != nil {
		return fmt.Errorf("drop parked events: %w", err)
	}
	fmt.Fprintf(out, "Dropped %d.\n", tag.RowsAffected())
	return nil
}

func find(ctx context.Context, conn *pgx.Conn, which Which) ([]entry, error) {
	rows, err := conn.Query(ctx, `select `+columns+` from parked`+chosen+` order by position`, which.All, which.Positions)
	if err != nil {
		return nil, fmt.Errorf("look up parked events: %w", err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[entry])
	if err != nil {
		return nil, fmt.Errorf("look up parked events: %w", err)
	}
	if !which.All && len(events) < len(which.Positions) {
		there := map[int64]bool{}
		for _, e := range events {
			there[e.Position] = true
		}
		for _, p := range which.Positions {
			if !there[p] {
				return nil, fmt.Errorf("no event is parked at position %d: 'cairn parked ls' lists them", p)
			}
		}
	}
	return events, nil
}
