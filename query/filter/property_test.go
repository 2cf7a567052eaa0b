package filter

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"cairn/internal/earth"
	"cairn/internal/testkit"
)

// edges are places where longitudes and distances go wrong, if they do: the
// antimeridian from both sides, poles, the equator's ends.
var edges = [][2]float64{{180, 0}, {-180, 0}, {180, 89.9999}, {-180, -89.9999}, {0, 90}, {0, -90}, {179.999, 52.5}, {-179.999, 52.5}, {0, 0}}

// Every character of the planes that have letters of two sizes has the same small form in SQL as in Go, alone and behind
// letters that have none.
func TestFoldedAlike(t *testing.T) {
	db, err := pgx.Connect(t.Context(), testkit.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	var texts, small []string
	const last = 0x1ffff
	for c := rune(1); c <= last; c++ {
		if utf8.ValidRune(c) {
			texts = append(texts, string(c), "zé"+string(c)+"B")
			small = append(small, FoldText(string(c)), FoldText("zé"+string(c)+"B"))
		}
		if len(texts) < 1<<17 && c < last {
			continue
		}
		b := &Builder{Args: []any{texts, small}}
		query := `select count(*), min(name) from unnest($1::text[], $2::text[]) as t(name, small) where ` + b.foldSQL("name") + ` <> small`
		var wrong int
		var first *string
		if err := db.QueryRow(t.Context(), query, b.Args...).Scan(&wrong, &first); err != nil {
			t.Fatal(err)
		}
		if wrong > 0 {
			t.Errorf("%d differ, %q among them", wrong, *first)
		}
		texts, small = nil, nil
	}
}

// Each day that the calendar has, and some that it has not, is the same time in SQL as in
// Go, and so are its hours in each way of writing them.
func TestTimesAlike(t *testing.T) {
	db, err := pgx.Connect(t.Context(), testkit.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	var texts []string
	for _, year := range []int{0, 1, 1900, 1969, 1999, 2000, 2023, 2024, 9999} {
		for month := range 14 {
			for day := range 33 {
				texts = append(texts, fmt.Sprintf("%04d-%02d-%02d", year, month, day))
			}
		}
	}
	for _, day := range []string{"0001-01-01", "1900-02-28", "1969-12-31", "2024-02-29", "9999-12-31", "2026-03-29"} {
		for _, at := range []string{"T00:00:00", "t23:59:59.9999999", " 02:30:00.000001", "T12:00:00.5", "T24:00:00", "T23:60:00", "T12:00:60", "T12:00", "T1:00:00", "T12:00:00."} {
			for _, zone := range []string{"", "Z", "z", "+00:00", "-00:00", "+14:59", "-14:59", "+15:00", "+5:00", "+0530", " Z"} {
				texts = append(texts, day+at+zone)
			}
		}
	}
	texts = append(texts, "", "now", "infinity", "epoch", "2026-11-21\n", "2026-11-21T", "02026-11-21", "2026-1-2", "\u0662026-11-21")
	for _, e := range []end{first, last} {
		b := &Builder{Args: []any{texts}}
		query := `select ` + b.timeSQL(`(t collate "C")`, e) + ` from unnest($1::text[]) with ordinality as u(t, n) order by n`
		rows, err := db.Query(t.Context(), query, b.Args...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[*time.Time])
		if err != nil {
			t.Fatal(err)
		}
		times := 0
		for i, text := range texts {
			micros, ok := timeOf(text, e)
			if ok != (got[i] != nil) || ok && !got[i].Equal(timestamp(micros)) {
				t.Errorf("%q: SQL has %v, Go %v, %v", text, got[i], timestamp(micros), ok)
			}
			if ok {
				times++
			}
			if _, err := time.Parse(time.DateOnly, text); err == nil != ok && len(text) == len(time.DateOnly) && text[:4] != noYear {
				t.Errorf("%q is a day: %v, %v", text, ok, err)
			}
		}
		if times < 8*365 {
			t.Errorf("%d times", times)
		}
	}
}

// TestParametersAsSQLAreMatch is TestSQLIsMatch for what clients write: every parameter,
// alone and several, over rows that lie close together around the edges of the map.
func TestParametersAsSQLAreMatch(t *testing.T) {
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
		if i%2 == 0 {
			rows[i].X, rows[i].Y = aroundAnEdge(r)
			if _, err := db.Exec(t.Context(), `update points set geom = ST_SetSRID(ST_MakePoint($2, $3), 4326) where id = $1`, i, rows[i].X, rows[i].Y); err != nil {
				t.Fatal(err)
			}
		}
	}
	subjects := subjectsOf(rows)
	matched := map[string]int{} // by parameter
	crossing := 0
	for range 1_500 {
		var list []Parameter
		for range 1 + r.IntN(2) {
			list = append(list, randomParameter(t, r))
		}
		e := Combine(list)
		want := passing(t, e, rows, subjects)
		got, err := selectIDs(t.Context(), db, e)
		if err != nil {
			t.Fatalf("%+v: %v", list, err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: SQL has %v, Match %v", Canonical(e), got, want)
		}
		checkBound(t, e, rows, want)
		for _, p := range list {
			matched[p.Name] += len(want)
			if box, ok := p.Expr.(Box); ok && box.West > box.East {
				crossing += len(want)
			}
		}
	}
	for _, name := range append(slices.Clone(ParameterNames[:len(ParameterNames)-1]), PropertyPrefix+"p") {
		if matched[name] == 0 {
			t.Errorf("no row passed a filter with %s: the test tries nothing of it", name)
		}
	}
	if crossing == 0 {
		t.Error("no row passed a box over the antimeridian")
	}
}

func aroundAnEdge(r *rand.Rand) (x, y float64) {
	at := pick(r, edges)
	off := math.Pow(10, -float64(r.IntN(8)))
	return earth.Wrap(at[0] + off*(r.Float64()-0.5)), max(-90, min(90, at[1]+off*(r.Float64()-0.5)))
}

// randomParameter is one as a client writes it.
func randomParameter(t *testing.T, r *rand.Rand) Parameter {
	t.Helper()
	instant := func() string { return timestamp(r.Int64N(5) * 1e6).Format(time.RFC3339) }
	var name, value string
	switch name = pick(r, append(ParameterNames[:len(ParameterNames)-1:len(ParameterNames)-1], PropertyPrefix+"p")); name {
	case "bbox":
		x, y := aroundAnEdge(r)
		width, height := math.Pow(10, 2.5-float64(r.IntN(7))), math.Pow(10, 2-float64(r.IntN(7)))
		value = fmt.Sprintf("%v,%v,%v,%v", x-width/2, max(-90, y-height/2), x+width/2, min(90, y+height/2))
		if r.IntN(4) == 0 {
			value = fmt.Sprintf("%v,%v,%d,%v,%v,%d", x-width/2, max(-90, y-height/2), r.IntN(2), x+width/2, min(90, y+height/2), 2+r.IntN(2))
		}
	case "near":
		x, y := aroundAnEdge(r)
		value = fmt.Sprintf("%v,%v,%v", x, y, math.Pow(10, float64(r.IntN(9))-2+r.Float64()*0.9))
	case "datetime":
		from, to := instant(), instant()
		value = pick(r, []string{from, from + "/..", "../" + to, min(from, to) + "/" + max(from, to), "2000-01-01"})
	case "name", "author":
		value = pick(r, names[1:])
	default:
		value = pick(r, []string{"1", "1.0", "-1.5", `"1"`, "a", "é", "true", "false", "null", "..2", "0..", "-2..1e30", "A..b", "12345678901234567890.5", `"a\"b"`})
	}
	p, known, err := ParseParameter(name, value)
	if err != nil || !known {
		t.Fatalf("%s=%s: %v", name, value, err)
	}
	return p
}
