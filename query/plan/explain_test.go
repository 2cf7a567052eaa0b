package plan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/event"
	"cairn/query/filter"
	"cairn/schema"
)

// explainRows are the rows of a segment from a position on: half of them spread over
// longitudes 0 to 100, the others within a degree of a longitude of the segment's own,
// 120, 130 and so on; times rise with positions, a second each from 2000 on.
const explainRows = `select gen_random_uuid(), null, null, i, null, case when i % 1000 = 7 then 'rare' else 'p' || i % 9999 end,
	ST_SetSRID(ST_MakePoint(case when i % 2 = 0 then (i * 7919 %% 100000) / 1000.0 else 120 + %d + (i * 7919 %% 1000) / 1000.0 end, (i * 104729 %% 60000) / 1000.0), 4326), null,
	timestamptz '2000-01-01Z' + i * interval '1 s', now(), null, null, null from generate_series(%d::bigint, %d) i`

// TestPlans looks at which segments each kind of page goes to, by which way, and how
// much it reads, by what Postgres says it did: times would say it of this machine
// only.
func TestPlans(t *testing.T) {
	f := newFixture(t)
	const rows = 20_000
	f.explainable(rows)
	const limit = 100
	tests := []struct {
		name, parameter, value string
		before                 event.Position
		segments               string // that the first statement reads
		read                   int    // rows at most
	}{
		{"the newest", "", "", Newest, "13", limit},
		{"the newest from a cursor", "", "", 45_000, "12", limit},
		{"all match", "bbox", "-180,-90,180,90", 45_000, "12", limit},
		{"half match", "bbox", "0,0,100,60", 60_000, "12", 4 * limit},
		{"a box of one old segment", "bbox", "120,0,121,1", 60_000, "10", 1_000},
		{"a box without a point", "bbox", "-60,-60,-50,-50", 60_000, "", 0},
		{"a small box", "bbox", "20,20,21,21", 60_000, "12 11 10", 300},
		{"a rare name", "name", "rare", 60_000, "12 11 10", 60},
		{"a name in its segment's order", "name", "rare", 20_000, "10", 20},
		{"a time of one segment", "datetime", "2000-01-01T06:00:00Z/2000-01-01T06:01:00Z", 60_000, "11", 61},
		{"the newest times", "datetime", "2000-01-01T16:00:00Z/..", 60_000, "12", 1024},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := Query{Limit: limit, After: &Key{Position: test.before}}
			if test.parameter != "" {
				p, _, err := filter.ParseParameter(test.parameter, test.value)
				if err != nil {
					t.Fatal(err)
				}
				q.Filter = p.Expr
			}
			segments, read, text := f.explain(t, &q)
			if segments != test.segments || read > test.read {
				t.Errorf("segments %q, %d rows read; want %q and at most %d\n%s", segments, read, test.segments, test.read, text)
			}
		})
	}
}

