package query

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// planRows: the oldest 1,000 of 300,000 points lie in a box of their own (A),
// the older half of the others in another (B), the newer half in a third (C).
const (
	planRows  = 300_000
	planTable = `
	drop index points_geom;
	insert into points (id, position, geom, received_at)
		select gen_random_uuid(), 4096 + i, ST_SetSRID(ST_MakePoint(case
			when i < 1000 then -100 + random() when i < 150000 then random() * 10 else 20 + random() * 100 end, random() * 10), 4326), now()
		from generate_series(0, 299999) i;
	create index points_geom on points using gist (geom);`
)

// TestPlans looks at how much of which index each kind of question reads, by
// what Postgres says it did: times would say it of this machine only.
func TestPlans(t *testing.T) {
	f := newFixture(t)
	f.exec(planTable)
	const limit = 1001 // rows of a page, and one
	tests := []struct {
		name, args                string
		wrapped                   bool
		recent, few, walked, rows int // index entries at most; rows exactly
	}{
		{"the newest match", "9e18, 1001, 20, 0, 120, 10", false, recentFactor * limit, 0, 0, limit},
		{"all match", "9e18, 1001, -180, -90, 180, 90", false, recentFactor * limit, 0, 0, limit},
		{"the oldest match", "9e18, 1001, -100, 0, -99, 10", false, recentFactor * limit, 1000, 0, 1000},
		{"none match", "9e18, 1001, -50, 0, -49, 10", false, recentFactor * limit, 0, 0, 0},
		{"very many old ones match", "9e18, 1001, 0, 0, 10, 10", false, recentFactor * limit, fewMatches + 1, planRows/2 + 2000, limit},
		{"few of many match", "9e18, 1001, 20, 0, 21, 1", false, recentFactor * limit, 1000, 0, -1},
		{"a late page of many", "50000, 1001, 0, 0, 10, 10", false, recentFactor * limit, 0, 0, limit},
		{"the last page of many", "5596, 1001, 0, 0, 10, 10", false, 1500, fewMatches + 1, 1500, 500},
		{"the oldest match, across the antimeridian", "9e18, 1001, 170, 0, -99, 10", true, recentFactor * limit, 1000, 0, 1000},
		{"many old ones match, across the antimeridian", "9e18, 1001, 150, 0, 10, 10", true, recentFactor * limit, fewMatches + 1, planRows/2 + 2000, limit},
		{"none match, across the antimeridian", "9e18, 1001, 170, 0, -170, 10", true, recentFactor * limit, 0, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sql := boxSelect
			if test.wrapped {
				sql = wrappedBoxSelect
			}
			p := f.explain(t, sql, test.args)
			recent, few, walked := p.read("points_position_key", "Backward", false), p.read("points_geom", "", false), p.read("points_position_key", "Backward", true)
			if recent > test.recent || few > test.few || walked > test.walked {
				t.Errorf("read %d recent, %d through the spatial index, %d walking; want at most %d, %d, %d\n%s",
					recent, few, walked, test.recent, test.few, test.walked, p.text)
			}
			if rows := p.read("points_position_key", "Forward", false); test.rows >= 0 && rows != test.rows {
				t.Errorf("fetched %d rows, want %d", rows, test.rows)
			}
			p.mustNot(t, "Seq Scan on points", "Bitmap", "Materialize")
		})
	}
	p := f.explain(t, newestSelect, "9e18, 1001")
	if n := p.read("points_position_key", "Backward", false); n != limit {
		t.Errorf("the newest page reads %d rows\n%s", n, p.text)
	}
	p.mustNot(t, "Seq Scan on points", "Bitmap", "Materialize", "Sort")
	p = f.explain(t, oneSelect, "'0193a0c4-5b7e-7c3a-9d2e-0123456789ab'")
	if !strings.Contains(p.text, "points_pkey") {
		t.Errorf("one point is not found by its key\n%s", p.text)
	}
}

// A plan is a node of EXPLAIN's.
type plan struct {
	Type    string  `json:"Node Type"`
	Index   string  `json:"Index Name"`
	Rel     string  `json:"Relation Name"`
	Way     string  `json:"Scan Direction"`
	Filter  string  `json:"Filter"`
	Rows    float64 `json:"Actual Rows"`
	Loops   float64 `json:"Actual Loops"`
	Removed float64 `json:"Rows Removed by Filter"`
	Plans   []plan  `json:"Plans"`
	text    string
}

// explain runs a statement with the session's settings and says what it did.
func (f *fixture) explain(t *testing.T, sql, args string) plan {
	t.Helper()
	conn, err := f.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "prepare page as "+sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	args = strings.ReplaceAll(args, "9e18", fmt.Sprint(int64(newest)))
	var text []byte
	err = conn.QueryRow(t.Context(), "explain (analyze, costs off, timing off, format json) execute page("+args+")", pgx.QueryExecModeSimpleProtocol).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "deallocate page", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	var out []struct{ Plan plan }
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	out[0].Plan.text = string(text)
	return out[0].Plan
}

// read is how many entries of the index were read that way, with a filter on
// the geometry or without one.
func (p *plan) read(index, way string, filtered bool) (n int) {
	if p.Index == index && (way == "" || p.Way == way) && strings.Contains(p.Filter, "st_x") == filtered {
		n = int((p.Rows + p.Removed) * p.Loops)
	}
	for i := range p.Plans {
		n += p.Plans[i].read(index, way, filtered)
	}
	return n
}

func (p *plan) mustNot(t *testing.T, nodes ...string) {
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
