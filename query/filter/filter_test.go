package filter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"cairn/event"
	"cairn/internal/earth"
	"cairn/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// rowsTable has a segment's columns, as far as a filter looks at them.
const rowsTable = `create temp table points (id int, name text, author text, position bigint, revision bigint,
	geom geometry(Point, 4326), altitude float8, observed_at timestamptz, received_at timestamptz, properties jsonb)`

const insertRow = `insert into points values ($1, nullif($2, ''), nullif($3, ''), $4, $5,
	ST_SetSRID(ST_MakePoint($6, $7), 4326), $8, null, $9, $10::text::jsonb) returning properties::text`

// What SQL says of a row is what Match says of it, for any filter.
func TestSQLIsMatch(t *testing.T) {
	db, err := pgx.Connect(t.Context(), testkit.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	if _, err := db.Exec(t.Context(), rowsTable); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var rows []Row
	for i := range 400 {
		rows = append(rows, insertRandom(t, db, r, i))
	}
	subjects := subjectsOf(rows)
	passed := 0
	for range 3_000 {
		e := randomExpr(r, 3)
		want := passing(t, e, rows, subjects)
		got, err := selectIDs(t.Context(), db, e)
		if err != nil {
			t.Fatalf("%s: %v", Canonical(e), err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: SQL has %v, Match %v", Canonical(e), got, want)
		}
		checkBound(t, e, rows, want)
		passed += len(want)
	}
	if passed == 0 {
		t.Error("no row passed any filter: the test tries nothing")
	}
}

func subjectsOf(rows []Row) []Subject {
	subjects := make([]Subject, len(rows))
	for i := range rows {
		subjects[i].Set(&rows[i])
	}
	return subjects
}

// passing are the numbers of the rows that pass, which a row that is read for one filter
// says as one that was read for others before.
func passing(t *testing.T, e Expr, rows []Row, subjects []Subject) []int {
	t.Helper()
	out := []int{}
	for i := range rows {
		passes, left := Match(e, &rows[i]), math.MaxInt
		if again, known := subjects[i].Match(e, &left); !known || again != passes {
			t.Fatalf("%s: %v, %v of a row that was read, %v of one that was not", Canonical(e), again, known, passes)
		}
		if passes {
			out = append(out, i)
		}
	}
	return out
}

func insertRandom(t *testing.T, db *pgx.Conn, r *rand.Rand, i int) Row {
	t.Helper()
	row := Row{X: randomLongitude(r), Y: randomLatitude(r), Altitude: math.NaN(), Time: r.Int64N(5) * 1e6, Name: pick(r, names), Author: pick(r, names),
		Position: event.Position(r.Int64N(9)), Properties: []byte(pick(r, objects))}
	row.Received, row.Revision = row.Time, row.Position
	var altitude, revision, properties any = nil, nil, string(row.Properties)
	if r.IntN(2) == 0 {
		row.Altitude = float64(r.IntN(5)) / 2
		altitude = row.Altitude
	}
	if r.IntN(3) == 0 {
		row.Revision += 2
		revision = int64(row.Revision)
	}
	if len(row.Properties) == 0 {
		row.Properties, properties = nil, nil
	}
	var stored *string
	err := db.QueryRow(t.Context(), insertRow, i, row.Name, row.Author, int64(row.Position), revision, row.X, row.Y, altitude, timestamp(row.Time), properties).Scan(&stored)
	if err != nil {
		t.Fatal(err)
	}
	if stored != nil && r.IntN(2) == 0 {
		row.Properties = []byte(*stored) // as jsonb writes it, beside what came in
	}
	return row
}

func selectIDs(ctx context.Context, db *pgx.Conn, e Expr) ([]int, error) {
	b := &Builder{}
	b.WriteString("select id from points where geom is not null and " + b.Where(e))
	if boxes := Bound(e).Boxes; boxes != nil {
		b.WriteString(" and " + b.Touches(boxes))
	}
	b.WriteString(" order by id")
	rows, err := db.Query(ctx, b.String(), b.Args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

// checkBound sees that nothing outside the extent passes.
func checkBound(t *testing.T, e Expr, rows []Row, passing []int) {
	t.Helper()
	x := Bound(e)
	for _, i := range passing {
		r := &rows[i]
		inside := x.Boxes == nil || slices.ContainsFunc(x.Boxes, func(b Box) bool { return b.Has(r.X, r.Y) })
		named := x.Names == nil || slices.Contains(x.Names, r.Name)
		if !inside || !named || r.Time < x.From || r.Time > x.To || int64(r.Position) < x.Low || int64(r.Position) > x.High {
			t.Fatalf("%s: %+v passes, outside of %+v", Canonical(e), *r, x)
		}
	}
}

var (
	names   = []string{"", "a", "A", "ab", "é", "É", "ǅÅ", "a_b", "a%b", `a\b`, "Z", "日本"}
	objects = []string{"", "{}", `{"p":null}`, `{"p":1}`, `{"p":1.0}`, `{"p":-1.5e0}`, `{"p":12345678901234567890.5}`, `{"p":1e30}`, `{"p":"1"}`, `{"p":""}`,
		`{"p":"a"}`, `{"p":"é"}`, `{"p":"É"}`, `{"p":"A"}`, `{"p":"a\"b"}`, `{"p":"\u00e9"}`, `{"p":true}`, `{"p":false}`, `{"p":[1]}`, `{"p":{"p":1}}`, `{"q":{"p":1},"p":"Z"}`, `{"q":1,"r":"a"}`,
		`{"p":"2000-01-01"}`, `{"p":"2000-01-01T00:00:02Z","q":"2000-01-01"}`, `{"p":"2000-01-01 01:00:03.0000019+01:00"}`, `{"p":"2000-02-30"}`}
	numberTexts = []string{"1", "0", "-1.5", "1.0e0", "12345678901234567890.5", "1000000000000000000000000000000", "-0", "2.5"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// The places lie on a coarse grid, so that edges of boxes are hit often.
func randomLongitude(r *rand.Rand) float64 { return float64(r.IntN(13)-6) * 30 }
func randomLatitude(r *rand.Rand) float64  { return float64(r.IntN(7)-3) * 30 }

func randomExpr(r *rand.Rand, depth int) Expr {
	switch n := r.IntN(12); {
	case depth > 0 && n < 3:
		return And{randomExpr(r, depth-1), randomExpr(r, depth-1)}
	case depth > 0 && n < 5:
		return Or{randomExpr(r, depth-1), randomExpr(r, depth-1)}
	case depth > 0 && n < 7:
		return Not{randomExpr(r, depth-1)}
	case n < 8:
		south, north := randomLatitude(r), randomLatitude(r)
		return Box{randomLongitude(r), min(south, north), randomLongitude(r), max(south, north)}
	case n == 8 && r.IntN(2) == 0:
		return randomArea(r)
	case n == 8:
		return Near{randomLongitude(r), randomLatitude(r), float64(r.IntN(MaxMetres) + 1)}
	}
	return randomComparison(r)
}

// randomArea is of triangles and of quadrangles with a hole, on the same grid.
func randomArea(r *rand.Rand) Expr {
	ring := func(corners int) (ring []Place) {
		for range corners {
			ring = append(ring, Place{randomLongitude(r), randomLatitude(r)})
		}
		return append(ring, ring[0])
	}
	polygons := [][][]Place{{ring(3)}}
	for range r.IntN(3) {
		polygons = append(polygons, [][]Place{ring(4), ring(3)})
	}
	return NewArea(r.IntN(2) == 0, polygons)
}

func randomComparison(r *rand.Rand) Expr {
	fields := []Field{Name, Author, Position, Revision, Time, Received, Altitude, Property("p"), Property("q"), Property(`p"`), First("p"), Last("p"), Last("q")}
	f := pick(r, fields)
	if r.IntN(6) == 0 {
		return IsNull{f}
	}
	v := randomValue(r, f)
	if v.Type() == Text && r.IntN(4) == 0 {
		f, v.text = Fold(f), FoldText(v.text)
	}
	if v.Type() == Text && r.IntN(3) == 0 {
		l, err := NewLike(f, pick(r, []string{"", "%", "_", "a%", "%b", "a__", `a\_b`, `a\\b`, "%a%b%", "_%", `\é`, "__", "%_b", "%a_%", `%\%%`, `%\_b`, "%é%", "%a%_", "%%b"}))
		if err != nil {
			panic(err)
		}
		return l
	}
	if r.IntN(4) == 0 {
		list := []Value{v}
		for range r.IntN(3) {
			if next := randomValue(r, f); next.Type() == v.Type() {
				list = append(list, next)
			}
		}
		return In{f, list}
	}
	ops := []Op{Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual}
	return Compare{f, pick(r, ops), v}
}

func randomValue(r *rand.Rand, f Field) Value {
	types := []Type{Text, Number, Boolean, Instant}
	for {
		kind := pick(r, types)
		if !f.Takes(kind) {
			continue
		}
		var v Value
		var err error
		switch kind {
		case Text:
			v, err = TextValue(pick(r, append([]string{"1"}, names...)))
		case Number:
			v, err = NumberValue(pick(r, append([]string{fmt.Sprint(r.IntN(9))}, numberTexts...)))
		case Boolean:
			v = BoolValue(r.IntN(2) == 0)
		case Instant:
			v = InstantValue(r.Int64N(5) * 1e6)
		}
		if err != nil {
			panic(err)
		}
		return v
	}
}

// Distances are those of PostGIS' geographies.
func TestDistance(t *testing.T) {
	db, err := pgx.Connect(t.Context(), testkit.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 2_000 {
		lon, lat := r.Float64()*360-180, r.Float64()*180-90
		x, y := r.Float64()*360-180, r.Float64()*180-90
		if i%2 == 0 { // nearby, poles and antimeridian among them
			x, y = earth.Wrap(lon+r.NormFloat64()/10), max(-90, min(90, lat+r.NormFloat64()/10))
		}
		var want float64
		err := db.QueryRow(t.Context(), `select ST_Distance(ST_MakePoint($1, $2)::geography, ST_MakePoint($3, $4)::geography)`, lon, lat, x, y).Scan(&want)
		if err != nil {
			t.Fatal(err)
		}
		got := Distance(lon, lat, x, y)
		if want < MaxMetres && math.Abs(got-want) > 0.001 || want >= MaxMetres && got < MaxMetres-1 {
			t.Errorf("from %v,%v to %v,%v: %v m, PostGIS says %v", lon, lat, x, y, got, want)
		}
		n := Near{lon, lat, want + 1}
		if b := n.Bounds(); !b.Has(x, y) {
			t.Errorf("%+v is outside of its bounds %+v: %v,%v", n, b, x, y)
		}
	}
}

func TestParameters(t *testing.T) {
	tests := []struct{ name, value, want, spelled string }{
		{"bbox", "1,2,3,4", "box(1,2,3,4)", "1,2,3,4"},
		{"bbox", "170,-10.50,-170,1e-7", "box(170,-10.5,-170,1e-07)", "170,-10.5,-170,1e-07"},
		{"bbox", "182.5,-18,193.5,-9.5", "box(-177.5,-18,-166.5,-9.5)", "-177.5,-18,-166.5,-9.5"},
		{"bbox", "170,-50,190,-10", "box(170,-50,-170,-10)", "170,-50,-170,-10"},
		{"bbox", "-190,0,-180,1", "box(170,0,-180,1)", "170,0,-180,1"},
		{"bbox", "-382.5,-89.5,382.5,89.5", "box(-180,-89.5,180,89.5)", "-180,-89.5,180,89.5"},
		{"bbox", "-180.0000000001,-90,180.0000000001,90", "box(-180,-90,180,90)", "-180,-90,180,90"},
		{"bbox", "-5,42,0,9,51,100", "and(box(-5,42,9,51),or(altitude is null,and(altitude<=100,altitude>=0)))", "-5,42,0,9,51,100"},
		{"datetime", "2000-01-01T00:00:01Z", "and(time<=t1000000,time>=t1000000)", "2000-01-01T00:00:01Z"},
		{"datetime", "2000-01-01T01:00:01.5+01:00/..", "time>=t1500000", "2000-01-01T00:00:01.5Z/.."},
		{"datetime", "../2000-01-01t00:00:00.1234567z", "time<=t123456", "../2000-01-01T00:00:00.123456Z"},
		{"datetime", "2000-01-01", "and(time<=t86399999999,time>=t0)", "2000-01-01T00:00:00Z/2000-01-01T23:59:59.999999Z"},
		{"datetime", "2000-01-01/2000-01-02", "and(time<=t172799999999,time>=t0)", "2000-01-01T00:00:00Z/2000-01-02T23:59:59.999999Z"},
		{"name", "Zürich", `name="Zürich"`, "Zürich"},
		{"near", "2.35,48.85,1000", "near(2.35,48.85,1000)", "2.35,48.85,1000"},
		{"near", "181,0,1", "near(-179,0,1)", "-179,0,1"},
		{"properties.mag", "4.50", `or(properties."mag"="4.50",properties."mag"=4.5)`, "4.50"},
		{"properties.mag", "4..5", `and(properties."mag"<=5,properties."mag">=4)`, "4..5"},
		{"properties.mag", "4.5..", `properties."mag">=4.5`, "4.5.."},
		{"properties.mag", "..-1e2", `properties."mag"<=-100`, "..-1e2"},
		{"properties.day", "2018-01-01..2018-02-01", `and(properties."day"<="2018-02-01",properties."day">="2018-01-01")`, "2018-01-01..2018-02-01"},
		{"properties.a.b", "x", `properties."a.b"="x"`, "x"},
		{"properties.x", "true", `or(properties."x"="true",properties."x"=true)`, "true"},
		{"properties.x", `"5..6"`, `properties."x"="5..6"`, `"5..6"`},
	}
	for _, test := range tests {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			p, known, err := ParseParameter(test.name, test.value)
			if err != nil || !known {
				t.Fatal(known, err)
			}
			if got := Canonical(p.Expr); got != test.want || p.Value != test.spelled {
				t.Errorf("%s as %s, want %s as %s", got, p.Value, test.want, test.spelled)
			}
		})
	}
}

func TestBadParameters(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"bbox", "1,2,3", "four numbers"},
		{"bbox", "1,2,3,4,5", "four numbers"},
		{"bbox", "1,2,3,NaN", `"NaN" is not a number`},
		{"bbox", "1,2,3,0x1p2", "is not a number"},
		{"bbox", "4000,2,4001,3", "times around the world"},
		{"bbox", "0,0,1,90.5", "90.5: the latitude must be from -90 to 90"},
		{"bbox", "0,2,1,1", "south is north of its north"},
		{"bbox", "0,0,9,1,1,8", "lowest height is above"},
		{"datetime", "", "is not a time"},
		{"datetime", "2026-02-30", "is not a time"},
		{"datetime", "../..", "open at both ends"},
		{"datetime", "2026-11-22/2026-11-21", "ends before it begins"},
		{"name", "", "1 to 255 characters, not 0"},
		{"name", "a\x00b", "not text in UTF-8"},
		{"near", "1,2", "longitude,latitude,metres"},
		{"near", "1,2,0", "more than 0 metres"},
		{"near", "1,2,1e9", "at most 10000000"},
		{"properties.", "x", "1 to 1024 bytes"},
		{"properties.x", "..", "a range has an end"},
		{"properties.x", `"a\q"`, "as JSON has it"},
		{"properties.x", "\xff", "not text in UTF-8"},
	}
	for _, test := range tests {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			_, known, err := ParseParameter(test.name, test.value)
			if !known || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want something with %q", err, test.want)
			}
		})
	}
}

