package plan

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/event"
	"cairn/query/filter"
	"cairn/schema"
)

// A Snapshot reads segments one by one, all as they are at one moment: for those who
// keep what they made of a segment, and read only those that have changed.
type Snapshot struct {
	Sequence uint64 // the checkpoint's

	reader    *Reader
	conn      *pgxpool.Conn
	catalogue *catalogue
	revisions map[int]int64
	known     map[int]bool
	cells     bool // the projector's counts can be read: the schema is of this version
}

// A Part is a segment, as a snapshot has it.
type Part struct {
	ID        int
	Low, High event.Position // it holds what was created from Low to below High
	// Revision is the position of the last change in it. Nothing in a part has
	// changed, nor was anything added, since a moment at which both its High and
	// its Revision were past; Fixed is false where that cannot be told.
	Revision event.Position
	Fixed    bool
	step     step
}

// snapshotHeavyRows: a snapshot in which as many rows may be looked at waits in the
// heavy lane; it takes about 20 ms.
const snapshotHeavyRows = 50_000

const beginTile = `begin isolation level repeatable read read only`

// Snapshot hands f a snapshot, in which it will look at about so many rows. Where
// segments went while f read them, f is called again with another, and must start over.
func (r *Reader) Snapshot(ctx context.Context, rows float64, f func(*Snapshot) error) error {
	in := pages
	if rows > snapshotHeavyRows {
		in = heavy
	}
	release, conn, err := r.acquire(ctx, in)
	if err != nil {
		return err
	}
	defer release()
	var old *catalogue
	for range maxPlans {
		s := &Snapshot{reader: r, conn: conn}
		if err = s.begin(ctx, old); err == nil {
			err = f(s)
		}
		old = s.catalogue
		// A connection that is left inside a transaction is closed by the pool.
		_, _ = conn.Exec(context.WithoutCancel(ctx), "rollback")
		if !again(err) {
			return err
		}
	}
	return errStale
}

// Visits is about how many rows are looked at to find all that pass, as far as the
// catalogue can tell.
func (r *Reader) Visits(e filter.Expr) (sum float64) {
	c := r.catalogue.last()
	if c == nil {
		return 0
	}
	x := filter.Bound(e)
	for _, s := range c.reaching(x.Low, x.High, false) {
		if st, ok := s.choose(&goal{extent: &x, need: s.rows, gather: s}); ok {
			sum += st.visit
		}
	}
	return sum
}

