package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/event"
	"cairn/query/filter"
	"cairn/schema"
)

const (
	// batchRows and batchBytes bound what is read of one segment at once: some
	// milliseconds of the database's time.
	batchRows  = 1_000
	batchBytes = 1 << 20
	// strideRows is how many rows one statement looks through for those that
	// a filter lets pass: about 10 ms in memory.
	strideRows = 50_000
	// catalogueTries bounds how often a read starts over because the segments
	// changed under it: merges are minutes apart.
	catalogueTries = 4
)

// A batch is what was created or changed after a position, in order.
type batch struct {
	changes  []*change
	upTo     event.Position // all up to here is in it
	sequence uint64         // of the checkpoint
	floor    event.Position // what is below was dropped by retention
	more     bool           // there may be more at once
}

// A source is a segment as the feed sees it.
type source struct {
	id        int
	low, high int64
	revision  int64 // of the last change in it; -1: not known
}

// A catalogue is the segments of a moment. What their tables hold is at least
// what was there at its sequence, also when one was merged since: until its table
// is dropped it stays as it was.
type catalogue struct {
	sequence uint64
	floor    event.Position
	segments []source // the oldest first
}

const catalogueSelect = `select c.sequence, c.floor, s.id, s.low, s.high, coalesce(s.revision, -1)
	from checkpoint c left join segments s on s.state in ('` + schema.Head + `', '` + schema.Sealed + `') where c.id order by s.low`

// catalogue reads which segments there are.
func (s *service) catalogue(ctx context.Context) (catalogue, error) {
	defer s.metrics.observe("segments", time.Now())
	var c catalogue
	rows, err := s.feed.Query(ctx, catalogueSelect)
	if err != nil {
		return c, err
	}
	defer rows.Close()
	any := false
	for rows.Next() {
		var sequence, floor int64
		var id *int
		var low, high *int64
		var revision int64
		if err := rows.Scan(&sequence, &floor, &id, &low, &high, &revision); err != nil {
			return c, err
		}
		any, c.sequence, c.floor = true, uint64(sequence), event.Position(floor)
		if id != nil {
			c.segments = append(c.segments, source{*id, *low, *high, revision})
		}
	}
	if err := rows.Err(); err != nil {
		return c, err
	}
	if !any {
		return c, errNoCheckpoint
	}
	return c, nil
}

// floor is the position below which retention has dropped all.
func (s *service) floor() (event.Position, error) {
	ctx, cancel := s.bounded()
	defer cancel()
	c, err := s.catalogue(ctx)
	return c.floor, err
}

// changes reads what was created or changed after a position: rows created in
// the order of their positions, rows changed, deleted ones among them, in the
// order of their revisions. It is what a reader that knows all up to that
// position has to be told to know all up to the batch's end.
//
// The filter holds for creations only: a row that it no longer lets through is
// news too. A row created and changed since is in it once, where it was created,
// as it is now; one that was deleted since is nothing that a reader knows. So nobody
// may be told of it who knows more than that position: most bounds the batch.
func (s *service) changes(after, most event.Position, only filter.Expr) (batch, error) {
	ctx, cancel := s.bounded()
	defer cancel()
	var err error
	for range catalogueTries {
		snapshot := s.tracker.Begin()
		var c catalogue
		if c, err = s.catalogue(ctx); err != nil {
			return batch{}, err
		}
		s.tracker.Read(snapshot, c.sequence)
		r := feedRead{service: s, after: after, only: only, upTo: min(most, event.EndOf(c.sequence))}
		if err = r.read(c); err == nil {
			return r.batch(c), nil
		}
		if !isGone(err) {
			return batch{}, err
		}
	}
	return batch{}, err
}

// feedRows runs a statement on one of the feed's own connections, and hands each row
// to f until that wants no more.
func (s *service) feedRows(st statement, args []any, f func(row) (more bool, err error)) error {
	ctx, cancel := s.bounded()
	defer cancel()
	conn, err := s.feed.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	defer s.metrics.observe(st.kind, time.Now())
	rows, err := conn.Query(ctx, st.sql, append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r := row(rows.RawValues())
		if len(r) <= colAuthor {
			return errRow
		}
		if r[colID] == nil {
			continue
		}
		if more, err := f(r); err != nil || !more {
			drain(ctx, conn, rows) // closing rows would read all that is left
			return err
		}
	}
	return rows.Err()
}

// feedConnections are the feed's own: one to look at the checkpoint, one to read.
// Whatever pages cost, they learn what is new.
const feedConnections = 2

func openFeedPool(ctx context.Context, pages *pgxpool.Pool) (*pgxpool.Pool, error) {
	cfg := pages.Config()
	cfg.MaxConns, cfg.MinConns, cfg.MinIdleConns = feedConnections, 0, 0
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare the feed's database connections: %w", err)
	}
	return pool, nil
}

// isGone reports whether a segment's table was dropped while it was read.
func isGone(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42P01"
}

// A feedRead is one reading of changes under way.
type feedRead struct {
	*service
	after   event.Position
	only    filter.Expr
	upTo    event.Position // all changes up to here were read
	changes []*change
}

