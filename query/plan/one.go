package plan

import (
	"bytes"
	"context"
	"math"

	"github.com/google/uuid"

	"cairn/query/filter"
)

// One hands the row that has this key to f, be it a point or what is left of a
// deleted one, if there is one.
func (r *Reader) One(ctx context.Context, key uuid.UUID, f func(Row) error) (sequence uint64, err error) {
	release, conn, err := r.acquire(ctx, points)
	if err != nil {
		return 0, err
	}
	defer release()
	p := &page{reader: r, conn: conn, q: Query{Limit: 1, Wide: true}, extent: filter.Everything(), left: 1,
		f: func(row Row) (bool, error) { return true, f(row) }}
	var old *catalogue
	for range maxPlans {
		if p.catalogue, err = r.catalogue.get(ctx, conn.Conn(), old); err != nil {
			return 0, noRow(err)
		}
		if err = p.run(ctx, "point", byKey(p.catalogue, key)); !again(err) {
			return p.sequence, err
		}
		old = p.catalogue
	}
	return 0, errStale
}

// byKey looks into each segment that may have the key, the newest first. Rising keys
// are in one or two of them.
func byKey(c *catalogue, key uuid.UUID) *statement {
	s := &statement{q: &Query{Wide: true}}
	id := s.Arg(key, "uuid")
	var parts []string
	for _, g := range c.reaching(0, math.MaxInt64-1, false) {
		if g.mayHave(key) {
			parts = append(parts, "(select "+s.selected()+" from "+g.table+" where id = "+id+")")
		}
	}
	return s.write(parts, "select *", " limit 1")
}

func (s *segment) mayHave(key uuid.UUID) bool {
	if !s.known {
		return true
	}
	if key.Version() != 7 {
		return s.other
	}
	return s.v7 && bytes.Compare(s.v7From[:], key[:]) <= 0 && bytes.Compare(key[:], s.v7To[:]) <= 0
}
