package projector

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"cairn/bus"
	"cairn/event"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
)

// readPoints finds out what the database has of the batch's ids, and gives numbers to
// contents: rows of one id, staged or there, with the same number say the same.
func (w *writer) readPoints(ctx context.Context, b *batch, v *verdict) error {
	ids := b.ids()
	for _, id := range ids {
		p := &point{id: id, source: stored}
		v.points[id], v.order = p, append(v.order, p)
	}
	v.staged = make(map[event.Position]stagedRow, len(b.rows))
	return w.compare(ctx, b, ids, v, func(c *compared) {
		if c.position != nil {
			v.staged[event.Position(*c.position)] = stagedRow{*c.number, *c.staged}
		}
		if c.stored.segment != nil {
			v.points[c.stored.id.Bytes].found(c)
		}
	})
}

// A stagedRow is a row of the batch as the temporary table has it.
type stagedRow struct {
	content int    // its number
	tid     string // where it lies
}

// unlike is the number of a content that no staged row of the id has.
const unlike = 0

// found takes in what the database has. An id that is staged several times comes as
// often, and one of them may say the same.
func (p *point) found(c *compared) {
	if s := &c.stored; !p.there {
		p.there, p.exists, p.segment, p.position, p.deleted, p.content = true, true, *s.segment, event.Position(*s.position), *s.deleted, unlike
		p.was, p.at, p.moved, p.tid, p.revision = !*s.deleted, *s.at, *s.moved, *s.tid, p.position
		if s.name != nil {
			p.name = *s.name
		}
		if s.revision != nil {
			p.revision, p.changed = event.Position(*s.revision), true
		}
	}
	if c.same {
		p.content = *c.number
	}
}

// decide goes through the events in their order.
func decide(b *batch, v *verdict) {
	for _, p := range v.parked {
		v.add(p.position, p.reason)
	}
	for i := range b.rows {
		r := &b.rows[i]
		staged, ok := v.staged[r.position]
		if !ok && r.kind != event.Deleted {
			continue // refused, and told
		}
		p := v.points[r.id]
		outcome := p.decide(i, r, staged.content)
		v.add(r.position, outcome)
		if outcome == bus.OutcomeCreated || outcome == bus.OutcomeReplaced || outcome == bus.OutcomeDeleted {
			v.applied = append(v.applied, i)
		}
		if outcome == bus.OutcomeConflict {
			v.parked = append(v.parked, parkedEvent{position: r.position, id: r.id, reason: outcome, event: r.event,
				detail: fmt.Sprintf("the point at position %d has this id and other content", p.position)})
		}
	}
	slices.SortFunc(v.outcomes, func(x, y eventOutcome) int { return cmp.Compare(x.position, y.position) })
}

// insert adds the points that were not there, in one statement. One that was
// deleted in the same batch is a tombstone from the start.
func (w *writer) insert(ctx context.Context, b *batch, v *verdict) error {
	var sources, positions []int64
	var revisions []*int64
	var deleted []bool
	for _, p := range v.order {
		if p.there || !p.touched {
			continue
		}
		if int64(p.position) < w.catalogue.head.Low {
			return w.usedAgain(b, "")
		}
		sources, positions = append(sources, int64(b.rows[p.source].position)), append(positions, int64(p.position))
		var revision *int64
		if p.changed {
			revision = (*int64)(&p.revision)
		}
		revisions, deleted = append(revisions, revision), append(deleted, p.deleted)
	}
	if len(sources) == 0 {
		return nil
	}
	_, err := w.conn.Exec(ctx, `insert into `+w.head()+` (`+schema.List("", schema.Columns)+`)
		select s.id, s.external_id, s.external_id_number, d.position, d.revision, case when not d.gone then s.name end,
			case when not d.gone then s.geom end, case when not d.gone then s.altitude end, case when not d.gone then s.observed_at end, s.received_at,
			case when not d.gone then s.properties end, case when not d.gone then s.members end, s.author
		from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bool[]) d(source, position, revision, gone)
		join staged s on s.position = d.source order by d.position`, sources, positions, revisions, deleted)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.ConstraintName == w.head()+"_position_key" {
		return w.usedAgain(b, pg.Detail)
	}
	if err != nil {
		return fmt.Errorf("insert what is new: %w", err)
	}
	return nil
}

func (w *writer) usedAgain(b *batch, detail string) error {
	return mismatch(remedyRestore, "the database has rows with the positions of messages %d to %d already (%s): the stream has used sequences again",
		b.first, b.last, detail)
}

// A location is where rows are that a batch changes.
type location struct {
	segment int
	moved   bool // in the segment's table of changed rows
}

// changesOf are a batch's changes of the rows in one place.
type changesOf struct {
	puts      []string // where the rows lie (ctid)
	ids       []uuid.UUID
	sources   []string // where their new content does, in staged: to join by it needs no hash of all that is staged
	revisions []int64
	at        []*point // of puts
	gone      []string
	goneAt    []int64
	authors   []*string // of those gone
	goneIDs   []uuid.UUID
	more      int64 // points that came back, less those that went
}

