package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/event"
	"cairn/query/filter"
)

// trackRows is how many fixes are fetched at once: enough to make the round trips
// cheap, and few enough that the first ones come at once.
const trackRows = 1000

// A Fix is a point of a track.
type Fix struct {
	ID         [16]byte
	ExternalID string // "" where the id is the key's own text
	Position   event.Position
	X, Y       float64 // longitude, latitude
	Altitude   float64 // metres; NaN where there is none
	Time       int64   // observed, else received, in microseconds since 2000-01-01 UTC
}

// A Track reads what has one name in the order of time, in one snapshot. Of fixes of
// one time, those of a lower position come first.
type Track struct {
	Sequence uint64 // the checkpoint's

	ctx     context.Context
	conn    *pgx.Conn
	parts   []trackPart // by the time from which each may have fixes
	args    []any
	cursors int
}

// A trackPart is a segment in which there may be fixes, from a time on.
type trackPart struct {
	from int64
	sql  string
}

// Track hands f the track of a name: of its points, those that pass the filter. It has
// a connection to itself until f returns, and the caller bounds how many there are
// and for how long.
func (r *Reader) Track(ctx context.Context, name string, e filter.Expr, f func(*Track) error) error {
	return r.inSnapshot(ctx, "track", func(conn *pgx.Conn, c *catalogue, sequence uint64) error {
		t := &Track{Sequence: sequence, ctx: ctx, conn: conn}
		// A segment's index gives the order, so that the first fixes need not wait for
		// the last.
		if _, err := conn.Exec(ctx, `set local enable_bitmapscan = off`); err != nil {
			return err
		}
		x := filter.Bound(e)
		b := filter.Builder{}
		where := `name collate "C" = ` + b.Arg(name, "text") + ` and geom is not null and ` + b.Where(e)
		t.args = b.Args
		for _, s := range c.reaching(x.Low, x.High, true) {
			if s.known && (s.inTime(x.From, x.To) == 0 || x.Boxes != nil && s.inBoxes(x.Boxes) == 0) {
				continue
			}
			t.parts = append(t.parts, trackPart{s.from, `select id, external_id, position, ST_X(geom), ST_Y(geom), altitude, ` + filter.When + ` as at from ` + s.table +
				` where ` + where + ` order by at, position`})
		}
		slices.SortStableFunc(t.parts, func(a, b trackPart) int { return cmp.Compare(a.from, b.from) })
		return f(t)
	})
}

// inSnapshot runs f on a connection to itself, in a transaction that sees one state
// of the database, with the catalogue as that has it.
func (r *Reader) inSnapshot(ctx context.Context, kind string, f func(conn *pgx.Conn, c *catalogue, sequence uint64) error) error {
	pooled, err := r.begin(ctx)
	if err != nil {
		return err
	}
	conn, whole := pooled.Conn(), false
	defer func() {
		if whole {
			_, err := conn.Exec(ctx, "commit")
			whole = err == nil
		}
		if !whole {
			// Where it breaks off there may be a million rows to come, and nobody waits.
			_ = conn.PgConn().Conn().Close()
		}
		pooled.Release()
	}()
	defer r.observe(kind, time.Now())
	c, err := load(ctx, conn)
	if err != nil {
		return noRow(err)
	}
	var sequence int64
	if err := conn.QueryRow(ctx, `select sequence from checkpoint where id`).Scan(&sequence); err != nil {
		return noRow(err)
	}
	err = f(conn, c, uint64(sequence)) //nolint:gosec // not negative
	whole = err == nil
	return err
}

// begin takes a connection and begins a snapshot. One that was made before the database
// went and came again is no reason to fail.
func (r *Reader) begin(ctx context.Context) (*pgxpool.Conn, error) {
	for again := true; ; again = false {
		conn, err := r.long.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		if _, err = conn.Exec(ctx, beginSnapshot); err == nil {
			return conn, nil
		}
		_ = conn.Conn().PgConn().Conn().Close()
		conn.Release()
		if !again {
			return nil, err
		}
		r.long.Reset()
	}
}

// Fixes begins to read the track, from its first fix. It may be read more than once,
// even by turns.
func (t *Track) Fixes() (*Fixes, error) { return &Fixes{track: t, waiting: t.parts}, nil }

// Fixes are read one after the other, and not all kept: what the segments have, merged.
// A segment is opened when the time comes from which it has fixes.
type Fixes struct {
	track   *Track
	open    []*trackCursor
	waiting []trackPart
}

// Next is the next fix; nil after the last. It is good until the one after.
func (f *Fixes) Next() (*Fix, error) {
	for {
		best, err := f.best()
		if err != nil {
			return nil, err
		}
		if len(f.waiting) > 0 && (best == nil || f.waiting[0].from <= best.now().Time) {
			c, err := f.track.cursor(f.waiting[0].sql)
			if err != nil {
				return nil, err
			}
			f.open, f.waiting = append(f.open, c), f.waiting[1:]
			continue
		}
		if best == nil {
			return nil, nil
		}
		best.next++
		return &best.fixes[best.next-1], nil
	}
}

// best is the cursor whose next fix is the first; nil: all are at their end.
func (f *Fixes) best() (best *trackCursor, err error) {
	for i := 0; i < len(f.open); i++ {
		c := f.open[i]
		more, err := c.more()
		if err != nil {
			return nil, err
		}
		if !more {
			f.open = slices.Delete(f.open, i, i+1)
			i--
			continue
		}
		if best == nil || c.now().before(best.now()) {
			best = c
		}
	}
	return best, nil
}

