package plan

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/event"
	"cairn/internal/testkit"
	"cairn/query/filter"
	"cairn/schema"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A fixture is a database with segments, and a reader of it.
type fixture struct {
	*Reader
	t     *testing.T
	db    *pgx.Conn
	kinds []string // of the statements run
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	url := testkit.Postgres(t)
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	f := &fixture{t: t, db: db}
	long, err := LongPool(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(long.Close)
	f.Reader = New(pool, long, func(kind string, _ time.Time) { f.kinds = append(f.kinds, kind) })
	return f
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// segment makes a table with the rows of the select, which gives a segment's
// columns, for positions from low to below high.
func (f *fixture) segment(id int, low, high int64, state, rows string, args ...any) {
	f.t.Helper()
	f.exec("drop table if exists " + schema.Table(id) + " cascade")
	f.exec("delete from segments where id = $1", id)
	f.exec(schema.CreateTable(id))
	f.exec("insert into "+schema.Table(id)+" ("+schema.List("", schema.Columns)+") "+rows, args...)
	indexes := schema.HeadIndexes(id)
	if state == schema.Sealed {
		indexes = append(indexes, schema.SealedIndexes(id)...)
	}
	for _, sql := range indexes {
		f.exec(sql)
	}
	f.exec(schema.GrantLike(id))
	f.exec("insert into segments (id, low, high, state) values ($1, $2, $3, $4)", id, low, high, state)
	f.exec("analyze " + schema.Table(id))
	if state == schema.Sealed {
		f.describe(id)
	}
}

// describe says what a segment holds, as the projector does when it seals one.
func (f *fixture) describe(id int) {
	f.t.Helper()
	f.exec(strings.ReplaceAll(`update segments set (rows, revision, west, south, east, north, time_from, time_to, v7_from, v7_to, other_ids) = (
		select count(*) filter (where geom is not null), coalesce(max(revision), 0), min(ST_X(geom)), min(ST_Y(geom)), max(ST_X(geom)), max(ST_Y(geom)),
			min(coalesce(observed_at, received_at)), max(coalesce(observed_at, received_at)),
			min(id::text) filter (where substr(id::text, 15, 1) = '7')::uuid, max(id::text) filter (where substr(id::text, 15, 1) = '7')::uuid,
			count(*) filter (where substr(id::text, 15, 1) <> '7')
		from TABLE) where id = $1`, "TABLE", schema.Table(id)), id)
	rows, err := f.db.Query(f.t.Context(), `select least(floor((ST_Y(geom) + 90) / 5), 35)::int * 72 + least(floor((ST_X(geom) + 180) / 5), 71)::int, count(*)
		from `+schema.Table(id)+` where geom is not null group by 1`)
	if err != nil {
		f.t.Fatal(err)
	}
	cells := make([]byte, cellColumns*cellRows)
	var cell, n int
	if _, err := pgx.ForEachRow(rows, []any{&cell, &n}, func() error {
		cells[cell] = byte(math.Ilogb(float64(n)) + 1)
		return nil
	}); err != nil {
		f.t.Fatal(err)
	}
	f.exec("update segments set cells = $2 where id = $1", id, cells)
	f.exec("update checkpoint set catalogue = catalogue + 1")
}

// A model is the rows as a plain program would keep them, tombstones left out.
type model []filter.Row

// fill makes segments with random points: some sealed, one of them of which nothing
// is known, and the head.
func (f *fixture) fill(r *rand.Rand) model {
	f.t.Helper()
	var all model
	edges := []int64{0, 4_000, 7_000, 9_000, 10_000, math.MaxInt64}
	for i, low := range edges[:len(edges)-1] {
		state := schema.Sealed
		if i == len(edges)-2 {
			state = schema.Head
		}
		var values []string
		for p := low + 1; p < min(edges[i+1], 11_000); p += 1 + r.Int64N(9) {
			row, sql := randomRow(r, event.Position(p))
			if values = append(values, sql); row != nil {
				all = append(all, *row)
			}
		}
		f.segment(10+i, low, edges[i+1], "sealed", "values "+strings.Join(values, ","))
		f.exec("update segments set state = 'dropped' where id = 1")
		f.exec("update segments set state = $2 where id = $1", 10+i, state)
	}
	f.exec("update segments set cells = null, other_ids = null where id = 12") // not known
	f.exec("update checkpoint set sequence = 77, catalogue = catalogue + 1")
	return all
}

func randomRow(r *rand.Rand, p event.Position) (*filter.Row, string) {
	row := &filter.Row{Position: p, Revision: p, X: float64(r.IntN(361) - 180), Y: float64(r.IntN(181) - 90), Altitude: math.NaN(),
		Time: r.Int64N(50) * 3_600_000_000, Name: []string{"", "a", "b"}[r.IntN(3)]}
	if r.IntN(3) > 0 { // most are near one place
		row.X, row.Y = 10+float64(r.IntN(300))/100, 50+float64(r.IntN(200))/100
	}
	revision := "null::bigint"
	if r.IntN(10) == 0 {
		row.Revision = p + 20_000
		revision = fmt.Sprint(int64(row.Revision))
	}
	row.Received = row.Time
	row.Properties = fmt.Appendf(nil, `{"n": %d}`, r.IntN(10))
	id := event.Key(fmt.Sprint(p))
	if r.IntN(2) == 0 {
		id = v7(p)
	}
	if r.IntN(12) == 0 {
		return nil, fmt.Sprintf("('%s'::uuid, null, null::boolean, %d, %d, null, null::geometry, null::float8, null::timestamptz, now(), null::jsonb, null::jsonb, null)", id, p, p+20_000)
	}
	return row, fmt.Sprintf("('%s'::uuid, null, null::boolean, %d, %s, nullif('%s', ''), ST_SetSRID(ST_MakePoint(%v, %v), 4326), null::float8, null::timestamptz, '%s'::timestamptz, '%s'::jsonb, null::jsonb, null)",
		id, p, revision, row.Name, row.X, row.Y, timestamp(row.Time).Format(time.RFC3339Nano), row.Properties)
}

// v7 is a key that rises with the position.
func v7(p event.Position) uuid.UUID {
	id := uuid.UUID{0: 1, 6: 0x70, 8: 0x80}
	for i := range 5 {
		id[1+i] = byte(p >> (8 * (4 - i)))
	}
	return id
}

func randomFilter(r *rand.Rand) filter.Expr {
	var list []filter.Parameter
	add := func(name, value string) {
		p, known, err := filter.ParseParameter(name, value)
		if err != nil || !known {
			panic(fmt.Sprint(name, value, err))
		}
		list = append(list, p)
	}
	switch r.IntN(5) {
	case 0:
		add("bbox", fmt.Sprintf("%d,%d,%d,%d", r.IntN(361)-180, r.IntN(91)-90, r.IntN(361)-180, r.IntN(91)))
	case 1:
		x, y := 10+r.Float64()*3, 50+r.Float64()*2
		add("bbox", fmt.Sprintf("%v,%v,%v,%v", x, y, x+r.Float64(), y+r.Float64()))
	case 2:
		add("near", fmt.Sprintf("%v,%v,%v", 10+r.Float64()*3, 50+r.Float64()*2, math.Exp(r.Float64()*16)))
	}
	hour := func(n int) string { return timestamp(int64(n) * 3_600_000_000).Format(time.RFC3339) }
	switch from := r.IntN(50); r.IntN(5) {
	case 0:
		add("datetime", hour(from)+"/"+hour(from+r.IntN(30)))
	case 1:
		add("datetime", hour(from)+"/..")
	}
	if r.IntN(4) == 0 {
		add("name", "a")
	}
	if r.IntN(4) == 0 {
		add("properties.n", fmt.Sprintf("%d..", r.IntN(10)))
	}
	return filter.Combine(list)
}

// want is what a page's rows should be, in their order.
func (m model) want(q *Query) []event.Position {
	var rows []filter.Row
	for i := range m {
		if filter.Match(q.Filter, &m[i]) {
			rows = append(rows, m[i])
		}
	}
	key := func(r *filter.Row) Key {
		switch q.Sort {
		case ByTime:
			return Key{Position: r.Position, Time: r.Time}
		case ByDistance:
			return Key{Position: r.Position, Distance: filter.Distance(q.Near.Longitude, q.Near.Latitude, r.X, r.Y)}
		}
		return Key{Position: r.Position}
	}
	slices.SortFunc(rows, func(a, b filter.Row) int {
		if a.Position == b.Position {
			return 0
		} else if q.ordered(key(&a), key(&b)) {
			return -1
		}
		return 1
	})
	out := make([]event.Position, len(rows))
	for i := range rows {
		out[i] = rows[i].Position
	}
	return out
}

// byDistance sees that the rows come in the order of their distances.
func (m model) byDistance(t *testing.T, q *Query, got []event.Position) {
	t.Helper()
	at := map[event.Position]float64{}
	for _, r := range m {
		at[r.Position] = filter.Distance(q.Near.Longitude, q.Near.Latitude, r.X, r.Y)
	}
	const millimetre = 0.001
	for i := 1; i < len(got); i++ {
		if at[got[i]] < at[got[i-1]]-millimetre {
			t.Fatalf("%s: %v m after %v m", filter.Canonical(q.Filter), at[got[i]], at[got[i-1]])
		}
	}
}

// all reads page after page.
func (f *fixture) all(q Query) (got []event.Position) {
	f.t.Helper()
	for {
		n, last := 0, Key{}
		sequence, err := f.Page(f.t.Context(), q, func(r Row) (bool, error) {
			p := &page{q: q}
			key, err := p.key(r)
			if err != nil {
				return false, err
			}
			n, last = n+1, key
			got = append(got, key.Position)
			return true, nil
		})
		if err != nil {
			f.t.Fatalf("%s: %v", filter.Canonical(q.Filter), err)
		}
		if sequence != 77 {
			f.t.Fatalf("the sequence is %d", sequence)
		}
		if n < q.Limit {
			return got
		}
		q.After = &last
	}
}

// Pages in every order, put together, are what a plain loop over all points gives.
func TestPagesAgainstAModel(t *testing.T) {
	f := newFixture(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	m := f.fill(r)
	for range 250 {
		q := Query{Filter: randomFilter(r), Limit: 1 + r.IntN(400), Sort: Sort(r.IntN(2)), Ascending: r.IntN(2) == 0}
		for _, part := range append(flat(q.Filter), q.Filter) {
			if near, ok := part.(filter.Near); ok && r.IntN(3) > 0 {
				q.Sort, q.Near, q.Ascending = ByDistance, near, false
			}
		}
		want := m.want(&q)
		got := f.all(q)
		if q.Sort == ByDistance { // places that are equally far but for some µm may come in either order
			m.byDistance(t, &q, got)
			slices.Sort(got)
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s by %d, ascending %v, %d a page: %d rows, want %d\n%v\n%v", filter.Canonical(q.Filter), q.Sort, q.Ascending, q.Limit, len(got), len(want), got, want)
		}
		n, sequence, err := f.Count(t.Context(), q.Filter)
		if err != nil || n != int64(len(want)) || sequence != 77 {
			t.Fatalf("%s: counted %d at %d, want %d: %v", filter.Canonical(q.Filter), n, sequence, len(want), err)
		}
	}
}

func flat(e filter.Expr) []filter.Expr {
	all, _ := e.(filter.And)
	return all
}
