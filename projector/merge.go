package projector

import (
	"context"
	"fmt"
	"strings"
	"time"

	"cairn/event"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

// fewChanges is how many changed rows may be left for the moment of the swap, in
// which batches wait: some milliseconds.
const fewChanges = 1000

// catchUps bounds the rounds in which a merge takes over what was changed meanwhile,
// before it swaps whatever is left.
const catchUps = 20

// merge makes one segment of the oldest run of neighbours of a size. While there is a
// backlog the projection has the machine to itself, until many segments wait: then as
// many as one may hold become one, so what comes in a bulk load is copied once.
func (m *maintenance) merge(ctx context.Context, all []schema.Segment) (bool, error) {
	if m.behind() && m.waiting(all) < m.sizes.lazy {
		return false, nil
	}
	run := m.mergeable(all)
	if run == nil {
		return false, nil
	}
	return true, m.rewrite(ctx, "merge", run, nil)
}

// waiting is how many segments are to be merged some time.
func (m *maintenance) waiting(all []schema.Segment) (n int) {
	for _, s := range all {
		if m.mayMerge(&s) {
			n++
		}
	}
	return n
}

func (m *maintenance) mayMerge(s *schema.Segment) bool {
	return s.State == schema.Sealed && s.Rows != nil && s.Known() && s.LatestDone && m.level(*s.Rows) >= 0
}

// mergeable is a run of neighbours that are of one size, as many as one may hold: if
// they are enough, or fill it.
func (m *maintenance) mergeable(all []schema.Segment) []schema.Segment {
	var run []schema.Segment
	var size int64
	enough := func() bool { return len(run) >= m.sizes.fan || len(run) > 1 && size > m.sizes.most/4*3 }
	for _, s := range all {
		if s.State == schema.Dropped || s.State == schema.Filling {
			continue
		}
		may := m.mayMerge(&s)
		if len(run) > 0 && (!may || m.level(*s.Rows) != m.level(*run[0].Rows) || size+*s.Rows > m.sizes.most || m.spansTooLong(run[0], s)) {
			if enough() {
				return run
			}
			run, size = nil, 0
		}
		if may {
			run, size = append(run, s), size+*s.Rows
		}
	}
	if !enough() {
		return nil
	}
	return run
}

// level is how often a segment of so many rows has been merged: 0 for one that was
// the head, −1 for one that is large enough.
func (m *maintenance) level(rows int64) int {
	level := 0
	for bound := m.sizes.head * 2; rows >= bound; bound *= int64(m.sizes.fan) {
		level++
	}
	if rows > m.sizes.most/2 {
		return -1
	}
	return level
}

// spansTooLong keeps segments short where points are kept for a time only: all of
// one goes at once.
func (m *maintenance) spansTooLong(first, last schema.Segment) bool {
	return m.keep > 0 && first.ReceivedTo != nil && last.ReceivedTo != nil && last.ReceivedTo.Sub(*first.ReceivedTo) > m.keep/headAges
}

// split cuts a segment that is far too large, as the table of an earlier version
// is, into some of the largest size.
func (m *maintenance) split(ctx context.Context, all []schema.Segment) (bool, error) {
	for _, s := range all {
		if s.State != schema.Sealed || !s.Known() || !s.LatestDone || s.Rows == nil || *s.Rows <= 2*m.sizes.most {
			continue
		}
		cuts, err := m.cuts(ctx, s)
		if err != nil {
			return false, err
		}
		if len(cuts) == 0 {
			continue
		}
		return true, m.rewrite(ctx, "split", []schema.Segment{s}, cuts)
	}
	return false, nil
}

// cuts are the positions at which a segment is cut into pieces of equal size.
func (m *maintenance) cuts(ctx context.Context, s schema.Segment) (cuts []int64, err error) {
	pieces := (*s.Rows + m.sizes.most - 1) / m.sizes.most
	var last int64 // where the piece before begins; of the first, at its first row
	for i := range pieces {
		var at int64
		err := m.conn.QueryRow(ctx, `select position from `+schema.Table(s.ID)+` order by position offset $1 limit 1`, *s.Rows/pieces*i).Scan(&at)
		if err != nil {
			return nil, fmt.Errorf("look where to cut segment %d: %w", s.ID, err)
		}
		at = int64(event.At(event.Position(at).Sequence(), 0)) // an envelope stays together
		if i > 0 && at > last {
			cuts = append(cuts, at)
		}
		last = at
	}
	return cuts, nil
}

// A target is a segment that is being made.
type target struct {
	id    int
	low   int64
	high  int64
	holds *holds
}

// widen makes its zones span the times of the rows of a table, or of a query in
// brackets.
func (t *target) widen(ctx context.Context, tx pgx.Tx, from string) error {
	return widenZones(ctx, tx, &schema.Segment{Low: t.low, High: t.high, Zones: t.holds.zones}, from)
}

// rewrite puts new segments in the place of old ones: one of all, or, with cuts,
// one from each cut to the next. Rows that lie together on earth lie together in
// the new tables. Nobody waits for it but for the moment of the swap.
func (m *maintenance) rewrite(ctx context.Context, what string, old []schema.Segment, cuts []int64) error {
	begun := time.Now()
	var rows int64
	var ids []int
	for _, s := range old {
		rows += *s.Rows
		ids = append(ids, s.ID)
	}
	targets, err := m.begin(ctx, old, cuts)
	if err != nil {
		return err
	}
	var made []int
	seen := int64(0)
	for i, t := range targets {
		made = append(made, t.id)
		at, err := m.fill(ctx, &targets[i], old)
		if err != nil {
			return fmt.Errorf("%s segments %v: %w", what, ids, err)
		}
		if len(cuts) == 0 {
			targets[i].holds.receivedTo = newestOf(old)
		}
		if i == 0 || at < seen {
			seen = at
		}
	}
	if err := m.swap(ctx, targets, old, seen); err != nil {
		return fmt.Errorf("%s segments %v: %w", what, ids, err)
	}
	took := time.Since(begun)
	m.metrics.seconds.WithLabelValues(what).Observe(took.Seconds())
	m.log.Info("rewrote segments", "what", what, "old", ids, "new", made, "rows", rows, "seconds", took.Round(time.Millisecond).Seconds())
	return nil
}

// newestOf is when the newest of the segments' points was created, whatever was changed
// since.
func newestOf(segments []schema.Segment) (t *time.Time) {
	for _, s := range segments {
		t = later(t, s.ReceivedTo)
	}
	return t
}

// begin notes the new segments, so that whoever comes after a crash knows what to
// clear away.
func (m *maintenance) begin(ctx context.Context, old []schema.Segment, cuts []int64) ([]target, error) {
	low, end := old[0].Low, old[len(old)-1].High
	var targets []target
	err := pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		for _, high := range append(cuts, end) {
			id, err := newSegment(ctx, tx, low, high, schema.Filling)
			if err != nil {
				return err
			}
			targets = append(targets, target{id: id, low: low, high: high})
			low = high
		}
		return nil
	})
	return targets, err
}