func (s *Snapshot) begin(ctx context.Context, old *catalogue) error {
	if _, err := s.conn.Exec(ctx, beginTile); err != nil {
		return err
	}
	var version int64
	s.revisions, s.known = map[int]int64{}, map[int]bool{}
	err := s.reader.query(ctx, s.conn, `select c.sequence, c.catalogue, s.id::bigint, s.revision,
			(select coalesce(has_table_privilege(t, 'select'), false)::int::bigint from to_regclass('segment_cells') t)
		from checkpoint c left join segments s on true where c.id`, nil, func(row Row) (bool, error) {
		sequence, ok := row.Int64(0)
		number, ok2 := row.Int64(1)
		if !ok || !ok2 {
			return false, ErrRow
		}
		s.Sequence, version = uint64(sequence), number //nolint:gosec // not negative
		cells, _ := row.Int64(4)
		s.cells = cells == 1
		if id, ok := row.Int64(2); ok {
			s.revisions[int(id)], s.known[int(id)] = row.Int64(3)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if s.catalogue, err = s.reader.catalogue.get(ctx, s.conn.Conn(), old); err != nil {
		return noRow(err)
	}
	if s.catalogue.version != version {
		return errStale
	}
	return nil
}

// Parts are the segments that may hold what passes e, the oldest first.
func (s *Snapshot) Parts(e filter.Expr) (out []Part) {
	x := filter.Bound(e)
	for _, g := range s.catalogue.reaching(x.Low, x.High, true) {
		st, ok := g.choose(&goal{extent: &x, need: g.rows, gather: g})
		if !ok {
			continue
		}
		out = append(out, Part{ID: g.id, Low: event.Position(g.low), High: event.Position(g.high), Revision: event.Position(s.revisions[g.id]),
			Fixed: !g.head && s.known[g.id], step: st})
	}
	return out
}

// A Place is a row as a map shows it.
type Place struct {
	ID                  []byte // of 16 bytes
	ExternalID, Name    []byte // nil: it has none
	Longitude, Latitude float64
	Position            event.Position
	Observed            int64 // microseconds since 2000-01-01 UTC, where Timed
	Timed               bool
}

// Places hands the rows of a part that pass e to f, at most limit, in no order. What
// a Place holds is valid until the next.
func (s *Snapshot) Places(ctx context.Context, p Part, e filter.Expr, limit int, f func(*Place) error) error {
	defer s.reader.observe("places", time.Now())
	st, x := newStatement(&Query{Filter: e}, limit), filter.Bound(e)
	st.after = "true"
	from := p.step.segment.table
	if p.step.way != along && p.step.way != bounded {
		some := p.step
		some.visit = 0 // no bitmap: the limit ends it
		from = st.gathered(some, &x) + " s"
	}
	st.WriteString("select id, external_id, name, ST_X(geom), ST_Y(geom), position, observed_at from " + from + " where " + st.passing(st.after) + " limit " + st.limit)
	var place Place
	return s.reader.query(ctx, s.conn, st.String(), st.Args, func(r Row) (bool, error) {
		x, ok := r.Float64(3)
		y, ok2 := r.Float64(4)
		position, ok3 := r.Int64(5)
		if !ok || !ok2 || !ok3 || len(r[0]) != 16 {
			return false, ErrRow
		}
		place = Place{ID: r[0], ExternalID: r[1], Name: r[2], Longitude: x, Latitude: y, Position: event.Position(position)}
		place.Observed, place.Timed = r.Int64(6)
		return true, f(&place)
	})
}

// Changed reports whether a row of the part that was created up to a position was
// changed or deleted since another.
func (s *Snapshot) Changed(ctx context.Context, p Part, since, created event.Position) (changed bool, err error) {
	err = s.conn.QueryRow(ctx, `select exists (select from `+p.step.segment.table+` where revision > $1 and position <= $2)`, int64(since), int64(created)).Scan(&changed)
	return changed, err
}

// Cells tells f how many points of the part that were created after a position are
// in each cell of a grid over the map in Web Mercator, by column and row from the
// north-west. From the beginning it reads the whole segment: a second for two million
// rows.
func (s *Snapshot) Cells(ctx context.Context, p Part, after event.Position, f func(column, row, n uint32)) error {
	defer s.reader.observe("cells", time.Now())
	where, args := "", []any(nil)
	if after > 0 {
		where, args = " and position > $1", []any{int64(after)}
	}
	return s.reader.query(ctx, s.conn, `select (`+schema.CellColumn+`)::bigint, (`+schema.CellRow+`)::bigint, count(*)
		from `+p.step.segment.table+` where geom is not null`+where+` group by 1, 2`, args, func(row Row) (bool, error) {
		column, ok := row.Int64(0)
		line, ok2 := row.Int64(1)
		n, ok3 := row.Int64(2)
		if !ok || !ok2 || !ok3 {
			return false, ErrRow
		}
		f(uint32(column), uint32(line), uint32(n)) //nolint:gosec // below 2¹⁴; a segment has fewer rows than 2³²
		return true, nil
	})
}

// CellCounts calls f with the cells of the part as the projector counted them, each 2^coarse wide,
// with all changes up to a revision. ok is false where it has not (yet).
func (s *Snapshot) CellCounts(ctx context.Context, p Part, f func(column, row, n uint32)) (revision event.Position, coarse uint, ok bool, err error) {
	if !s.cells {
		return 0, 0, false, nil
	}
	var cells []byte
	var bits int
	err = s.conn.QueryRow(ctx, `select revision, coarse, cells from segment_cells where segment = $1`, p.ID).Scan((*int64)(&revision), &bits, &cells)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, false, nil
	}
	if err != nil || bits < 0 || bits > schema.MaxCoarse {
		return 0, 0, false, errors.Join(err, ErrRow)
	}
	for ; len(cells) >= 12; cells = cells[12:] {
		f(binary.BigEndian.Uint32(cells)&(1<<schema.CellBits-1), binary.BigEndian.Uint32(cells[4:])&(1<<schema.CellBits-1), binary.BigEndian.Uint32(cells[8:]))
	}
	return revision, uint(bits), true, nil
}
