package projector

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cairn/event"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

const (
	// gatherNames is how many names are looked up while batches wait: 20 ms.
	gatherNames = 1000
	// sweepNames is the same, where each may be in every segment.
	sweepNames = 200
	// sweepAtOnce bounds the names in memory.
	sweepAtOnce = 100_000
)

// gather looks through a segment for the newest of each name, where the projector did
// not keep the table latest when its points came: after an upgrade or a rebuild. It
// goes from name to name, some at a time, each step in a transaction that holds the
// checkpoint's row, so that nothing is placed that a batch has changed meanwhile. It
// may be ended at any time, and continues where it was.
func (m *maintenance) gather(ctx context.Context, all []schema.Segment) (bool, error) {
	for _, s := range all {
		if s.State != schema.Sealed || !s.Known() || s.LatestDone {
			continue
		}
		begun := time.Now()
		if err := m.ensureIndex(ctx, schema.Table(s.ID)+"_track", schema.TrackIndex(s.ID)); err != nil {
			return false, err
		}
		after := ""
		if s.LatestName != nil {
			after = *s.LatestName
		}
		for done := false; !done; {
			var err error
			if after, done, err = m.gatherSome(ctx, s.ID, after); err != nil {
				return false, fmt.Errorf("gather the newest of each name of segment %d: %w", s.ID, err)
			}
		}
		m.metrics.seconds.WithLabelValues("gather").Observe(time.Since(begun).Seconds())
		m.log.Info("gathered the newest of each name", "segment", s.ID, "seconds", time.Since(begun).Round(time.Millisecond).Seconds())
		return true, nil
	}
	return false, nil
}

// namesSQL steps from name to name along the index: it costs as much as there are
// names, however many points each has.
const namesSQL = `with recursive n(name) as (
		(select name collate "C" from %[1]s where name is not null and name collate "C" > $1 order by name collate "C" limit 1)
		union all
		select (select s.name collate "C" from %[1]s s where s.name is not null and s.name collate "C" > n.name order by s.name collate "C" limit 1) from n where n.name is not null)
	select name from n where name is not null limit $2`

// gatherSome gathers the names that follow one, and returns the last of them.
func (m *maintenance) gatherSome(ctx context.Context, id int, after string) (last string, done bool, err error) {
	last = after
	err = m.withCheckpoint(ctx, func(tx pgx.Tx) error {
		var known bool
		err := tx.QueryRow(ctx, `select count(*) > 0 from segments where id = $1 and state = 'sealed'`, id).Scan(&known)
		if err != nil || !known { // retention was faster
			done = true
			return err
		}
		rows, err := tx.Query(ctx, fmt.Sprintf(namesSQL, schema.Table(id)), after, gatherNames)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if done = len(names) < gatherNames; len(names) > 0 {
			last = names[len(names)-1]
			of := []*schema.Segment{{ID: id, State: schema.Sealed, OtherIDs: new(int64)}}
			if err := place(ctx, tx, newestSQL(of), names, make([]int64, len(names))); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `update segments set latest_done = $2, latest_name = case when not $2 then $3::text end where id = $1`, id, done, last)
		return err
	})
	return last, done, err
}

// withCheckpoint runs do in a transaction while no batch is under way.
func (m *maintenance) withCheckpoint(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(`set local lock_timeout = %d`, m.patience().Milliseconds()))
		if err == nil {
			_, err = tx.Exec(ctx, `select from checkpoint for update`)
		}
		if err != nil {
			return fmt.Errorf("lock the checkpoint: %w", err)
		}
		return do(tx)
	})
}

// patience is how long a small step waits for its turn between two batches.
func (m *maintenance) patience() time.Duration { return 10 * catalogueWait }

// sweep finds what is newest of those names whose newest point retention has dropped.
// Until then readers see nothing of them. A name that has no other point keeps an empty
// row, which streams report, until the floor is above the event of that row: who resumes
// from before it begins anew.
func (m *maintenance) sweep(ctx context.Context, all []schema.Segment) (bool, error) {
	var floor int64
	if err := m.conn.QueryRow(ctx, `select floor from checkpoint`).Scan(&floor); err != nil {
		return false, fmt.Errorf("read what retention has dropped: %w", err)
	}
	if floor <= m.swept {
		return false, nil
	}
	for {
		rows, err := m.conn.Query(ctx, `select name from latest where position < $1 and (geom is not null or since < $1) order by name limit $2`, floor, sweepAtOnce)
		if err != nil {
			return false, fmt.Errorf("look what retention has dropped: %w", err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return false, fmt.Errorf("look what retention has dropped: %w", err)
		}
		if len(names) == 0 {
			break
		}
		for some := range slices.Chunk(names, sweepNames) {
			if err := m.sweepSome(ctx, some, floor); err != nil {
				return false, fmt.Errorf("look up the newest of names after retention: %w", err)
			}
		}
	}
	m.swept = floor
	return true, nil
}

func (m *maintenance) sweepSome(ctx context.Context, names []string, floor int64) error {
	return m.withCheckpoint(ctx, func(tx pgx.Tx) error {
		all, err := schema.Segments(ctx, tx)
		if err != nil {
			return err
		}
		var there []*schema.Segment
		for _, s := range all {
			if s.State == schema.Sealed || s.State == schema.Head {
				there = append(there, &s)
			}
		}
		if _, err := tx.Exec(ctx, `delete from latest where name = any($1) and geom is null and since < $2`, names, floor); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select name from latest where name = any($1) and position < $2 and geom is not null`, names, floor)
		if err != nil {
			return err
		}
		gone, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(gone) == 0 {
			return err
		}
		since, err := afterAll(ctx, tx, len(gone))
		if err != nil {
			return err
		}
		if err := bury(ctx, tx, gone, since); err != nil {
			return err
		}
		return place(ctx, tx, newestSQL(there), gone, since)
	})
}

// afterAll is n times the position that the next event will have. What is noted under it
// is behind all that a reader has been told, whom nothing else would tell of what no event
// has done.
func afterAll(ctx context.Context, tx pgx.Tx, n int) ([]int64, error) {
	var sequence int64
	if err := tx.QueryRow(ctx, `select sequence from checkpoint`).Scan(&sequence); err != nil {
		return nil, err
	}
	return slices.Repeat([]int64{int64(event.At(uint64(sequence)+1, 0))}, n), nil //nolint:gosec // a sequence
}
