package ogc

import (
	"math"

	"cairn/query/filter"
	"cairn/query/ogc/cql2"
)

func isTime(n *cql2.Node) bool { return n.Kind == cql2.Date || n.Kind == cql2.Timestamp }

// asTime reads a text as the date or time that it is meant as.
func asTime(n *cql2.Node) *cql2.Node {
	again := *n
	if again.Kind = cql2.Timestamp; len(n.Text) == len("2026-11-21") {
		again.Kind = cql2.Date
	}
	return &again
}

// spanOf is the first and last microsecond of an instant; a date is a whole day.
func spanOf(n *cql2.Node) (from, to int64, err error) {
	s, err := n.Instant()
	if err != nil {
		return 0, 0, n.Fail("%v", err)
	}
	return s.From.UnixMicro() - filter.PostgresEpoch, s.To.UnixMicro() - filter.PostgresEpoch, nil
}

// A timed is what of a point is compared with times: an instant, or what lies between
// two. An end that is no field is at a time, or open.
type timed struct{ first, last end }

// An end of a timed. Open ends are at the least and the greatest int64.
type end struct {
	field filter.Field
	named bool
	at    int64
}

func (t timed) named() bool { return t.first.named || t.last.named }

// timeOf is the field as a time. A property may hold one as text, which its values
// tell, one by one.
func timeOf(f filter.Field, n *cql2.Node) (timed, error) {
	if name, ok := f.PropertyName(); ok {
		return timed{end{field: filter.First(name), named: true}, end{field: filter.Last(name), named: true}}, nil
	}
	if !f.Takes(filter.Instant) {
		return timed{}, n.Fail("%v is not a time; time and received are, and properties that hold one", f)
	}
	e := end{field: f, named: true}
	return timed{e, e}, nil
}

// compareTime compares with a date as with the whole of it: = is on that day, > is
// after it.
func compareTime(t timed, op string, n *cql2.Node) (filter.Expr, error) {
	from, to, err := spanOf(n)
	if err != nil {
		return nil, err
	}
	first, last := t.first.field, t.last.field
	at := func(f filter.Field, op filter.Op, micros int64) filter.Expr {
		return filter.Compare{Field: f, Op: op, Value: filter.InstantValue(micros)}
	}
	switch op {
	case "=":
		if first == last {
			return filter.During(first, from, to), nil
		}
		return filter.And{at(first, filter.GreaterOrEqual, from), at(last, filter.LessOrEqual, to)}, nil
	case "<>":
		return filter.Or{at(first, filter.Less, from), at(last, filter.Greater, to)}, nil
	case "<":
		return at(last, filter.Less, from), nil
	case "<=":
		return at(first, filter.LessOrEqual, to), nil
	case ">":
		return at(first, filter.Greater, to), nil
	}
	return at(last, filter.GreaterOrEqual, from), nil
}

// A relation of times (OGC 21-065, section 7.7, after Allen): each of its comparisons
// of an end of the one with an end of the other holds.
type relation []struct {
	mine   which
	op     filter.Op
	theirs which
}

type which bool

const (
	first which = false
	last  which = true
)

func (t timed) end(w which) end {
	if w == last {
		return t.last
	}
	return t.first
}

var relations = map[string]relation{
	"t_after":        {{first, filter.Greater, last}},
	"t_before":       {{last, filter.Less, first}},
	"t_contains":     {{first, filter.Less, first}, {last, filter.Greater, last}},
	"t_during":       {{first, filter.Greater, first}, {last, filter.Less, last}},
	"t_equals":       {{first, filter.Equal, first}, {last, filter.Equal, last}},
	"t_finishedby":   {{first, filter.Less, first}, {last, filter.Equal, last}},
	"t_finishes":     {{first, filter.Greater, first}, {last, filter.Equal, last}},
	"t_intersects":   {{last, filter.GreaterOrEqual, first}, {first, filter.LessOrEqual, last}},
	"t_meets":        {{last, filter.Equal, first}},
	"t_metby":        {{first, filter.Equal, last}},
	"t_overlappedby": {{first, filter.Greater, first}, {first, filter.Less, last}, {last, filter.Greater, last}},
	"t_overlaps":     {{first, filter.Less, first}, {last, filter.Greater, first}, {last, filter.Less, last}},
	"t_startedby":    {{first, filter.Equal, first}, {last, filter.Greater, last}},
	"t_starts":       {{first, filter.Equal, first}, {last, filter.Less, last}},
}

