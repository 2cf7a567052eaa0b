package projector

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cairn/event"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The table latest has the newest point of each name, by the time observed, else
// received; of two of one time, the one of the higher position. Its rows are brought
// up to a batch in the batch's own transaction. While full batches follow one
// another, as in a bulk load, several share that work, and checkpoint.latest says how
// far the table is.
//
// Whatever changes points continues from one rule: a row of the table is a point that
// is there, as it is now. So a point that is deleted, or called something else, is
// looked for in the table by name and id, and what is newest then is looked up.

const (
	// maxPendingRows is how many creations may wait for the table latest: some
	// seconds of a bulk load.
	maxPendingRows = 200_000
	// maxPendingNames bounds the names among them, since batches wait while they are
	// written: half a second.
	maxPendingNames = 50_000
)

// A fix is where a point stands among those of its name.
type fix struct {
	at       int64 // microseconds since 1970
	position event.Position
}

func (f fix) newer(than fix) bool {
	if f.at != than.at {
		return f.at > than.at
	}
	return f.position >= than.position
}

// pending is the newest of each name among points that were created since the table
// latest was brought up to date.
type pending struct {
	newest map[string]fix
	rows   int
	// spots are the newest points of the names that were looked at for fences, those in
	// the table latest included.
	spots map[string]spot
}

func newPending() *pending { return &pending{newest: map[string]fix{}, spots: map[string]spot{}} }

func (p *pending) add(name string, f fix) {
	p.rows++
	old, known := p.newest[name]
	switch {
	case !known:
		p.newest[strings.Clone(name)] = f // not the message's own memory
	case f.newer(old):
		p.newest[name] = f
	}
}

// mayWait reports whether the table latest may stay behind this batch: it is full, so
// the next one is likely to come at once.
func (w *writer) mayWait(b *batch) bool {
	if !b.full() || w.pending == nil {
		return false
	}
	rows := w.pending.rows + b.named
	return rows > 0 && rows < maxPendingRows && len(w.pending.newest)+b.named < maxPendingNames
}

// followCreations brings the table latest up to a batch that only created points, or
// notes what it has to be brought up to.
func (w *writer) followCreations(ctx context.Context, b *batch) error {
	if w.bracket != fenced {
		return nil // a rebuild gathers all of it again
	}
	if err := w.readPending(ctx); err != nil {
		return err
	}
	if err := w.crossCreations(ctx, b); err != nil {
		return err
	}
	for i := range b.rows {
		if r := &b.rows[i]; r.name != "" {
			w.pending.add(r.name, fix{r.time.UnixMicro(), r.position})
		}
	}
	if !w.flush {
		return nil
	}
	return w.flushPending(ctx)
}

// readPending finds out what waits where this writer did not see it: after a start,
// or a batch that was undone.
func (w *writer) readPending(ctx context.Context) error {
	if w.pending != nil {
		return nil
	}
	p := newPending()
	if w.at.latest < w.at.sequence {
		from, to := int64(event.EndOf(w.at.latest)), int64(event.EndOf(w.at.sequence)) //nolint:gosec // positions
		var parts []string
		for _, table := range w.tablesAbove(from) {
			parts = append(parts, `select name, coalesce(observed_at, received_at) as at, position from `+table+` where position > $1 and position <= $2 and name is not null`)
		}
		rows, err := w.conn.Query(ctx, strings.Join(parts, " union all "), from, to)
		if err != nil {
			return fmt.Errorf("read what the table latest lacks: %w", err)
		}
		var name string
		var at time.Time
		var position int64
		_, err = pgx.ForEachRow(rows, []any{&name, &at, &position}, func() error {
			p.add(name, fix{at.UnixMicro(), event.Position(position)})
			return nil
		})
		if err != nil {
			return fmt.Errorf("read what the table latest lacks: %w", err)
		}
	}
	w.pending = p
	return nil
}

// tablesAbove are those of the segments that have positions above one.
func (w *writer) tablesAbove(position int64) (tables []string) {
	for _, s := range w.catalogue.sealed {
		if s.High > position+1 {
			tables = append(tables, schema.Table(s.ID))
		}
	}
	return append(tables, w.head())
}

// flushPending writes what waits, in the order of the points, which is that of their
// pages in the head.
func (w *writer) flushPending(ctx context.Context) error {
	if len(w.pending.newest) == 0 {
		return nil
	}
	positions := make([]int64, 0, len(w.pending.newest))
	for _, f := range w.pending.newest {
		positions = append(positions, int64(f.position))
	}
	slices.Sort(positions)
	return w.placeAt(ctx, positions)
}