// TestPlansByZones looks at how much is read where the catalogue knows the times of a
// segment's zones: a walk begins where the times are.
func TestPlansByZones(t *testing.T) {
	f := newFixture(t)
	f.exec("update segments set state = 'dropped' where id = 1")
	const rows, zones = 20_000, 20
	// Every third row in longitudes 120 to 121; an hour is 3,600 rows.
	f.segment(10, 0, rows, "sealed", fmt.Sprintf(strings.ReplaceAll(explainRows, "i % ", "i %% "), 0, 1, rows-1)+" order by random()")
	seg := schema.Segment{Low: 0, High: rows, Zones: schema.NewZones(zones)}
	for i := int64(1); i < rows; i++ {
		schema.WidenZone(seg.Zones, seg.ZoneAt(i), time.UnixMicro(filter.PostgresEpoch+i*1_000_000))
	}
	tests := []struct {
		name, box, datetime string
		known, unknown      int // rows that are read at most, with zones and without
		walk                bool
	}{
		{"an old quarter of an hour in a dense box", "119,0,122,60", "2000-01-01T01:00:00Z/2000-01-01T01:15:00Z", 2000, 20_000, false},
		{"most of the time in a dense box", "119,0,122,60", "2000-01-01T00:10:00Z/2000-01-01T04:15:00Z", 2000, 20_000, true},
		{"an hour that is in no zone", "119,0,122,60", "2001-01-01T01:00:00Z/2001-01-01T02:00:00Z", 0, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var q Query
			for name, value := range map[string]string{"bbox": test.box, "datetime": test.datetime} {
				p, _, err := filter.ParseParameter(name, value)
				if err != nil {
					t.Fatal(err)
				}
				q.Filter = filter.All(q.Filter, p.Expr)
			}
			q.Limit, q.After = 100, &Key{Position: Newest}
			var ids [2]string
			for i, z := range [][]byte{nil, seg.Zones} {
				f.exec("update segments set zones = $1 where id = 10", z)
				root, text := f.explainPage(t, &q)
				var tables []string
				read := root.read(&tables)
				if most := []int{test.unknown, test.known}[i]; read > most {
					t.Errorf("zones known: %t: %d rows read, want at most %d\n%s", z != nil, read, most, text)
				}
				// Where few are expected, to sort them all seems as cheap as a walk.
				if planned := root.planned("points_10"); z != nil && test.walk && planned < rows/20 {
					t.Errorf("Postgres expects %.0f rows of %d in a walk\n%s", planned, rows, text)
				}
				ids[i] = strings.Join(tables, " ")
			}
			if ids[0] != ids[1] {
				t.Errorf("segments %q without zones, %q with", ids[0], ids[1])
			}
		})
	}
}

// Rows of the same times are each on another page of a merged segment, and rows of a box
// are not: a box that has more of them is cheaper, the more so where pages are to be read.
func TestPlansOfScatteredTimes(t *testing.T) {
	const rows, zones = 1_000_000, 1_000
	seg := schema.Segment{Low: 0, High: rows, Zones: schema.NewZones(zones)}
	for i := int64(1); i < rows; i++ {
		schema.WidenZone(seg.Zones, seg.ZoneAt(i), time.UnixMicro(filter.PostgresEpoch+i*1_000_000))
	}
	hours := func(n int64) int64 { return n * 3_600_000_000 }
	s := &segment{known: true, low: 0, high: rows, rows: rows, from: 0, to: rows * 1_000_000,
		area: filter.Box{West: -180, South: -90, East: 180, North: 90}, zones: &seg}
	for _, tt := range []struct {
		part    float64 // of the world, in the box
		missing float64 // of the pages, in memory
		want    way
	}{{0.01, 0, byBox}, {0.02, 0, byTime}, {0.02, 0.5, byBox}, {0.05, 0.5, byTime}} {
		s.missing = tt.missing
		x := filter.Extent{Boxes: []filter.Box{{West: -180, South: -90, East: -180 + 360*tt.part, North: 90}}, From: hours(1), To: hours(2)}
		if st, ok := s.choose(&goal{extent: &x, need: 2_000}); !ok || st.way != tt.want {
			t.Errorf("3,600 rows in the times, %.0f in the box, %.1f of the pages not in memory: by %v, want %v", rows*tt.part, tt.missing, st.way, tt.want)
		}
	}
}

// Many rows of a box are read page by page, in whichever way the page is sorted; a few, as
// they are found.
func TestPlansOfManyInABox(t *testing.T) {
	f := newFixture(t)
	f.exec("update segments set state = 'dropped' where id = 1; update checkpoint set sequence = 77")
	const rows = 20_000
	f.segment(10, 0, rows, "sealed", fmt.Sprintf(strings.ReplaceAll(explainRows, "i % ", "i %% "), 0, 1, rows-1))
	for _, tt := range []struct {
		box    string
		bitmap bool
	}{{"0,0,5,60", false}, {"0,0,15,60", true}} {
		var q Query
		for name, value := range map[string]string{"bbox": tt.box, "datetime": "2000-01-01T01:00:00Z/2000-01-01T02:00:00Z"} {
			p, _, err := filter.ParseParameter(name, value)
			if err != nil {
				t.Fatal(err)
			}
			q.Filter = filter.All(q.Filter, p.Expr)
		}
		q.Limit, q.After = 100, &Key{Position: Newest}
		_, _, text := f.explain(t, &q)
		if bitmap := strings.Contains(text, "points_10_geom") && strings.Contains(text, "Bitmap Heap Scan"); bitmap != tt.bitmap {
			t.Errorf("%s: by a bitmap: %v\n%s", tt.box, bitmap, text)
		}
		var want int
		err := f.pool.QueryRow(t.Context(), `select count(*) from points_10 where st_x(geom) between 0 and $1 and st_y(geom) between 0 and 60
			and observed_at between '2000-01-01T01:00:00Z' and '2000-01-01T02:00:00Z'`, strings.Split(tt.box, ",")[2]).Scan(&want)
		if got := f.all(q); err != nil || len(got) != want || want == 0 {
			t.Errorf("%s: %d points, want %d, %v", tt.box, len(got), want, err)
		}
	}
}