// fill copies the rows in the order of their places, and indexes them. It returns
// the last position that the copy has seen.
func (m *maintenance) fill(ctx context.Context, t *target, old []schema.Segment) (seen int64, err error) {
	columns := schema.List("", schema.Columns)
	parts := make([]string, len(old))
	for i, s := range old {
		parts[i] = `select ` + columns + ` from ` + schema.Table(s.ID)
	}
	table := schema.Table(t.id)
	seen, err = m.snapshot(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(`insert into %s (%s) select %s from (%s) s where position >= %d and position < %d order by geom`,
			table, columns, columns, strings.Join(parts, " union all "), t.low, t.high))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("copy rows: %w", err)
	}
	for _, ddl := range append(schema.HeadIndexes(t.id), schema.SealedIndexes(t.id)...) {
		if _, err := m.conn.Exec(ctx, ddl); err != nil {
			return 0, fmt.Errorf("index the rows: %w", err)
		}
	}
	if _, err := m.conn.Exec(ctx, `vacuum (freeze, analyze) `+table); err != nil {
		return 0, fmt.Errorf("vacuum: %w", err)
	}
	_, err = m.snapshot(ctx, func(tx pgx.Tx) (err error) {
		if t.holds, err = lookInto(ctx, tx, table); err != nil {
			return err
		}
		t.holds.zones = schema.NewZones(schema.ZoneCount(*t.holds.rows))
		if err := t.widen(ctx, tx, table); err != nil {
			return err
		}
		t.holds.density, err = lookDensity(ctx, tx, table, *t.holds.rows)
		return err
	})
	if err == nil {
		err = m.warm(ctx, table)
	}
	if err == nil {
		err = m.countCellsOf(ctx, t.id, t.holds.revision) // or the first reader of a tile would
	}
	return seen, err
}

// warmPart: a new segment is read into Postgres' memory if it is at most this part of it.
const warmPart = 8