func (f *Fix) before(o *Fix) bool {
	return f.Time < o.Time || f.Time == o.Time && f.Position < o.Position
}

// A trackCursor reads one segment, some fixes at a time.
type trackCursor struct {
	track *Track
	fetch string
	fixes []Fix // that were fetched
	next  int
	ended bool
}

func (t *Track) cursor(sql string) (*trackCursor, error) {
	c := &trackCursor{track: t, fetch: fmt.Sprintf("fetch %d from fixes_%d", trackRows, t.cursors)}
	_, err := t.conn.Exec(t.ctx, fmt.Sprintf("declare fixes_%d no scroll cursor for ", t.cursors)+sql, t.args...)
	t.cursors++
	return c, err
}

func (c *trackCursor) now() *Fix { return &c.fixes[c.next] }

// more reports whether there is another fix.
func (c *trackCursor) more() (bool, error) {
	if c.next < len(c.fixes) {
		return true, nil
	}
	if c.ended {
		return false, nil
	}
	c.fixes, c.next = c.fixes[:0], 0
	rows, err := c.track.conn.Query(c.track.ctx, c.fetch, pgx.QueryResultFormats{pgx.BinaryFormatCode})
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		fix, err := fixOf(Row(rows.RawValues()))
		if err != nil {
			return false, err
		}
		c.fixes = append(c.fixes, fix)
	}
	c.ended = len(c.fixes) < trackRows
	return len(c.fixes) > 0, rows.Err()
}

func fixOf(r Row) (f Fix, err error) {
	const id, external, position, x, y, altitude, at = 0, 1, 2, 3, 4, 5, 6
	if len(r) <= at || len(r[id]) != len(f.ID) {
		return f, ErrRow
	}
	copy(f.ID[:], r[id])
	f.ExternalID = string(r[external])
	n, ok := r.Int64(position)
	f.Position = event.Position(n)
	var ok2, ok3, ok4 bool
	f.X, ok2 = r.Float64(x)
	f.Y, ok3 = r.Float64(y)
	f.Time, ok4 = r.Int64(at)
	if !ok || !ok2 || !ok3 || !ok4 {
		return f, ErrRow
	}
	if f.Altitude, ok = r.Float64(altitude); !ok {
		f.Altitude = math.NaN()
	}
	return f, nil
}

// A Summary is what is known of a track without reading it.
type Summary struct {
	Name        string
	First, Last int64 // times, in microseconds since 2000-01-01 UTC
	Count       int64
}

// Summaries returns, for names in their order, how many points each has and from when
// to when: one look into an index a segment for the times, and a walk along it for the
// count. What has none is left out.
func (r *Reader) Summaries(ctx context.Context, names []string) (list []Summary, sequence uint64, err error) {
	err = r.inSnapshot(ctx, "summaries", func(conn *pgx.Conn, c *catalogue, at uint64) error {
		sequence = at
		if len(names) == 0 {
			return nil
		}
		var parts []string
		for _, s := range c.segments {
			parts = append(parts, summarySQL(s))
		}
		rows, err := conn.Query(ctx, `select name, min(first), max(last), sum(n)::bigint from (`+strings.Join(parts, " union all ")+`) s
			where n > 0 group by name order by name collate "C"`, names)
		if err != nil {
			return err
		}
		var s Summary
		var first, last time.Time
		_, err = pgx.ForEachRow(rows, []any{&s.Name, &first, &last, &s.Count}, func() error {
			s.First, s.Last = first.UnixMicro()-filter.PostgresEpoch, last.UnixMicro()-filter.PostgresEpoch
			list = append(list, s)
			return nil
		})
		return err
	})
	return list, sequence, err
}

func summarySQL(s *segment) string {
	if !s.known { // it has no index over names
		return `select name, min(` + filter.When + `) as first, max(` + filter.When + `) as last, count(*) as n from ` + s.table + ` where name collate "C" = any($1::text[]) group by name`
	}
	end := func(direction string) string {
		return `(select ` + filter.When + ` from ` + s.table + ` s where s.name collate "C" = d.name collate "C" order by ` + filter.When + " " + direction + `, position ` + direction + ` limit 1)`
	}
	return `select d.name, ` + end("asc") + ` as first, ` + end("desc") + ` as last,
		(select count(*) from ` + s.table + ` s where s.name collate "C" = d.name collate "C") as n from unnest($1::text[]) d(name)`
}

// Named reports whether any point has the name, of those that pass the filter.
func (r *Reader) Named(ctx context.Context, name string, e filter.Expr) (bool, error) {
	value, err := filter.TextValue(name)
	if err != nil {
		return false, nil // no point can have it
	}
	q := Query{Filter: filter.All(filter.Compare{Field: filter.Name, Op: filter.Equal, Value: value}, e), Limit: 1}
	found := false
	see := func(Row) (bool, error) { found = true; return false, nil }
	if e == nil { // else the newest may be one that does not pass
		newest := q
		newest.Sort, newest.Wide = ByName, true
		if _, err = r.Latest(ctx, newest, see); err == nil || !errors.Is(err, ErrGathering) {
			return found, err
		}
	}
	_, err = r.Page(ctx, q, see)
	return found, err
}
