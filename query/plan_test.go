package query

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// planRows: the oldest 1,000 of 300,000 points lie in a box of their own, the
// next 60,000 in another, those up to the half in a third, the newer half in a
// fourth. Their times and names say the same, but for one name in a hundred.
const (
	planRows  = 300_000
	planTable = `
	drop index points_1_geom;
	insert into points_1 (id, position, name, geom, observed_at, received_at)
		select gen_random_uuid(), 4096 + i, case when i % 100 = 7 then 'common' when i < 1000 then 'oldest' else 'p' || i % 9999 end,
			ST_SetSRID(ST_MakePoint(case when i < 1000 then -100 + random() when i < 61000 then -50 + random()
				when i < 150000 then random() * 10 else 20 + random() * 100 end, random() * 10), 4326),
			case when i % 3 = 0 then timestamptz '2000-01-01Z' + i * interval '1 s' end, timestamptz '2000-01-01Z' + i * interval '1 s'
		from generate_series(0, 299999) i;
	create index points_1_geom on points_1 using gist (geom);
	create index points_1_time on points_1 ((coalesce(observed_at, received_at)));
	create index points_1_name on points_1 (name collate "C", position) where name is not null;
	vacuum analyze points_1;`
)

// TestPlans looks at which way each kind of question goes, and how much of the
// table it reads, by what Postgres says it did: times would say it of this
// machine only.
func TestPlans(t *testing.T) {
	f := newFixture(t)
	for sql := range strings.SplitSeq(planTable, ";\n") {
		f.exec(sql)
	}
	const (
		limit  = defaultLimit + 1
		recent = recentFactor * limit
		walked = "page_walked"
		gather = "page_gathered"
		slack  = 9 // the edges of ranges
	)
	tests := []struct {
		name, query string
		way         string // after the first
		read        int    // entries of indexes and rows at most, in all, but for the page's own rows
		rows        int    // of the page; -1: whatever
	}{
		{"the newest", "", "", limit, limit},
		{"the newest match", "bbox=20,0,120,10", "", recent, limit},
		{"all match", "bbox=-180,-90,180,90", "", recent, limit},
		{"a tenth of the newest match", "bbox=20,0,30,10", "", recent + 4*10*limit, limit},
		{"the oldest match", "bbox=-100,0,-99,10", gather, recent + 2*1000, 1000},
		{"many old ones match", "bbox=-50,0,-49,10", gather, recent + 2*60_000, limit},
		{"very many old ones match", "bbox=0,0,10,10", walked, recent + planRows/2 + 2*limit, limit},
		{"none match", "bbox=-60,0,-59,10", gather, recent, 0},
		{"few of many match", "bbox=20,0,21,1", gather, recent + 2*1000, -1},
		{"the oldest match, across the antimeridian", "bbox=170,0,-99,10", gather, recent + 2*1000, 1000},
		{"many old ones match, across the antimeridian", "bbox=150,0,-49,10", gather, recent + 2*61_000, limit},
		{"none match, across the antimeridian", "bbox=170,0,-170,10", gather, recent, 0},
		{"the oldest times", "datetime=../2000-01-01T00:10:00Z", gather, recent + 2*601, 601},
		{"many old times", "datetime=../2000-01-01T16:00:00Z", gather, recent + 2*58_000, limit},
		{"very many old times", "datetime=../2000-01-02T12:00:00Z", walked, recent + planRows/2 + 25_000, limit},
		{"the newest times", "datetime=2000-01-04T00:00:00Z/..", "", recent, limit},
		{"no time", "datetime=2024-01-01T00:00:00Z", gather, recent, 0},
		{"a common name", "name=common", "", limit, limit},
		{"an old name", "name=oldest", "", limit, -1},
		{"no such name", "name=none", "", 0, 0},
		{"a common name, the oldest of it", "name=common&bbox=-100,0,-99,10", "", planRows / 100, 10},
		{"a common name in the newest box", "name=common&bbox=20,0,120,10", "", recent, limit},
		{"a box and times that never meet", "bbox=-100,0,-99,10&datetime=2000-01-02T00:00:00Z/2000-01-02T01:00:00Z", gather, recent + 4*3600, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q, err := parseList(test.query)
			if err != nil {
				t.Fatal(err)
			}
			w, args := q.ways(), q.args()
			p := f.explain(t, w.first, args)
			read, rows, way, text := p.read(), p.rows(), "", p.text
			if rows == 0 && w.gather.sql != "" {
				chosen, err := f.choose(w, args)
				if err != nil {
					t.Fatal(err)
				}
				p := f.explain(t, chosen, args)
				read, rows, way, text = read+p.read(), p.rows(), chosen.kind, text+p.text
			}
			if way != test.way || read > test.read+slack || test.rows >= 0 && rows != test.rows {
				t.Errorf("%q after the first way, %d read, %d rows; want %q, at most %d, %d\n%s", way, read, rows, test.way, test.read, test.rows, text)
			}
			p.mustNot(t, "Seq Scan on points_1", "Materialize")
		})
	}
	p := f.explain(t, oneStatement, []any{"0193a0c4-5b7e-7c3a-9d2e-0123456789ab"})
	if !strings.Contains(p.text, "points_1_pkey") {
		t.Errorf("one point is not found by its key\n%s", p.text)
	}
}