func (r *feedRead) read(c catalogue) error {
	if r.upTo <= r.after {
		return nil
	}
	for i := range c.segments {
		g := &c.segments[i]
		if g.low <= int64(r.after) && (g.revision < 0 || g.revision > int64(r.after)) {
			if err := r.changed(g); err != nil {
				return err
			}
		}
	}
	for i := range c.segments {
		g := &c.segments[i]
		if g.high <= int64(r.after)+1 {
			continue
		}
		if g.low > int64(r.upTo) {
			break
		}
		if err := r.created(g); err != nil {
			return err
		}
		if g.high <= int64(r.upTo) {
			// The next segment is the next batch's.
			r.upTo = event.Position(g.high - 1)
		}
	}
	return nil
}

const (
	feedColumns = columns + `, name, author`
	feedSelect  = `select c.sequence, p.* from checkpoint c left join lateral (%s) p on true where c.id`
)

// changed reads the segment's rows from before that were changed since.
func (r *feedRead) changed(g *source) error {
	sql := fmt.Sprintf(feedSelect, `select `+feedColumns+` from `+schema.Table(g.id)+`
		where revision > $1::bigint and position <= $1 order by revision limit $2::bigint`)
	return r.take(statement{kind: "changed", sql: sql}, []any{int64(r.after), int64(batchRows)})
}

// created reads the segment's rows that came since, and that the filter lets
// through.
func (r *feedRead) created(g *source) error {
	b := filter.Builder{Args: []any{int64(r.after), int64(batchRows), int64(math.MaxInt64)}}
	if r.only != nil {
		edge, err := r.edge(g)
		if err != nil {
			return err
		}
		b.Args[2] = edge
		r.upTo = min(r.upTo, event.Position(edge))
	}
	sql := fmt.Sprintf(feedSelect, `select `+feedColumns+` from `+schema.Table(g.id)+`
		where position > $1::bigint and position <= $3::bigint and `+b.Where(r.only)+` order by position limit $2::bigint`)
	return r.take(statement{kind: "created", sql: sql}, b.Args)
}

// edge is how far one statement looks through the segment.
func (r *feedRead) edge(g *source) (edge int64, err error) {
	ctx, cancel := r.bounded()
	defer cancel()
	err = r.feed.QueryRow(ctx, `select coalesce((select position from `+schema.Table(g.id)+`
		where position > $1 order by position offset $2 limit 1), $3)`, int64(r.after), strideRows, g.high-1).Scan(&edge)
	return edge, err
}

// take reads a statement's rows, which are in the order of their changes, and where
// that was not all, says so by upTo.
func (r *feedRead) take(st statement, args []any) error {
	n, bytes := 0, 0
	last := event.Position(0)
	err := r.feedRows(st, args, func(row row) (bool, error) {
		c, err := newChange(row, r.after)
		if err != nil {
			return false, err
		}
		if c.at <= last {
			return false, errOrder
		}
		last = c.at
		r.changes = append(r.changes, c)
		n, bytes = n+1, bytes+len(c.wire)
		return bytes < batchBytes && last < r.upTo, nil
	})
	if err != nil {
		return err
	}
	if n >= batchRows || bytes >= batchBytes {
		r.upTo = min(r.upTo, last)
	}
	r.metrics.rows.Add(float64(n))
	return nil
}

// batch is what was read, as far as all of it is known.
func (r *feedRead) batch(c catalogue) batch {
	all := slices.DeleteFunc(r.changes, func(c *change) bool { return c.at > r.upTo })
	slices.SortFunc(all, func(a, b *change) int { return cmp.Compare(a.at, b.at) })
	return batch{changes: all, upTo: max(r.upTo, r.after), sequence: c.sequence, floor: c.floor, more: r.upTo < event.EndOf(c.sequence)}
}

// older reads the newest rows below a position, deleted ones among them, in the
// order of positions, and says from which position on that is all. The sequence is one
// that all of it has seen.
func (s *service) older(below event.Position, limit int) (rows []*change, from event.Position, sequence uint64, err error) {
	ctx, cancel := s.bounded()
	defer cancel()
	c, err := s.catalogue(ctx)
	if err != nil {
		return nil, 0, 0, err
	}
	last := -1
	for i := range c.segments {
		if c.segments[i].low < int64(below) {
			last = i
		}
	}
	if last < 0 {
		return nil, 0, c.sequence, nil
	}
	g, bytes := &c.segments[last], 0
	sql := fmt.Sprintf(feedSelect, `select `+feedColumns+` from `+schema.Table(g.id)+`
		where position < $1::bigint order by position desc limit $2::bigint`)
	err = s.feedRows(statement{kind: "older", sql: sql}, []any{int64(below), int64(limit)}, func(r row) (bool, error) {
		c, err := newChange(r, 0)
		if err == nil {
			rows = append(rows, c)
			bytes += len(c.wire)
		}
		return bytes < olderBytes, err
	})
	from = event.Position(g.low)
	if n := len(rows); n == limit || bytes >= olderBytes {
		from = rows[n-1].Position
	}
	slices.Reverse(rows)
	s.metrics.rows.Add(float64(len(rows)))
	return rows, from, c.sequence, err
}

// olderBytes bounds what is read at once to fill the memory.
const olderBytes = 4 << 20