// warm reads a new segment's indexes into Postgres' memory, which builds of indexes go
// past: the first readers, and the first changes, would wait for a page at each step, and
// of the segments that the new one replaces all was there.
func (m *maintenance) warm(ctx context.Context, table string) error {
	var small bool
	err := m.conn.QueryRow(ctx, `select pg_total_relation_size($1::regclass) * $2 <= pg_size_bytes(current_setting('shared_buffers'))`, table, warmPart).Scan(&small)
	if err != nil || !small {
		return err
	}
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local enable_seqscan = off; set local enable_indexscan = off`); err != nil {
			return err
		}
		// Rows are found by the first two through the index alone, and by the others
		// through the index, and then the table in its order.
		for _, all := range []string{`position >= 0`, `id >= '00000000-0000-0000-0000-000000000000'`,
			`geom && ST_MakeEnvelope(-180, -90, 180, 90, 4326)`, `coalesce(observed_at, received_at) >= '-infinity'`} {
			if _, err := tx.Exec(ctx, `select count(*) from `+table+` where `+all); err != nil {
				return fmt.Errorf("read the indexes: %w", err)
			}
		}
		return nil
	})
}

// swap takes over what was changed in the old segments since the copy, repeatedly
// until little is left, then the rest while batches wait, and puts the new
// segments into the catalogue.
func (m *maintenance) swap(ctx context.Context, targets []target, old []schema.Segment, seen int64) error {
	for range catchUps {
		left := int64(0)
		// In one snapshot: what is counted is what is taken over.
		now, err := m.snapshot(ctx, func(tx pgx.Tx) (err error) {
			left, err = takeOver(ctx, tx, targets, old, seen)
			return err
		})
		if err != nil {
			return err
		}
		if seen = now; left <= fewChanges {
			break
		}
	}
	var err error
	for range swapTries {
		if err = m.swapOnce(ctx, targets, old, seen); !isLockTimeout(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(maintainEvery):
		}
	}
	return err
}

func (m *maintenance) swapOnce(ctx context.Context, targets []target, old []schema.Segment, seen int64) error {
	before := make([]holds, len(targets))
	for i, t := range targets {
		rows := *t.holds.rows
		before[i] = *t.holds
		before[i].rows = &rows
	}
	err := m.change(ctx, func(tx pgx.Tx, _ uint64) error {
		if _, err := takeOver(ctx, tx, targets, old, seen); err != nil {
			return err
		}
		for _, t := range targets {
			if err := t.holds.write(ctx, tx, t.id, schema.Sealed); err != nil {
				return err
			}
		}
		ids := make([]int, len(old))
		for i, s := range old {
			ids[i] = s.ID
		}
		_, err := tx.Exec(ctx, `update segments set state = $1, dropped_at = now() where id = any($2)`, schema.Dropped, ids)
		return err
	})
	if err != nil { // what was taken over is undone
		for i := range targets {
			*targets[i].holds = before[i]
		}
	}
	return err
}

// takeOver copies the rows that were changed after the position seen into the new
// segments, and says how many there were. What is there again is written again.
func takeOver(ctx context.Context, tx pgx.Tx, targets []target, old []schema.Segment, seen int64) (changed int64, err error) {
	sets := make([]string, 0, len(schema.State)+1)
	for _, c := range append([]string{"revision"}, schema.State...) {
		sets = append(sets, c+` = o.`+c)
	}
	for _, s := range old {
		for _, t := range targets {
			n, delta := int64(0), int64(0)
			pairs := fmt.Sprintf(`%s o join %s n using (id) where o.revision > %d`, schema.Table(s.ID), schema.Table(t.id), seen)
			err := tx.QueryRow(ctx, `select count(*), count(o.geom) - count(n.geom) from `+pairs).Scan(&n, &delta)
			if err != nil {
				return changed, fmt.Errorf("count what was changed: %w", err)
			}
			if n == 0 {
				continue
			}
			changed += n
			more, err := lookInto(ctx, tx, `(select o.* from `+pairs+`)`)
			if err == nil {
				err = t.widen(ctx, tx, `(select o.* from `+pairs+`)`)
			}
			if err != nil {
				return changed, err
			}
			_, err = tx.Exec(ctx, fmt.Sprintf(`update %s n set %s from %s o where n.id = o.id and o.revision > %d`,
				schema.Table(t.id), strings.Join(sets, ", "), schema.Table(s.ID), seen))
			if err != nil {
				return changed, fmt.Errorf("take over what was changed: %w", err)
			}
			t.holds.add(more)
			*t.holds.rows += delta
		}
	}
	return changed, nil
}
