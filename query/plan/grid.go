package plan

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// GridBits is how fine the grid of [Reader.Cells] is: 2¹⁴ cells from west to east.
const GridBits = 14

// A Part is a segment as those see it who count its points by place.
type Part struct {
	ID       int
	Revision int64 // of its last change: what was counted at another is old
	Head     bool  // it grows
}

// Parts are the segments that are read now, with the sequence of the snapshot.
func (r *Reader) Parts(ctx context.Context) (parts []Part, sequence uint64, err error) {
	release, conn, err := r.acquire(ctx, points)
	if err != nil {
		return nil, 0, err
	}
	defer release()
	err = r.query(ctx, conn, `select c.sequence, s.id::bigint, coalesce(s.revision, 0), (s.state = 'head')::int::bigint
		from checkpoint c cross join segments s where s.state in ('head', 'sealed') order by s.low`, nil, func(row Row) (bool, error) {
		n, ok := row.Int64(0)
		id, ok2 := row.Int64(1)
		revision, ok3 := row.Int64(2)
		head, ok4 := row.Int64(3)
		if !ok || !ok2 || !ok3 || !ok4 {
			return false, ErrRow
		}
		sequence = uint64(n) //nolint:gosec // not negative
		parts = append(parts, Part{ID: int(id), Revision: revision, Head: head == 1})
		return true, nil
	})
	return parts, sequence, err
}

// Cells tells f how many points of a segment are in each cell of a grid over the map
// in Web Mercator, by column and row from the north-west. It reads the whole segment
// once: a second for two million rows. A segment that is gone is an error of
// Postgres, after which the parts should be asked for again.
func (r *Reader) Cells(ctx context.Context, id int, f func(column, row, n uint32)) error {
	release, conn, err := r.acquire(ctx, heavy)
	if err != nil {
		return err
	}
	defer release()
	return r.cells(ctx, conn, id, f)
}

func (r *Reader) cells(ctx context.Context, conn *pgxpool.Conn, id int, f func(column, row, n uint32)) error {
	defer r.observe("cells", time.Now())
	const side = `16384`
	const sine = `sin(radians(greatest(-85.0511287798, least(85.0511287798, st_y(geom)))))`
	return r.query(ctx, conn, `select least(`+side+` - 1, greatest(0, floor((st_x(geom) / 360 + 0.5) * `+side+`)))::bigint,
			least(`+side+` - 1, greatest(0, floor((0.5 - ln((1 + `+sine+`) / (1 - `+sine+`)) / (4 * pi())) * `+side+`)))::bigint, count(*)
		from points_`+strconv.Itoa(id)+` where geom is not null group by 1, 2`, nil, func(row Row) (bool, error) {
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