// A plan is a node of EXPLAIN's.
type planOf struct {
	Type    string   `json:"Node Type"`
	Index   string   `json:"Index Name"`
	Rel     string   `json:"Relation Name"`
	Way     string   `json:"Scan Direction"`
	Rows    float64  `json:"Actual Rows"`
	Loops   float64  `json:"Actual Loops"`
	Removed float64  `json:"Rows Removed by Filter"`
	Plans   []planOf `json:"Plans"`
	text    string
}

// explain runs a statement as the service does and says what Postgres did.
func (f *fixture) explain(t *testing.T, st statement, args []any) planOf {
	t.Helper()
	conn, err := f.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	do := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if st.custom {
		do(beginCustom)
		defer do(endCustom)
	}
	do("prepare page as " + st.sql)
	defer do("deallocate page")
	var text []byte
	err = conn.QueryRow(t.Context(), "explain (analyze, costs off, timing off, format json) execute page("+literals(args)+")", pgx.QueryExecModeSimpleProtocol).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	var out []struct{ Plan planOf }
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	out[0].Plan.text = string(text)
	return out[0].Plan
}

func literals(args []any) string {
	var out []string
	for _, a := range args {
		switch a := a.(type) {
		case string:
			out = append(out, "'"+a+"'")
		case pgtype.Timestamptz:
			text := a.InfinityModifier.String()
			if a.InfinityModifier == pgtype.Finite {
				text = a.Time.Format(time.RFC3339Nano)
			}
			out = append(out, "'"+text+"'")
		default:
			out = append(out, fmt.Sprint(a))
		}
	}
	return strings.Join(out, ", ")
}

// read is how many entries of indexes, and rows for them, were read; those of
// the page itself, which are fetched one by one, are not among them.
func (p *planOf) read() (n int) {
	if strings.Contains(p.Type, "Scan") && (p.Index != "" || p.Rel == "points_1") && p.Way != "Forward" {
		n = int((p.Rows + p.Removed) * p.Loops)
	}
	for i := range p.Plans {
		n += p.Plans[i].read()
	}
	return n
}

// rows is how many came out, but for the one that holds the checkpoint alone.
func (p *planOf) rows() int {
	var fetched func(*planOf) (int, bool)
	fetched = func(p *planOf) (int, bool) {
		if p.Type == "Index Scan" && p.Index != "" && (p.Way == "Forward" || p.Way == "Backward") && p.Rel == "points_1" {
			return int(p.Rows * p.Loops), true
		}
		for i := len(p.Plans) - 1; i >= 0; i-- {
			if n, ok := fetched(&p.Plans[i]); ok {
				return n, true
			}
		}
		return 0, false
	}
	n, _ := fetched(p)
	return n
}

func (p *planOf) mustNot(t *testing.T, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		if strings.HasPrefix(p.Type+" on "+p.Rel, node) {
			t.Errorf("there is a %s", node)
		}
	}
	for i := range p.Plans {
		p.Plans[i].mustNot(t, nodes...)
	}
}