// change replaces and deletes points where they are, or moves them to the table of
// changed rows that their segment has.
func (w *writer) change(ctx context.Context, b *batch, v *verdict) error {
	changed := slices.DeleteFunc(slices.Clone(v.order), func(p *point) bool { return !p.there || !p.touched })
	// In the order of positions the indexes are entered side by side.
	slices.SortFunc(changed, func(a, b *point) int { return cmp.Compare(a.position, b.position) })
	locations := map[location]*changesOf{}
	for _, p := range changed {
		c := locations[location{p.segment, p.moved}]
		if c == nil {
			c = &changesOf{}
			locations[location{p.segment, p.moved}] = c
		}
		c.add(p, b, v)
	}
	for at, c := range locations {
		var err error
		switch {
		case at.moved:
			err = w.changeIn(ctx, schema.ChangedTable(at.segment), c)
		case w.catalogue.parted[at.segment]:
			err = w.move(ctx, at.segment, c)
		default:
			w.inPlace[at.segment] += len(c.puts) + len(c.gone)
			err = w.changeIn(ctx, schema.Table(at.segment), c)
		}
		if err != nil {
			return err
		}
	}
	return w.noteChanges(ctx, b, locations)
}

func (c *changesOf) add(p *point, b *batch, v *verdict) {
	if p.was && p.deleted {
		c.more--
	} else if !p.was && !p.deleted {
		c.more++
	}
	if !p.deleted {
		c.at, c.ids = append(c.at, p), append(c.ids, p.id)
		c.puts, c.sources, c.revisions = append(c.puts, p.tid), append(c.sources, v.staged[b.rows[p.source].position].tid), append(c.revisions, int64(p.revision))
		return
	}
	var author *string
	if p.author != "" {
		author = &p.author
	}
	c.gone, c.goneAt, c.authors = append(c.gone, p.tid), append(c.goneAt, int64(p.revision)), append(c.authors, author)
	c.goneIDs = append(c.goneIDs, p.id)
}

// changeIn changes rows where they are. They are found by where they lie, which was read
// in this transaction or just before it, when nobody else can have changed points since: their
// ids are checked all the same, as a person may have rewritten the table.
func (w *writer) changeIn(ctx context.Context, table string, c *changesOf) error {
	if len(c.puts) > 0 {
		err := w.changeAll(ctx, len(c.puts), `update only `+table+` p set (`+schema.List("", schema.State)+`, revision) = (`+schema.List("s.", schema.State)+`, d.revision)
			from unnest($1::text[]::tid[], $2::text[]::tid[], $3::bigint[]) d(tid, source, revision) join staged s on s.ctid = d.source
			where p.ctid = d.tid and p.id = s.id and s.position = d.revision and coalesce(p.revision, p.position) < d.revision`, c.puts, c.sources, c.revisions)
		if err != nil {
			return fmt.Errorf("replace points in %s: %w", table, err)
		}
	}
	if len(c.gone) > 0 {
		err := w.changeAll(ctx, len(c.gone), `update only `+table+` p set name = null, geom = null, altitude = null, observed_at = null, properties = null,
				members = null, author = d.author, revision = d.revision
			from unnest($1::text[]::tid[], $2::bigint[], $3::text[], $4::uuid[]) d(tid, revision, author, id)
			where p.ctid = d.tid and p.id = d.id and coalesce(p.revision, p.position) < d.revision`, c.gone, c.goneAt, c.authors, parameter(c.goneIDs))
		if err != nil {
			return fmt.Errorf("delete points in %s: %w", table, err)
		}
	}
	return nil
}

// changeAll runs a statement that has to change so many rows.
func (w *writer) changeAll(ctx context.Context, rows int, sql string, args ...any) error {
	tag, err := w.conn.Exec(ctx, sql, args...)
	if err == nil && tag.RowsAffected() != int64(rows) {
		err = fmt.Errorf("%d of %d rows were changed: another than the projector writes to the points", tag.RowsAffected(), rows)
	}
	return err
}

// noteChanges keeps what the catalogue says of the changed segments true, within
// the batch's transaction.
func (w *writer) noteChanges(ctx context.Context, b *batch, locations map[location]*changesOf) error {
	// Where anyone but the projection changes points, what it has prefetched is old.
	wider := w.bracket != fenced && len(locations) > 0
	for at, c := range locations {
		id := at.segment
		s := w.catalogue.find(id)
		if s == nil || !s.Known() {
			continue // the head, or one that nobody skips
		}
		after := *s
		after.Cells, after.Zones = slices.Clone(s.Cells), slices.Clone(s.Zones)
		revision := *s.Revision
		for _, p := range c.at {
			r := &b.rows[p.source]
			wider = widen(&after, p.position, r.at, r.time) || wider
		}
		for _, n := range append(slices.Clone(c.revisions), c.goneAt...) {
			revision = max(revision, n)
		}
		wider = wider || *s.Revision == 0
		after.Revision = &revision
		_, err := w.conn.Exec(ctx, `update segments set rows = rows + $2, revision = greatest(revision, $3), west = $4, south = $5, east = $6, north = $7,
			time_from = $8, time_to = $9, cells = coalesce($10, cells), zones = coalesce($11, zones) where id = $1`,
			id, c.more, revision, after.West, after.South, after.East, after.North, after.TimeFrom, after.TimeTo, ifNew(s.Cells, after.Cells), ifNew(s.Zones, after.Zones))
		if err != nil {
			return fmt.Errorf("note what segment %d holds: %w", id, err)
		}
		*s = after
	}
	if !wider {
		return nil
	}
	w.catalogue.number++
	return raiseCatalogue(ctx, w.conn)
}

// ifNew is what is now where it is not what was: large values that stay are not written.
func ifNew(was, now []byte) []byte {
	if bytes.Equal(was, now) {
		return nil
	}
	return now
}