// One point of another year, as a clock that is wrong makes it, does not make the times of
// all others seem few: a box is asked for by place where fewer points are in it than in
// the times.
func TestPlansBesideAWrongClock(t *testing.T) {
	f := newFixture(t)
	f.exec("update segments set state = 'dropped' where id = 1")
	const rows, zones, late = 20_000, 20, 15_000
	f.segment(10, 0, rows, "sealed", fmt.Sprintf(strings.ReplaceAll(explainRows, "i % ", "i %% "), 0, 1, rows-1))
	f.exec(fmt.Sprintf("update points_10 set observed_at = '2010-01-01Z' where position = %d", late))
	f.exec("update segments set time_to = '2010-01-01Z' where id = 10")
	seg := schema.Segment{Low: 0, High: rows, Zones: schema.NewZones(zones)}
	for i := int64(1); i < rows; i++ {
		schema.WidenZone(seg.Zones, seg.ZoneAt(i), time.UnixMicro(filter.PostgresEpoch+i*1_000_000))
	}
	schema.WidenZone(seg.Zones, seg.ZoneAt(late), time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC))
	var q Query
	for name, value := range map[string]string{"bbox": "0,0,5,60", "datetime": "2000-01-01T01:00:00Z/2000-01-01T02:00:00Z"} {
		p, _, err := filter.ParseParameter(name, value)
		if err != nil {
			t.Fatal(err)
		}
		q.Filter = filter.All(q.Filter, p.Expr)
	}
	q.Limit, q.After = 100, &Key{Position: Newest}
	wide := slices.Clone(seg.Zones) // by a change in each zone
	for i := int64(500); i < rows; i += rows / zones {
		schema.WidenZone(wide, seg.ZoneAt(i), time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	for name, z := range map[string][]byte{"with zones": seg.Zones, "with zones that are wide": wide, "without": nil} {
		t.Run(name, func(t *testing.T) {
			f.exec("update segments set zones = $1 where id = 10", z)
			if _, read, text := f.explain(t, &q); read > 800 { // 500 are in the box, 3,600 in the hour
				t.Errorf("%d rows read\n%s", read, text)
			}
		})
	}
}

// explainable makes three sealed segments and a head of so many rows each.
func (f *fixture) explainable(rows int64) {
	f.exec("update segments set state = 'dropped' where id = 1")
	for i, state := range []string{schema.Sealed, schema.Sealed, schema.Sealed, schema.Head} {
		low, high := int64(i)*rows, int64(i+1)*rows
		if state == schema.Head {
			high = schema.HeadEnd
		}
		f.segment(10+i, low, high, "sealed", fmt.Sprintf(strings.ReplaceAll(explainRows, "i % ", "i %% "), 10*i, low+1, low+rows-1))
		f.exec("update segments set state = $2 where id = $1", 10+i, state)
	}
	// Of the head nothing is known.
	f.exec("update segments set other_ids = null, cells = null where id = 13")
	f.exec("update checkpoint set catalogue = catalogue + 1")
}

// Pages by time read the head, and of each sealed segment no more than a page, from
// where the cursor is. Of the head's rows, those of the page are fetched when they are
// known.
func TestPlansByTime(t *testing.T) {
	f := newFixture(t)
	const rows, limit = 20_000, 100
	const narrow = 16 // a position and a time
	f.explainable(rows)
	// Times are seconds from 2000 on, as the positions are.
	at := func(position event.Position) *Key { return &Key{Position: position, Time: int64(position) * 1_000_000} }
	for _, tt := range []struct {
		name      string
		ascending bool
		after     *Key
		bbox      string
		segments  string // that may have some
		read      int    // rows at most
	}{
		{"the newest", false, nil, "", "13 12 11 10", rows + 4*limit},
		{"the newest from a cursor", false, at(30_000), "", "13 11 10", rows + 3*limit},
		{"the oldest", true, nil, "", "13 12 11 10", rows + 4*limit},
		{"the oldest from a cursor", true, at(50_000), "", "13 12", rows + 2*limit},
		{"the newest in a small box", false, nil, "20,20,21,21", "13 12 11 10", limit},
		{"the newest in half of the world", false, nil, "0,0,100,60", "13 12 11 10", rows + 2*4*limit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := Query{Sort: ByTime, Ascending: tt.ascending, After: tt.after, Limit: limit}
			if tt.bbox != "" {
				p, _, err := filter.ParseParameter("bbox", tt.bbox)
				if err != nil {
					t.Fatal(err)
				}
				q.Filter = p.Expr
			}
			root, text := f.explainPage(t, &q)
			var tables []string
			if read, segments := root.read(&tables), strings.Join(tables, " "); segments != tt.segments || read > tt.read {
				t.Errorf("segments %q, %d rows read; want %q and at most %d\n%s", segments, read, tt.segments, tt.read, text)
			}
			if width := root.scanned("points_13"); width > narrow {
				t.Errorf("the head's rows are %d bytes wide where they are sorted, want %d at most\n%s", width, narrow, text)
			}
		})
	}
}

