package plan

import (
	"strconv"
	"strings"

	"cairn/query/filter"
	"cairn/schema"
)

// A statement reads rows of some segments, one after another or merged. Its first
// row is a header: the checkpoint's sequence as the position, the number of the
// catalogue as the revision. All of it is one snapshot.
type statement struct {
	filter.Builder
	q     *Query
	order order
	where string // the filter
	from  string // the cursor's position, where rows are ordered by it
	after string // what comes after the cursor
	limit string
	boxes string // what an index over places answers to
	parts string // the same, by a bitmap
}

// An order is how rows are sorted, as SQL.
type order struct{ direction, less string }

func (q *Query) order() order {
	if q.Ascending {
		return order{"asc", ">"}
	}
	return order{"desc", "<"}
}

func newStatement(q *Query, limit int) *statement {
	s := &statement{q: q, order: q.order()}
	s.where = s.Where(q.filter())
	s.limit = s.Arg(int64(limit), "bigint")
	return s
}

// write puts the header before the parts. Parameters of nothing would be of no type.
func (s *statement) write(parts []string, begin, end string) *statement {
	s.WriteString(s.header())
	if len(parts) == 0 {
		s.Args = nil
		return s
	}
	s.WriteString(" union all (" + begin + " from (" + strings.Join(parts, " union all ") + ") p" + end + ")")
	return s
}

// header is the select of the first row.
func (s *statement) header() string {
	return "select " + s.columns(func(i int) string {
		switch i {
		case ColPosition:
			return "sequence"
		case ColRevision:
			return "catalogue"
		}
		return "null::" + outputs[i].sqlType
	}, "null") + " from checkpoint where id"
}

// columns lists what f says of each column; those beyond a Feature's are extra.
func (s *statement) columns(f func(int) string, extra string) string {
	list := make([]string, 0, colCount+3)
	for i := range outputs {
		list = append(list, f(i))
	}
	switch {
	case s.q.Sort == ByDistance && extra == "":
		list = append(list, "distance")
	case s.q.Sort == ByDistance:
		list = append(list, extra+"::float8")
	case s.q.Wide:
		list = append(list, "null::float8")
	}
	switch {
	case s.q.Wide && extra == "":
		list = append(list, "name", "author")
	case s.q.Wide:
		list = append(list, extra+"::text", extra+"::text")
	}
	return strings.Join(list, ", ")
}

func (s *statement) selected() string {
	return s.columns(func(i int) string { return outputs[i].from }, "")
}

// passing is the condition on a row of a segment, with the one on its place in the order.
func (s *statement) passing(after string) string {
	return "geom is not null and " + after + " and " + s.where
}

// pageByPosition writes the statement that reads the steps' segments one after
// another. Postgres runs the parts of a union in their order and stops at the
// limit, so what is not needed costs its opening only.
func pageByPosition(q *Query, x *filter.Extent, list []step, from int64, limit int) *statement {
	s := newStatement(q, limit)
	s.from = s.Arg(from, "bigint")
	s.after = "position " + s.order.less + " " + s.from
	parts := make([]string, len(list))
	for i, st := range list {
		parts[i] = "(" + s.branch(st, x) + ")"
	}
	return s.write(parts, "select *", " limit "+s.limit)
}

func (s *statement) branch(st step, x *filter.Extent) string {
	sorted := " order by position " + s.order.direction
	switch st.way {
	case along:
		return "select " + s.selected() + " from " + st.segment.table + " where " + s.passing(s.begun(st)) + sorted + " limit " + s.limit
	case bounded:
		// One row more than the limit is there if all of the walk was used up: it
		// holds the position that was reached. Postgres comes to that part only
		// where the page is not full by then, and an index alone answers it.
		n := strconv.Itoa(st.walk)
		walk := " from " + st.segment.table + " where " + s.begun(st) + sorted + " limit " + n
		edge := map[string]string{"desc": "min", "asc": "max"}[s.order.direction]
		return "(select " + s.selected() + " from (select *" + walk + ") w where " + s.passing(s.after) + " limit " + s.limit + ")" +
			" union all select " + s.columns(func(i int) string {
			switch i {
			case ColPosition:
				return "edge"
			case ColRevision:
				return "-1::bigint"
			}
			return "null::" + outputs[i].sqlType
		}, "null") + " from (select count(*) as n, " + edge + "(position) as edge from (select position" + walk + ") w) m where n = " + n
	default:
		return "select " + s.selected() + " from " + s.gathered(st, x) + " s where " + s.passing(s.after) + sorted + " limit " + s.limit
	}
}