// FuzzParameter: what is taken is spelled so that it is taken as the same again, and
// both back ends can be asked about it.
func FuzzParameter(f *testing.F) {
	for _, s := range [][2]string{{"bbox", "170,-1,190,1"}, {"datetime", "2026-11-21/.."}, {"near", "1,2,3"}, {"properties.x", "1..2"}, {"properties.x", `"a"`}, {"name", "a"}} {
		f.Add(s[0], s[1])
	}
	row := &Row{Properties: []byte(`{"x":1,"y":"a"}`), Altitude: math.NaN()}
	f.Fuzz(func(t *testing.T, name, value string) {
		p, known, err := ParseParameter(name, value)
		if !known || err != nil {
			return
		}
		again, _, err := ParseParameter(name, p.Value)
		if err != nil || again.Value != p.Value || Canonical(again.Expr) != Canonical(p.Expr) {
			t.Fatalf("%s=%q is spelled %q, which is %q: %v", name, value, p.Value, again.Value, err)
		}
		Match(p.Expr, row)
		b := &Builder{}
		if b.Where(p.Expr) == "" || strings.Contains(b.String(), "'") {
			t.Fatalf("%s=%q: %s", name, value, b.String())
		}
	})
}

// FuzzMember: members are found where encoding/json finds them, in whatever order they are
// asked for and however often, and only there.
func FuzzMember(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1},"b":[2]}`), "b")
	f.Add([]byte(` { "a" : "\\\"" , "b\u0062" : [ "]}" , { } ] , "c" : -1.5e3 , "" : null } `), "bb")
	f.Add([]byte(`{"a":1,"a":2}`), "a")
	f.Fuzz(func(t *testing.T, object []byte, name string) {
		var all map[string]json.RawMessage
		valid := json.Unmarshal(object, &all) == nil && utf8.Valid(object) && !bytes.Contains(bytes.ToLower(object), []byte(`\ud`)) // surrogates, which Postgres has in pairs only
		var m, whole members
		whole.reset(object)
		whole.makeIndex()
		distinct := len(whole.read) == len(all) // as jsonb makes them
		m.reset(object)
		for range 2 {
			v := m.value(m.find(name))
			if _, there := all[name]; valid && there != (v != nil) {
				t.Fatalf("%s: %q is %s", object, name, v)
			}
			for name, want := range all {
				if v := m.value(m.find(name)); valid && distinct && !bytes.Equal(v, want) {
					t.Fatalf("%s: %q is %s, want %s", object, name, v, want)
				}
			}
			m.makeIndex()
			if valid && len(all) > len(m.read) {
				t.Fatalf("%s: %d members, want %d", object, len(m.read), len(all))
			}
		}
	})
}
