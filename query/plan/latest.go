package plan

import (
	"context"
	"errors"
	"time"

	"cairn/query/filter"
)

// ErrGathering says that the newest point of each name is not known yet.
var ErrGathering = errors.New("the newest point of each name is still being gathered, as after an upgrade or a rebuild; ask again in a while")

// Freshness is what a read of the newest points is true for.
type Freshness struct {
	Sequence uint64 // what it has seen
	// Checkpoint is the database's own. In a bulk load it is some seconds
	// ahead: see projector/latest.go.
	Checkpoint uint64
}

// Latest hands the newest point of each name to f, of those that pass the filter: by
// name, in the order of code points, or the nearest first. It is one table, with one
// row a name, in which a name keeps its place however it moves: a walk over the pages
// sees each once.
func (r *Reader) Latest(ctx context.Context, q Query, f func(Row) (more bool, err error)) (fresh Freshness, err error) {
	in := pages
	if q.Limit > heavyRows {
		in = heavy
	}
	release, conn, err := r.acquire(ctx, in)
	if err != nil {
		return fresh, err
	}
	defer release()
	defer r.observe("latest", time.Now())
	s := latest(&q)
	header := true
	for range maxPlans {
		err = r.query(ctx, conn, s.String(), s.Args, func(row Row) (bool, error) {
			if !header {
				return f(row)
			}
			header = false
			return true, fresh.read(row)
		})
		// A rebuild empties the table, which a standby's statements may meet.
		if !header || !again(err) {
			break
		}
	}
	return fresh, err
}

// byName is the filter as a condition on the walk by name. Postgres takes most filters
// for ones that hardly a row passes, and would read and sort all of the table for a page
// of those who pass: of a coalesce it knows nothing, and walks along the names until the
// page is full. At worst that is a look at each name. Names that are asked for are looked
// up.
func (s *statement) byName() string {
	where := "coalesce(" + s.where + ", false)"
	if x := filter.Bound(s.q.filter()); x.Names != nil {
		where += " and name = any(" + s.Arg(x.Names, "text[]") + ")"
	}
	return where
}

// latest writes the statement. Its header has the sequence of the table as the
// position, the checkpoint's as the revision, and whether the table is complete as
// what is a boolean else.
func latest(q *Query) *statement {
	s := newStatement(q, q.Limit)
	s.WriteString("select " + s.columns(func(i int) string {
		switch i {
		case ColPosition:
			return "latest"
		case ColRevision:
			return "sequence"
		case ColExternalIDNumber:
			return "(select bool_and(latest_done) from segments where state in ('head', 'sealed'))"
		}
		return "null::" + outputs[i].sqlType
	}, "null") + " from checkpoint where id")
	from, order, after := "latest", "name", "true"
	where := s.where
	if q.Sort == ByDistance {
		q.radius = q.Near.Metres
		from, order = "(select *, "+s.Distance(q.Near)+" as distance from latest) l", "distance, position desc"
		after = "distance <= " + s.Arg(q.radius, "float8")
	}
	switch {
	case q.After != nil && q.Sort == ByDistance:
		d := s.Arg(q.After.Distance, "float8")
		after += " and distance >= " + d + " and (distance > " + d + " or position < " + s.Arg(int64(q.After.Position), "bigint") + ")"
	case q.After != nil:
		after = `name > ` + s.Arg(q.After.Name, "text")
	}
	if q.Sort != ByDistance {
		where = s.byName()
	}
	// What retention has dropped is looked up again soon: see projector/gather.go.
	s.WriteString(" union all (select " + s.selected() + " from " + from + " where geom is not null and position >= (select floor from checkpoint) and " +
		after + " and " + where + " order by " + order + " limit " + s.limit + ")")
	return s
}

func (f *Freshness) read(r Row) error {
	sequence, ok := r.Int64(ColPosition)
	checkpoint, ok2 := r.Int64(ColRevision)
	if !ok || !ok2 {
		return ErrRow
	}
	if complete := r[ColExternalIDNumber]; len(complete) == 1 && complete[0] == 0 {
		return ErrGathering
	}
	f.Sequence, f.Checkpoint = uint64(sequence), uint64(checkpoint) //nolint:gosec // not negative
	return nil
}