// begun is the condition that a walk has not passed a row: it comes after the cursor,
// and is where rows of the times that are asked for are.
func (s *statement) begun(st step) string {
	w := st.within
	if w.low <= st.segment.low && w.high >= st.segment.high {
		return s.after
	}
	// The far end is compared as a row. Postgres takes two plain bounds for a range of
	// 0.5 % of the rows, whatever they are, and then for all of them and a sort to cost
	// hardly more than a walk: a month of a million rows was sorted on disk.
	low, high := s.Arg(w.low, "bigint"), s.Arg(w.high, "bigint")
	if s.q.Ascending {
		return "position > greatest(" + s.from + ", " + low + " - 1) and (position, position) < (" + high + ", " + high + ")"
	}
	return "position < least(" + s.from + ", " + high + ") and (position, position) >= (" + low + ", " + low + ")"
}

// gathered is all that an index finds. The offset keeps the other conditions out, so
// that no other index is thought of.
func (s *statement) gathered(st step, x *filter.Extent) string {
	inner := "select * from " + st.segment.table
	switch st.way {
	case byBox:
		inner += " where " + s.touches(st, x.Boxes)
	case byTime:
		inner += " where " + s.Where(filter.During(filter.Time, x.From, x.To))
	case byName:
		inner += ` where name collate "C" = any(` + s.Arg(x.Names, "text[]") + ")"
	}
	return "(" + inner + " offset 0)"
}

// touches is the condition on what lies in the boxes. Of two boxes Postgres makes a bitmap,
// as no index scan answers to both.
func (s *statement) touches(st step, boxes []filter.Box) string {
	text := &s.boxes
	if len(boxes) == 1 && st.visit >= bitmapRows {
		text, boxes = &s.parts, boxes[0].Parts()
	}
	if *text == "" {
		*text = s.Touches(boxes)
	}
	return *text
}

// merged writes the statement that sorts what all segments have by something else
// than positions: the least or greatest of each, merged.
func merged(q *Query, x *filter.Extent, list []step, key string, limit int) *statement {
	s := newStatement(q, limit)
	sorted := " order by sortkey " + s.order.direction + ", position desc limit " + s.limit
	if q.Sort == ByDistance {
		sorted = " order by distance, position desc limit " + s.limit
		key = s.Distance(q.Near)
	}
	s.after = s.behind(key)
	parts := make([]string, len(list))
	for i, st := range list {
		from, where := st.segment.table, s.passing(s.after)
		switch {
		case st.way != along:
			from = s.gathered(st, x) + " s"
		case st.segment.head:
			where = s.newestOf(from, key)
		case st.walk > 0:
			// Much matches, as the catalogue has it. Postgres takes most filters for ones that
			// hardly a row passes, and would read and sort all; of a coalesce it knows nothing.
			where = "geom is not null and " + s.after + " and coalesce(" + s.where + ", false)"
		}
		// By name: a table of an earlier version has them in another order.
		parts[i] = "(select " + schema.List("", schema.Columns) + ", " + key + " as " + map[bool]string{true: "distance", false: "sortkey"}[q.Sort == ByDistance] +
			" from " + from + " where " + where + sorted + ")"
	}
	return s.write(parts, "select "+s.selected(), sorted)
}

// newestOf is the condition that a row of a table without an index in the order asked
// for is of the page. The positions are sorted and then the page's rows fetched: to sort
// all columns takes three times as long (60 ms and 21 ms of a core for 124,000 rows).
func (s *statement) newestOf(table, key string) string {
	return "position = any(array(select position from " + table + " where " + s.passing(s.after) +
		" order by " + key + " " + s.order.direction + ", position desc limit " + s.limit + "))"
}

// behind is the condition that a row comes behind the cursor in a merged order.
func (s *statement) behind(key string) string {
	out := "true"
	if s.q.Sort == ByDistance {
		out = key + " <= " + s.Arg(s.q.radius, "float8")
	}
	k := s.q.After
	if k == nil {
		return out
	}
	less, value := s.order.less, ""
	if s.q.Sort == ByDistance {
		less, value = ">", s.Arg(k.Distance, "float8")
	} else {
		value = s.Arg(timestamp(k.Time), "timestamptz")
	}
	return out + " and (" + key + " " + less + "= " + value + " and (" + key + " " + less + " " + value +
		" or position < " + s.Arg(int64(k.Position), "bigint") + "))"
}