// A page of the newest points walks along the names until it is full, whatever Postgres
// thinks of the filter; names that are asked for are looked up.
func TestPlansOfLatest(t *testing.T) {
	f := newFixture(t)
	const names, limit = 20_000, 100
	f.exec(fmt.Sprintf(`insert into latest (id, position, name, geom, received_at, since) select gen_random_uuid(), i, 'n' || lpad(i::text, 6, '0'),
		ST_SetSRID(ST_MakePoint(i %% 100, i %% 50), 4326), now(), i from generate_series(1, %d) i order by random()`, names))
	f.exec("analyze latest")
	for _, tt := range []struct {
		name, parameter, value string
		after                  string
		rows, read             int // at most
	}{
		{"all", "", "", "", limit, limit},
		{"all of them, by a box", "bbox", "-180,-90,180,90", "", limit, limit},
		{"half of them, from a cursor", "bbox", "0,0,49.5,90", "n010000", limit, 3 * limit},
		{"a fiftieth", "bbox", "0,0,1.5,1.5", "", limit, 100 * limit},
		{"none", "bbox", "-60,-60,-50,-50", "", 0, names},
		{"a name", "name", "n012345", "", 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := Query{Limit: limit, Sort: ByName, Wide: true}
			if tt.parameter != "" {
				p, _, err := filter.ParseParameter(tt.parameter, tt.value)
				if err != nil {
					t.Fatal(err)
				}
				q.Filter = p.Expr
			}
			if tt.after != "" {
				q.After = &Key{Name: tt.after}
			}
			conn, err := f.pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			root, text := f.explainNodes(t, conn, latest(&q))
			rows, read := root.of("latest")
			if rows != tt.rows || read > tt.read {
				t.Errorf("%d rows of %d that were read, want %d of %d at most\n%s", rows, read, tt.rows, tt.read, text)
			}
		})
	}
}

// explain plans a page's first statement and says which segments it read, and how many
// rows of them.
func (f *fixture) explain(t *testing.T, q *Query) (segments string, read int, text string) {
	t.Helper()
	root, text := f.explainPage(t, q)
	var tables []string
	read = root.read(&tables)
	return strings.Join(tables, " "), read, text
}

