package projector

import (
	"context"
	"fmt"
	"time"

	"cairn/schema"
)

// recountCells is how old the counts of a segment in which points were changed become
// at least before they are made again: a reader counts on its own where they are old.
const recountCells = 10 * time.Minute

// countCells notes where the points of a sealed segment are, for the tiles of maps: a
// second for two million rows, once, in place of as much for every reader.
func (m *maintenance) countCells(ctx context.Context, all []schema.Segment) (bool, error) {
	counted, err := m.cellsCounted(ctx)
	if err != nil {
		return false, err
	}
	for _, s := range all {
		if s.State != schema.Sealed || !s.Known() || s.Revision == nil {
			continue
		}
		if c, ok := counted[s.ID]; ok && (c.revision == *s.Revision || time.Since(c.at) < recountCells) {
			continue
		}
		return true, m.countCellsOf(ctx, s.ID, *s.Revision)
	}
	return false, nil
}

// countCellsOf counts those of a segment whose last change has this revision. What
// changes meanwhile may be counted or not, and a reader sees that it came later.
func (m *maintenance) countCellsOf(ctx context.Context, id int, revision int64) error {
	begun := time.Now()
	if _, err := m.conn.Exec(ctx, fmt.Sprintf(cellsInsert, schema.Table(id)), id, revision, schema.MaxCells, schema.MaxCoarse); err != nil {
		return fmt.Errorf("count the cells of segment %d: %w", id, err)
	}
	m.metrics.seconds.WithLabelValues("cells").Observe(time.Since(begun).Seconds())
	return nil
}

// The width is looked for once, and only where there are too many cells: it goes through
// all of them for each. Written in place, it would be looked for wherever it is used.
const cellsInsert = `insert into segment_cells (segment, revision, coarse, cells)
	with fine as materialized (select ` + schema.CellColumn + ` as x, ` + schema.CellRow + ` as y, count(*) as n from %s where geom is not null group by 1, 2),
	width as materialized (select case when (select count(*) from fine) <= $3 then 0 else coalesce((select min(bits) from generate_series(1, $4::int) bits
		where (select count(*) from (select from fine group by x >> bits, y >> bits) c) <= $3), $4::int) end as bits)
	select $1, $2, bits, (select coalesce(string_agg(int4send(x) || int4send(y) || int4send(n), ''::bytea order by y, x), '')
		from (select x >> bits << bits as x, y >> bits << bits as y, sum(n)::int as n from fine group by 1, 2) c) from width
	on conflict (segment) do update set revision = excluded.revision, coarse = excluded.coarse, cells = excluded.cells, counted_at = now()`

type cellsCount struct {
	revision int64
	at       time.Time
}

// cellsCounted are the segments whose cells were counted.
func (m *maintenance) cellsCounted(ctx context.Context) (map[int]cellsCount, error) {
	rows, err := m.conn.Query(ctx, `select segment, revision, counted_at from segment_cells`)
	if err != nil {
		return nil, fmt.Errorf("look which cells were counted: %w", err)
	}
	defer rows.Close()
	out := map[int]cellsCount{}
	for rows.Next() {
		var id int
		var c cellsCount
		if err := rows.Scan(&id, &c.revision, &c.at); err != nil {
			return nil, err
		}
		out[id] = c
	}
	return out, rows.Err()
}
