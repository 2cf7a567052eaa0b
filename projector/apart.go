package projector

import (
	"context"
	"fmt"
	"maps"
	"time"

	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

// Rows that change in a large segment move to a table of their own beside it. To
// change one in place touches the page of its row and one of each index, which
// nothing else touches before the next checkpoint: 50 kB of the log for a row of
// 150 bytes. To move it touches the page of its row, and the ends of indexes that
// are small.
//
// The table inherits from the segment's, so every reader has both without knowing
// it. Those who plan with the catalogue learn from its number that there is a new
// one: a plan without it is planned again.

const (
	// partAfter: as soon as so many rows of a segment were changed in place, it
	// gets a table for those to come.
	partAfter = 32
	// partPatience bounds the wait for whoever has the segment's table for
	// himself, such as a vacuum. Batches wait meanwhile.
	partPatience = 50 * time.Millisecond
	// foldPart: what was changed is brought back into the order of the segment when
	// it is this part of it. A fold rewrites the whole segment.
	foldPart = 4
	// grownBytes is when a table of changed rows needs an index over times: below, to
	// look through it takes a millisecond.
	grownBytes = 1 << 20
)

// move takes the changed rows out of a segment's table and puts them into that of
// its changed rows.
func (w *writer) move(ctx context.Context, segment int, c *changesOf) error {
	rows, sources := append(c.puts[:len(c.puts):len(c.puts)], c.gone...), make([]*string, len(c.puts)+len(c.gone))
	for i := range c.sources {
		sources[i] = &c.sources[i]
	}
	revisions := append(c.revisions[:len(c.revisions):len(c.revisions)], c.goneAt...)
	authors := append(make([]*string, len(c.puts)), c.authors...)
	ids := append(c.ids[:len(c.ids):len(c.ids)], c.goneIDs...)
	err := w.changeAll(ctx, len(rows), `with old as (
			delete from only `+schema.Table(segment)+` p using unnest($1::text[]::tid[], $2::text[]::tid[], $3::bigint[], $4::text[], $5::uuid[]) d(tid, source, revision, author, id)
			where p.ctid = d.tid and p.id = d.id and coalesce(p.revision, p.position) < d.revision
			returning p.id, p.position, p.external_id, p.external_id_number, p.received_at, d.source, d.revision, d.author)
		insert into `+schema.ChangedTable(segment)+` (id, position, revision, external_id, external_id_number, received_at, author,
			name, geom, altitude, observed_at, properties, members)
		select o.id, o.position, o.revision, case when o.source is null then o.external_id else s.external_id end,
			case when o.source is null then o.external_id_number else s.external_id_number end, coalesce(s.received_at, o.received_at),
			case when o.source is null then o.author else s.author end, s.name, s.geom, s.altitude, s.observed_at, s.properties, s.members
		from old o left join staged s on s.ctid = o.source
		where o.source is null or s.position = o.revision order by o.position`, rows, sources, revisions, authors, parameter(ids))
	if err != nil {
		return fmt.Errorf("move changed points of segment %d: %w", segment, err)
	}
	return nil
}

// readParted reads which segments have a table for changed rows.
func readParted(ctx context.Context, db schema.Querier) (map[int]bool, error) {
	rows, err := db.Query(ctx, `select s.id from segments s join pg_inherits i on i.inhparent = to_regclass('points_' || s.id)`)
	if err != nil {
		return nil, fmt.Errorf("look for tables of changed rows: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("look for tables of changed rows: %w", err)
	}
	parted := map[int]bool{}
	for _, id := range ids {
		parted[id] = true
	}
	return parted, nil
}

// part gives a table for changed rows to the segments of which enough were changed
// in place, in a transaction of its own.
func (w *writer) part(ctx context.Context) error {
	maps.DeleteFunc(w.inPlace, func(id, _ int) bool { return w.catalogue.find(id) == nil })
	for id, n := range w.inPlace {
		s := w.catalogue.find(id)
		if n < partAfter || w.catalogue.parted[id] || !s.LatestDone {
			continue
		}
		delete(w.inPlace, id)
		err := w.partOne(ctx, id)
		if err != nil {
			err = w.rollback(ctx, fmt.Errorf("make the table of segment %d's changed rows: %w", id, err))
		}
		if err != nil && !isLockTimeout(err) {
			return err
		}
	}
	return nil
}

func (w *writer) partOne(ctx context.Context, id int) error {
	if err := w.raise(ctx); err != nil {
		return err
	}
	if _, err := w.conn.Exec(ctx, fmt.Sprintf(`set local lock_timeout = %d`, partPatience.Milliseconds())); err != nil {
		return err
	}
	if err := execAll(ctx, w.conn, append(schema.CreateChangedTable(id), "commit")); err != nil {
		return err
	}
	w.catalogue.number = 0 // read again with the next batch
	return nil
}

// indexChanged gives a table of changed rows the index over times, when it has grown
// and the projection has nothing to do.
func (m *maintenance) indexChanged(ctx context.Context, _ []schema.Segment) (bool, error) {
	if m.behind() {
		return false, nil
	}
	var id int
	err := m.conn.QueryRow(ctx, `select coalesce(min(s.id), 0) from segments s join pg_inherits i on i.inhparent = to_regclass('points_' || s.id)
		where s.state = 'sealed' and pg_relation_size(i.inhrelid) > $1 and not exists (select from pg_index x
			where x.indexrelid = to_regclass('points_' || s.id || '_changed_time') and x.indisvalid)`, grownBytes).Scan(&id)
	if err != nil {
		return false, fmt.Errorf("look for tables of changed rows without an index over times: %w", err)
	}
	if id == 0 {
		return false, nil
	}
	name, ddl := schema.ChangedTimeIndex(id)
	return true, m.ensureIndex(ctx, name, ddl)
}

// fold rewrites a segment of which much was changed: the rows are in the order of
// their places again, and in one table.
func (m *maintenance) fold(ctx context.Context, all []schema.Segment) (bool, error) {
	part := foldPart
	if m.behind() {
		part = 1
	}
	id, err := foldable(ctx, m.conn, part)
	if err != nil {
		return false, err
	}
	for _, s := range all {
		if s.ID == id && s.Known() && s.Rows != nil {
			return true, m.rewrite(ctx, "fold", []schema.Segment{s}, nil)
		}
	}
	return false, nil
}

// foldable is the segment of which most was changed, if that is more than one part of
// so many; 0: there is none.
func foldable(ctx context.Context, db *pgx.Conn, part int) (id int, err error) {
	err = db.QueryRow(ctx, `select coalesce((select id from (
			select s.id, pg_relation_size(i.inhrelid) as changed, pg_relation_size(i.inhparent) as whole
			from segments s join pg_inherits i on i.inhparent = to_regclass('points_' || s.id) where s.state = 'sealed') t
		where changed * $1 > whole order by changed::float8 / greatest(whole, 1) desc limit 1), 0)`, part).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("look for segments that were changed: %w", err)
	}
	return id, nil
}