// explainPage plans a page's first statement, runs it, and says how Postgres did it.
func (f *fixture) explainPage(t *testing.T, q *Query) (root node, text string) {
	t.Helper()
	conn, err := f.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	c, err := load(t.Context(), conn.Conn())
	if err != nil {
		t.Fatal(err)
	}
	x := filter.Bound(q.Filter)
	if q.Sort == ByTime {
		return f.explainNodes(t, conn, c.pageByTime(q, x, q.Limit))
	}
	from := int64(q.After.Position)
	list, _ := steps(c.reaching(x.Low, min(x.High, from-1), false), goal{extent: &x, need: float64(q.Limit)}, firstSegments)
	s := pageByPosition(q, &x, list, from, q.Limit)
	if len(list) == 0 { // nothing but the header
		return node{}, s.String()
	}
	return f.explainNodes(t, conn, s)
}

// explainNodes runs a statement and says how Postgres did it.
func (f *fixture) explainNodes(t *testing.T, conn *pgxpool.Conn, s *statement) (root node, text string) {
	t.Helper()
	// As the service runs it: prepared, with one plan for all parameters.
	if _, err := conn.Exec(t.Context(), "prepare page as "+s.String(), pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", s.String(), err)
	}
	var raw []byte
	err := conn.QueryRow(t.Context(), "explain (analyze, timing off, format json) execute page("+literals(s.Args)+")", pgx.QueryExecModeSimpleProtocol).Scan(&raw)
	if err != nil {
		t.Fatalf("%s: %v", s.String(), err)
	}
	if _, err := conn.Exec(t.Context(), "deallocate page"); err != nil {
		t.Fatal(err)
	}
	var out []struct{ Plan node }
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out[0].Plan, string(raw)
}

func literals(args []any) string {
	out := make([]string, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case string:
			out[i] = "'" + a + "'"
		case []string:
			out[i] = "'{" + strings.Join(a, ",") + "}'"
		case time.Time:
			out[i] = "'" + a.Format(time.RFC3339Nano) + "'"
		default:
			out[i] = fmt.Sprint(a)
		}
	}
	return strings.Join(out, ", ")
}

// A node is one of EXPLAIN's.
type node struct {
	Type    string  `json:"Node Type"`
	Rel     string  `json:"Relation Name"`
	Rows    float64 `json:"Actual Rows"`
	Planned float64 `json:"Plan Rows"`
	Loops   float64 `json:"Actual Loops"`
	Removed float64 `json:"Rows Removed by Filter"`
	Width   int     `json:"Plan Width"` // bytes of a row, as planned
	Plans   []node  `json:"Plans"`
}

// of are the rows that a table gave, and those that were looked at.
func (n *node) of(table string) (rows, read int) {
	if n.Rel == table {
		rows, read = int(n.Rows*n.Loops), int((n.Rows+n.Removed)*n.Loops)
	}
	for i := range n.Plans {
		r, l := n.Plans[i].of(table)
		rows, read = rows+r, read+l
	}
	return rows, read
}

// planned is how many rows Postgres expects of a table.
func (n *node) planned(table string) (rows float64) {
	if n.Rel == table {
		rows = n.Planned
	}
	for i := range n.Plans {
		rows = max(rows, n.Plans[i].planned(table))
	}
	return rows
}

// scanned is how wide the rows are that a scan of the whole table gives, in bytes.
func (n *node) scanned(table string) (width int) {
	if n.Rel == table && n.Type == "Seq Scan" {
		width = n.Width
	}
	for i := range n.Plans {
		width = max(width, n.Plans[i].scanned(table))
	}
	return width
}

// read adds the segments that were read to tables, and returns how many of their rows
// were.
func (n *node) read(tables *[]string) (rows int) {
	if id, ok := strings.CutPrefix(n.Rel, "points_"); ok && n.Loops > 0 {
		if !slices.Contains(*tables, id) {
			*tables = append(*tables, id)
		}
		rows = int((n.Rows + n.Removed) * n.Loops)
	}
	for i := range n.Plans {
		rows += n.Plans[i].read(tables)
	}
	return rows
}
