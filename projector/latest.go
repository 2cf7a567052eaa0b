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
// far the table is: a row of it is a point that was there, as it was then.
//
// So a point that is deleted, or called something else, or of another time, is looked
// for in the table by the name that it had and its id, and what is newest then is
// looked up.

const (
	// maxPendingRows is how many events may wait for the table latest: some seconds
	// of a bulk load.
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

// pending is what was done to points since the table latest was brought up to date.
type pending struct {
	newest map[string]fix // of each name, among the points that were created or replaced
	was    changed        // those that were replaced or deleted, as they were
	// lost are names whose newest point among these was taken away again, with the
	// position of that: what is newest then, only the segments can say.
	lost map[string]int64
	rows int
	// spots are the newest points of the names that were looked at for fences, those in
	// the table latest included.
	spots map[string]spot
}

func newPending() *pending {
	return &pending{newest: map[string]fix{}, lost: map[string]int64{}, spots: map[string]spot{}}
}

// changes reports whether points wait that were replaced or deleted.
func (p *pending) changes() bool { return len(p.was.ids) > 0 || len(p.lost) > 0 }

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

// take notes that a point is not any more what it was: as it is now, it may be added.
func (p *pending) take(id uuid.UUID, name string, was, is fix, same bool, revision int64) {
	p.rows++
	p.was.add(id, name, was, revision)
	if f, ok := p.newest[name]; ok && f.position == was.position && (!same || !is.newer(f)) {
		delete(p.newest, name)
		p.lost[name] = revision
	}
}

// mayWait reports whether the table latest may stay behind this batch: it is full, so
// the next one is likely to come at once.
func (w *writer) mayWait(b *batch) bool {
	if !b.full() || w.pending == nil {
		return false
	}
	coming := b.named
	if b.changes {
		coming = 2 * len(b.rows) // what a point was waits, too
	}
	if b.changes && w.fences.set != nil {
		return false // crossings depend on the table
	}
	rows := w.pending.rows + coming
	return rows > 0 && rows < maxPendingRows && len(w.pending.newest)+coming < maxPendingNames
}

// beforeBatch finds out what waits, and does that first where the batch goes by the
// table latest: crossings of fences do, and are looked for in batches that change points,
// or after some.
func (w *writer) beforeBatch(ctx context.Context, b *batch) error {
	if w.bracket != fenced {
		return nil // a rebuild gathers all of it again
	}
	if err := w.readPending(ctx); err != nil {
		return err
	}
	if w.fences.set == nil || !b.changes && !w.pending.changes() {
		return nil
	}
	return w.flushPending(ctx)
}

// followCreations brings the table latest up to a batch that only created points, or
// notes what it has to be brought up to.
func (w *writer) followCreations(ctx context.Context, b *batch) error {
	if w.bracket != fenced {
		return nil
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
		if err := w.readNewest(ctx, p, from, to); err != nil {
			return fmt.Errorf("read what the table latest lacks: %w", err)
		}
		if err := w.readChanged(ctx, p, from, to); err != nil {
			return fmt.Errorf("read what the table latest has that was changed: %w", err)
		}
	}
	w.pending = p
	return nil
}

// readNewest reads the points that were created or replaced between two positions.
func (w *writer) readNewest(ctx context.Context, p *pending, from, to int64) error {
	var parts []string
	for _, s := range w.segments() {
		for _, column := range []string{"position", "revision"} {
			if column == "position" && s.High <= from+1 || column == "revision" && !changedAfter(s, from) {
				continue
			}
			parts = append(parts, `select name, coalesce(observed_at, received_at) as at, position from `+schema.Table(s.ID)+
				` where `+column+` > $1 and `+column+` <= $2 and name is not null and geom is not null`)
		}
	}
	rows, err := w.conn.Query(ctx, strings.Join(parts, " union all "), from, to)
	if err != nil {
		return err
	}
	var name string
	var at time.Time
	var position int64
	_, err = pgx.ForEachRow(rows, []any{&name, &at, &position}, func() error {
		p.add(name, fix{at.UnixMicro(), event.Position(position)})
		return nil
	})
	return err
}

// readChanged reads what the table latest has of points that were replaced or deleted
// between two positions: as they were then.
func (w *writer) readChanged(ctx context.Context, p *pending, from, to int64) error {
	var parts []string
	for _, s := range w.segments() {
		if changedAfter(s, from) {
			parts = append(parts, `select id, revision from `+schema.Table(s.ID)+` where revision > $1 and revision <= $2`)
		}
	}
	rows, err := w.conn.Query(ctx, `select l.id, l.name, coalesce(l.observed_at, l.received_at), l.position, c.revision
		from latest l join (`+strings.Join(parts, " union all ")+`) c using (id) where l.geom is not null`, from, to)
	if err != nil {
		return err
	}
	var id uuid.UUID
	var name string
	var at time.Time
	var position, revision int64
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id), &name, &at, &position, &revision}, func() error {
		p.was.add(id, name, fix{at.UnixMicro(), event.Position(position)}, revision)
		return nil
	})
	return err
}

// segments are the writer's, the oldest first.
func (w *writer) segments() []*schema.Segment {
	return append(slices.Clone(w.catalogue.sealed), &w.catalogue.head)
}

// changedAfter reports whether points of a segment may have been changed after a
// position. Of the head, and of one that was not looked into yet, nobody knows.
func changedAfter(s *schema.Segment, position int64) bool {
	return s.Revision == nil || *s.Revision > position
}