// newest are the positions of those that are newer than what the table latest has. Of
// points that were changed most are not, and to read them where they lie would cost
// more than to ask first.
func (w *writer) newest(ctx context.Context, p *pending) (positions []int64, err error) {
	if len(p.newest) == 0 {
		return nil, nil
	}
	names, at, positions := make([]string, 0, len(p.newest)), make([]time.Time, 0, len(p.newest)), make([]int64, 0, len(p.newest))
	for name, f := range p.newest {
		names, at, positions = append(names, name), append(at, time.UnixMicro(f.at)), append(positions, int64(f.position))
	}
	rows, err := w.conn.Query(ctx, `select d.position from unnest($1::text[], $2::timestamptz[], $3::bigint[]) d(name, at, position)
		left join latest l on l.name = d.name collate "C"
		where l.name is null or l.geom is null or (d.at, d.position) >= (coalesce(l.observed_at, l.received_at), l.position) order by 1`, names, at, positions)
	if err == nil {
		positions, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		return nil, fmt.Errorf("look which points are the newest of their names: %w", err)
	}
	return positions, nil
}

// placeAt makes the points at these positions, in their order, the newest of their
// names, where they are.
func (w *writer) placeAt(ctx context.Context, positions []int64) error {
	var parts []string
	var args []any
	for _, s := range append(slices.Clone(w.catalogue.sealed), &w.catalogue.head) {
		from, _ := slices.BinarySearch(positions, s.Low)
		to, _ := slices.BinarySearch(positions, s.High)
		if from == to {
			continue
		}
		args = append(args, positions[from:to])
		parts = append(parts, fmt.Sprintf(`select %s, coalesce(revision, position) as since from %s where position = any($%d::bigint[])`,
			schema.List("", schema.Columns), schema.Table(s.ID), len(args)))
	}
	if len(parts) == 0 {
		return nil
	}
	return place(ctx, w.conn, strings.Join(parts, " union all "), args...)
}

// newerSQL reports whether a row is to stand in the table instead of the one there is. The
// row itself, as it is now, is: it may have changed.
const newerSQL = `(l.geom is null or (coalesce(excluded.observed_at, excluded.received_at), excluded.position) >= (coalesce(l.observed_at, l.received_at), l.position))`

// place puts the rows of a query, at most one a name, into the table latest where
// they are newer than what it has. Nobody else writes to it: whoever does holds the
// checkpoint's row.
func place(ctx context.Context, db database, source string, args ...any) error {
	var sets []string
	for _, c := range schema.Columns {
		if c != "name" {
			sets = append(sets, c+" = excluded."+c)
		}
	}
	columns := schema.List("", schema.Columns) + ", since"
	_, err := db.Exec(ctx, `insert into latest as l (`+columns+`) select `+columns+` from (`+source+`) p
		on conflict (name) do update set `+strings.Join(sets, ", ")+`, since = greatest(l.since, excluded.since) where `+newerSQL, args...)
	if err != nil {
		return fmt.Errorf("bring the table latest up to date: %w", err)
	}
	return nil
}

// catchUp writes what waits, before a batch changes any of it.
func (w *writer) catchUp(ctx context.Context) error {
	if w.bracket != fenced {
		return nil
	}
	if err := w.readPending(ctx); err != nil {
		return err
	}
	err := w.flushPending(ctx)
	w.pending = newPending()
	return err
}

// lags reports whether the table latest is behind the checkpoint.
func (w *writer) lags() bool { return w.at.latest < w.at.sequence }

// catchUpAlone writes what waits, without a batch.
func (w *writer) catchUpAlone(ctx context.Context) error {
	w.flush = true
	none := &batch{first: w.at.sequence + 1, last: w.at.sequence, lastID: w.at.messageID}
	return w.transaction(ctx, none, func() error { return w.catchUp(ctx) })
}

// followChanges brings the table latest up to a batch that may have changed points.
func (w *writer) followChanges(ctx context.Context, b *batch, v *verdict) error {
	if w.bracket != fenced {
		return nil
	}
	c, err := w.crossChanges(ctx, b, v)
	if err != nil {
		return err
	}
	now := newPending()
	now.spots = w.pending.spots
	var gone changed
	for _, id := range v.order {
		p := v.points[id]
		if !p.touched {
			continue
		}
		if !p.deleted {
			if r := &b.rows[p.source]; r.name != "" {
				now.add(r.name, fix{r.time.UnixMicro(), p.position})
			}
		}
		if p.was && p.name != "" {
			gone.add(id, p)
		}
	}
	lost, err := w.lost(ctx, &gone, now)
	if err != nil {
		return err
	}
	if err := w.bury(ctx, lost); err != nil {
		return err
	}
	positions, err := w.newest(ctx, now)
	if err != nil {
		return err
	}
	w.pending = now
	if err := w.placeAt(ctx, positions); err != nil {
		return err
	}
	if err := w.lookUpNewest(ctx, lost); err != nil {
		return err
	}
	return w.settleCrossings(ctx, c)
}

