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

// compareTime compares with a date as with the whole of it: = is on that day, > is
// after it.
func compareTime(f filter.Field, op string, n *cql2.Node) (filter.Expr, error) {
	from, to, err := spanOf(n)
	if err != nil {
		return nil, err
	}
	at := func(op filter.Op, micros int64) filter.Expr {
		return filter.Compare{Field: f, Op: op, Value: filter.InstantValue(micros)}
	}
	switch op {
	case "=":
		return filter.During(f, from, to), nil
	case "<>":
		return filter.Or{at(filter.Less, from), at(filter.Greater, to)}, nil
	case "<":
		return at(filter.Less, from), nil
	case "<=":
		return at(filter.LessOrEqual, to), nil
	case ">":
		return at(filter.Greater, to), nil
	}
	return at(filter.GreaterOrEqual, from), nil
}

// A relation of times (OGC 21-065, section 7.7, after Allen), of a point's time t,
// which is an instant, with from and to: all of its comparisons hold.
type relation []struct {
	op  filter.Op
	end bool // with to, not with from
}

// relations are those that an instant can have with an interval from its first to
// its last time. Those that are missing need an interval on both sides, or one
// that is longer than the other and inside it: no instant has them.
var relations = map[string]relation{
	"t_after":      {{filter.Greater, true}},
	"t_before":     {{filter.Less, false}},
	"t_during":     {{filter.Greater, false}, {filter.Less, true}},
	"t_equals":     {{filter.Equal, false}, {filter.Equal, true}},
	"t_finishes":   {{filter.Greater, false}, {filter.Equal, true}},
	"t_intersects": {{filter.GreaterOrEqual, false}, {filter.LessOrEqual, true}},
	"t_meets":      {{filter.Equal, false}},
	"t_metby":      {{filter.Equal, true}},
	"t_starts":     {{filter.Equal, false}, {filter.Less, true}},
}

// inverse are the relations with their sides exchanged.
var inverse = map[string]string{
	"t_after": "t_before", "t_before": "t_after", "t_contains": "t_during", "t_during": "t_contains", "t_equals": "t_equals",
	"t_finishedby": "t_finishes", "t_finishes": "t_finishedby", "t_intersects": "t_intersects", "t_disjoint": "t_disjoint",
	"t_meets": "t_metby", "t_metby": "t_meets", "t_overlaps": "t_overlappedby", "t_overlappedby": "t_overlaps",
	"t_startedby": "t_starts", "t_starts": "t_startedby",
}

func temporal(n *cql2.Node) (filter.Expr, error) {
	left, right, name := n.Args[0], n.Args[1], n.Text
	if left.Kind != cql2.Property && right.Kind == cql2.Property {
		left, right, name = right, left, inverse[name]
	}
	f, _, err := fieldOf(left)
	if err != nil {
		return nil, err
	}
	if !f.Takes(filter.Instant) {
		return nil, left.Fail("%v is not a time; time and received are", f)
	}
	from, to, err := interval(right)
	if err != nil {
		return nil, err
	}
	if name == "t_disjoint" {
		e, err := related(f, relations["t_intersects"], from, to)
		return filter.Not{Expr: e}, err
	}
	r, ok := relations[name]
	if !ok {
		return filter.Or{}, nil // never true of an instant
	}
	return related(f, r, from, to)
}

// interval is what a node spans; an open end is the least or the greatest int64.
func interval(n *cql2.Node) (from, to int64, err error) {
	if n.Kind == cql2.String {
		n = asTime(n)
	}
	if isTime(n) {
		return spanOf(n)
	}
	if n.Kind != cql2.Interval {
		return 0, 0, n.Fail("a date, a timestamp or an interval is expected here, not %s", n.What())
	}
	from, to = math.MinInt64, math.MaxInt64
	first, last := n.Args[0], n.Args[1]
	for _, end := range n.Args {
		if end.Kind == cql2.Property {
			return 0, 0, end.Fail("an interval's ends are given, not properties")
		}
	}
	if first.Kind != cql2.Open {
		if from, _, err = spanOf(first); err != nil {
			return 0, 0, err
		}
	}
	if last.Kind != cql2.Open {
		if _, to, err = spanOf(last); err != nil {
			return 0, 0, err
		}
	}
	if from > to {
		return 0, 0, n.Fail("the interval ends before it begins")
	}
	return from, to, nil
}

// related compares the time with both ends. An open end is beyond every time.
func related(f filter.Field, r relation, from, to int64) (filter.Expr, error) {
	all := filter.And{}
	for _, c := range r {
		end := from
		if c.end {
			end = to
		}
		open := end == math.MinInt64 || end == math.MaxInt64
		beyond := end == math.MaxInt64
		switch {
		case !open:
			all = append(all, filter.Compare{Field: f, Op: c.op, Value: filter.InstantValue(end)})
		case c.op == filter.Equal, beyond == (c.op == filter.Greater || c.op == filter.GreaterOrEqual):
			return filter.Or{}, nil // no time is at or beyond an open end
		}
	}
	return all, nil
}