// flushPending brings the table latest up to what waits.
func (w *writer) flushPending(ctx context.Context) error {
	p := w.pending
	lost, err := w.lost(ctx, p)
	if err != nil {
		return err
	}
	names, since := split(lost)
	if err := bury(ctx, w.conn, names, since); err != nil {
		return err
	}
	positions, err := w.newest(ctx, p)
	if err != nil {
		return err
	}
	if err := w.placeAt(ctx, positions); err != nil {
		return err
	}
	for name, revision := range p.lost {
		lost[name] = max(lost[name], revision)
	}
	if err := w.lookUpNewest(ctx, lost); err != nil {
		return err
	}
	w.pending = newPending()
	w.pending.spots = p.spots
	return nil
}

// newest are the positions of those points that wait and may be newer than what the
// table latest has, in their order, which is that of their pages in the head. Most
// points that are created are newer; of those that were changed most are not, and to
// read them where they lie would cost more than to ask first.
func (w *writer) newest(ctx context.Context, p *pending) (positions []int64, err error) {
	positions = make([]int64, 0, len(p.newest))
	for _, f := range p.newest {
		positions = append(positions, int64(f.position))
	}
	if !p.changes() || len(positions) == 0 {
		slices.Sort(positions)
		return positions, nil
	}
	names, at := make([]string, 0, len(p.newest)), make([]time.Time, 0, len(p.newest))
	positions = positions[:0]
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
	for _, s := range w.segments() {
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

// lags reports whether the table latest is behind the checkpoint.
func (w *writer) lags() bool { return w.at.latest < w.at.sequence }

// catchUpAlone writes what waits, without a batch.
func (w *writer) catchUpAlone(ctx context.Context) error {
	w.flush = true
	none := &batch{first: w.at.sequence + 1, last: w.at.sequence, lastID: w.at.messageID}
	return w.transaction(ctx, none, func() error {
		if err := w.readPending(ctx); err != nil {
			return err
		}
		return w.flushPending(ctx)
	})
}

// followChanges brings the table latest up to a batch that may have changed points, or
// notes what it has to be brought up to.
func (w *writer) followChanges(ctx context.Context, b *batch, v *verdict) error {
	if w.bracket != fenced {
		return nil
	}
	c, err := w.crossChanges(ctx, b, v)
	if err != nil {
		return err
	}
	for _, p := range v.order {
		if p.touched {
			w.pending.follow(p, b)
		}
	}
	if !w.flush && w.fences.set == nil {
		return nil
	}
	if err := w.flushPending(ctx); err != nil {
		return err
	}
	return w.settleCrossings(ctx, c)
}

// follow notes what a batch made of a point.
func (p *pending) follow(of *point, b *batch) {
	var name string
	var is fix
	if !of.deleted {
		r := &b.rows[of.source]
		name, is = r.name, fix{r.time.UnixMicro(), of.position}
	}
	if of.was && of.name != "" {
		p.take(of.id, of.name, fix{of.at.UnixMicro(), of.position}, is, name == of.name, int64(of.revision))
	}
	if name != "" {
		p.add(name, is)
	}
}

// changed are points that were replaced or deleted, as they were.
type changed struct {
	ids       []uuid.UUID
	names     []string
	fixes     []fix
	revisions []int64 // their new ones
}

func (c *changed) add(id uuid.UUID, name string, was fix, revision int64) {
	c.ids, c.names = append(c.ids, id), append(c.names, name)
	c.fixes, c.revisions = append(c.fixes, was), append(c.revisions, revision)
}

// lost are names whose newest point, by the table latest, was changed, with the
// position of that, unless what waits of that name is no older.
func (w *writer) lost(ctx context.Context, p *pending) (map[string]int64, error) {
	lost := map[string]int64{}
	if len(p.was.ids) == 0 {
		return lost, nil
	}
	ids, err := w.newestIDs(ctx, p.was.names)
	if err != nil {
		return nil, fmt.Errorf("look who loses a newest point: %w", err)
	}
	for i, name := range p.was.names {
		if id, ok := ids[name]; !ok || id != p.was.ids[i] {
			continue
		}
		if f, ok := p.newest[name]; !ok || !f.newer(p.was.fixes[i]) {
			lost[name] = max(lost[name], p.was.revisions[i])
		}
	}
	return lost, nil
}

// newestIDs are the ids of the newest points of some names, as the table latest has them.
// A name that comes often is asked for once.
func (w *writer) newestIDs(ctx context.Context, names []string) (map[string]uuid.UUID, error) {
	ids := make(map[string]uuid.UUID, len(names))
	for _, name := range names {
		ids[name] = uuid.Nil
	}
	rows, err := w.conn.Query(ctx, `select l.name, l.id from unnest($1::text[]) d(name)
		join latest l on l.name = d.name collate "C" and l.geom is not null`, slices.Collect(maps.Keys(ids)))
	if err != nil {
		return nil, err
	}
	clear(ids)
	var name string
	var id uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&name, (*[16]byte)(&id)}, func() error {
		ids[name] = id
		return nil
	})
	return ids, err
}

// bury leaves of their rows what says that there is none. The name stays, for those
// who listen.
func bury(ctx context.Context, db database, names []string, since []int64) error {
	if len(names) == 0 {
		return nil
	}
	_, err := db.Exec(ctx, `update latest l set geom = null, altitude = null, observed_at = null, properties = null, members = null, author = null, since = greatest(l.since, d.since)
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
	return place(ctx, w.conn, newestSQL(w.segments()), names, since)
}

// newestSQL selects the newest point of each name in $1, with since from $2 where that
// is higher. Sealed segments have an index for it; of others all is read.
func newestSQL(segments []*schema.Segment) string {
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