// changed are points that a batch replaced or deleted, as they were.
type changed struct {
	names []string
	ids   []uuid.UUID
	fixes []fix
	at    []int64 // their new revisions
}

func (c *changed) add(id uuid.UUID, p *point) {
	c.names, c.ids = append(c.names, p.name), append(c.ids, id)
	c.fixes, c.at = append(c.fixes, fix{p.at.UnixMicro(), p.position}), append(c.at, int64(p.revision))
}

// lost are names whose newest point the batch changed, with the change's position,
// unless what the batch has of that name is no older.
func (w *writer) lost(ctx context.Context, c *changed, now *pending) (map[string]int64, error) {
	lost := map[string]int64{}
	if len(c.ids) == 0 {
		return lost, nil
	}
	rows, err := w.conn.Query(ctx, `select d.n from unnest($1::text[], $2::uuid[]) with ordinality d(name, id, n)
		join latest l on l.name = d.name collate "C" and l.id = d.id and l.geom is not null`, c.names, parameter(c.ids))
	if err != nil {
		return nil, fmt.Errorf("look who loses a newest point: %w", err)
	}
	var n int
	_, err = pgx.ForEachRow(rows, []any{&n}, func() error {
		name := c.names[n-1]
		if f, ok := now.newest[name]; !ok || !f.newer(c.fixes[n-1]) {
			lost[name] = c.at[n-1]
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look who loses a newest point: %w", err)
	}
	return lost, nil
}

// bury leaves of their rows what says that there is none. The name stays, for those
// who listen.
func (w *writer) bury(ctx context.Context, lost map[string]int64) error {
	if len(lost) == 0 {
		return nil
	}
	names, since := split(lost)
	_, err := w.conn.Exec(ctx, `update latest l set geom = null, altitude = null, observed_at = null, properties = null, members = null, author = null, since = d.since
		from unnest($1::text[], $2::bigint[]) d(name, since) where l.name = d.name collate "C"`, names, since)
	if err != nil {
		return fmt.Errorf("bring the table latest up to date: %w", err)
	}
	return nil
}

// lookUpNewest finds what is newest of some names now.
func (w *writer) lookUpNewest(ctx context.Context, lost map[string]int64) error {
	if len(lost) == 0 {
		return nil
	}
	names, since := split(lost)
	segments := make([]schema.Segment, 0, len(w.catalogue.sealed)+1)
	for _, s := range w.catalogue.sealed {
		segments = append(segments, *s)
	}
	return place(ctx, w.conn, newestSQL(append(segments, w.catalogue.head)), names, since)
}

// newestSQL selects the newest point of each name in $1, with since from $2 where that
// is higher. Sealed segments have an index for it; of others all is read.
func newestSQL(segments []schema.Segment) string {
	columns, order := schema.List("s.", schema.Columns), `coalesce(s.observed_at, s.received_at) desc, s.position desc`
	var parts []string
	for _, s := range segments {
		if s.State == schema.Sealed && s.Known() {
			parts = append(parts, `select x.* from unnest($1::text[]) d(name) cross join lateral (select `+columns+` from `+schema.Table(s.ID)+` s
				where s.name collate "C" = d.name collate "C" order by `+order+` limit 1) x`)
			continue
		}
		parts = append(parts, `(select distinct on (s.name collate "C") `+columns+` from `+schema.Table(s.ID)+` s
			where s.name collate "C" = any($1::text[]) order by s.name collate "C", `+order+`)`)
	}
	return `select ` + columns + `, greatest(coalesce(s.revision, s.position), d.since) as since from unnest($1::text[], $2::bigint[]) d(name, since)
		join (select distinct on (s.name collate "C") * from (` + strings.Join(parts, " union all ") + `) s order by s.name collate "C", ` + order + `) s
		on s.name collate "C" = d.name collate "C"`
}

func split(lost map[string]int64) (names []string, since []int64) {
	names = slices.Sorted(maps.Keys(lost))
	for _, n := range names {
		since = append(since, lost[n])
	}
	return names, since
}