func temporal(n *cql2.Node) (filter.Expr, error) {
	mine, err := interval(n.Args[0])
	if err != nil {
		return nil, err
	}
	theirs, err := interval(n.Args[1])
	switch {
	case err != nil:
		return nil, err
	case mine.named() && theirs.named():
		return nil, n.Args[1].Fail("a property is compared with a time that is given, not with another property")
	case !mine.named() && !theirs.named():
		return nil, n.Args[0].Fail("a property is expected on one of the sides")
	case n.Text == "t_disjoint":
		return filter.Not{Expr: related(mine, relations["t_intersects"], theirs)}, nil
	}
	return related(mine, relations[n.Text], theirs), nil
}

// interval is what a node spans.
func interval(n *cql2.Node) (timed, error) {
	switch n.Kind {
	case cql2.Property, cql2.Call:
		f, folded, err := fieldOf(n)
		if err == nil && folded {
			err = n.Fail("CASEI stands around text, not around a time")
		}
		if err != nil {
			return timed{}, err
		}
		return timeOf(f, n)
	case cql2.String:
		n = asTime(n)
	}
	if isTime(n) {
		from, to, err := spanOf(n)
		return timed{end{at: from}, end{at: to}}, err
	}
	if n.Kind != cql2.Interval {
		return timed{}, n.Fail("a date, a timestamp or an interval is expected here, not %s", n.What())
	}
	t := timed{end{at: math.MinInt64}, end{at: math.MaxInt64}}
	if from := n.Args[0]; from.Kind != cql2.Open {
		begins, err := interval(from)
		if err != nil {
			return timed{}, err
		}
		t.first = begins.first
	}
	if to := n.Args[1]; to.Kind != cql2.Open {
		ends, err := interval(to)
		if err != nil {
			return timed{}, err
		}
		t.last = ends.last
	}
	if !t.named() && t.first.at > t.last.at {
		return timed{}, n.Fail("the interval ends before it begins")
	}
	return t, nil
}

// mirror are the comparisons with their sides exchanged.
var mirror = map[filter.Op]filter.Op{
	filter.Equal: filter.Equal, filter.Less: filter.Greater, filter.LessOrEqual: filter.GreaterOrEqual,
	filter.Greater: filter.Less, filter.GreaterOrEqual: filter.LessOrEqual,
}

func related(mine timed, r relation, theirs timed) filter.Expr {
	all := filter.And{}
	for _, c := range r {
		a, op, b := mine.end(c.mine), c.op, theirs.end(c.theirs)
		if b.named {
			a, op, b = b, mirror[op], a
		}
		if !a.named {
			all = append(all, given(a.at, op, b.at))
		} else {
			all = append(all, ended(a.field, op, b.at))
		}
	}
	return all
}

// given compares two ends that are no fields.
func given(a int64, op filter.Op, b int64) filter.Expr {
	holds := a == b && op != filter.Less && op != filter.Greater ||
		a < b && (op == filter.Less || op == filter.LessOrEqual) ||
		a > b && (op == filter.Greater || op == filter.GreaterOrEqual)
	if holds {
		return filter.And{}
	}
	return filter.Or{}
}

// beginning is before all times: the year 0.
const beginning = -62_167_219_200_000_000 - filter.PostgresEpoch

// ended compares a time with an end. An open end is beyond every time, which leaves
// the question whether there is one.
func ended(f filter.Field, op filter.Op, at int64) filter.Expr {
	beyond := at == math.MaxInt64
	switch {
	case !beyond && at != math.MinInt64:
		return filter.Compare{Field: f, Op: op, Value: filter.InstantValue(at)}
	case op == filter.Equal, beyond == (op == filter.Greater || op == filter.GreaterOrEqual):
		return filter.Or{} // no time is at or beyond an open end
	}
	if _, property := f.PropertyName(); property {
		return filter.Compare{Field: f, Op: filter.GreaterOrEqual, Value: filter.InstantValue(beginning)}
	}
	return filter.And{}
}
