package projector

import (
	"context"
	"fmt"
	"slices"

	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

// migrated is the id that the migration gives to the table from before there were
// segments.
const migrated = 1

// order brings the table of an earlier version to the layout of those that are made
// now: its rows in the order of their places, its columns in theirs. One that is far
// too large is split, which does the same.
func (m *maintenance) order(ctx context.Context, all []schema.Segment) (bool, error) {
	if m.behind() {
		return false, nil // it can wait
	}
	i := slices.IndexFunc(all, func(s schema.Segment) bool {
		return s.ID == migrated && s.State == schema.Sealed && s.Rows != nil && s.Known() && s.LatestDone
	})
	if i < 0 {
		return false, nil
	}
	rows, err := m.conn.Query(ctx, `select attname::text from pg_attribute where attrelid = $1::regclass and attnum > 0 order by attnum`, schema.Table(migrated))
	if err != nil {
		return false, fmt.Errorf("read the columns of segment %d: %w", migrated, err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || slices.Equal(columns, schema.Columns) {
		return false, err // that of a database which began with segments
	}
	return true, m.rewrite(ctx, "order", all[i:i+1], nil)
}
