package recent

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"cairn/event"
	"cairn/query/filter"
)

// A model is what Rows should hold: every row by its position.
type model struct {
	rows     map[event.Position]Row
	order    []event.Position
	sequence uint64
}

func newModel() *model { return &model{rows: map[event.Position]Row{}} }

// row makes one that says its place and revision in its text. Some of its text
// is not in its Feature as it stands.
func row(r *rand.Rand, position, revision event.Position) Row {
	name := fmt.Sprintf("n%d", r.IntN(20))
	properties := fmt.Sprintf(`{"name":"%s","pad":"%s"}`, name, bytes.Repeat([]byte("x"), r.IntN(100)))
	x, y := r.Float64()*360-180, r.Float64()*180-90
	if r.IntN(2) == 0 { // a town
		x, y = 2+r.Float64(), 48+r.Float64()
	}
	if r.IntN(50) == 0 {
		x, y = []float64{-180, 180, 0}[r.IntN(3)], []float64{-90, 90, 0}[r.IntN(3)]
	}
	feature := fmt.Sprintf(`{"p":%d,"r":%d,"properties":%s}`, position, revision, properties)
	if r.IntN(3) == 0 { // with a member that is not the user's
		feature = fmt.Sprintf(`{"p":%d,"r":%d,"properties":%s,"p":1}}`, position, revision, properties[:len(properties)-1])
	}
	if r.IntN(10) == 0 {
		feature = fmt.Sprintf(`{"p":%d,"r":%d,"properties":{}}`, position, revision)
	}
	return Row{Row: filter.Row{Position: position, Revision: revision, X: x, Y: y, Altitude: math.NaN(), Time: int64(r.IntN(1000)) + 1, Name: name,
		Properties: []byte(properties)}, Feature: []byte(feature)}
}

// step makes an envelope of creations, and changes and deletes rows of before.
func (m *model) step(r *rand.Rand, created, changed int) (batch []Row) {
	m.sequence++
	for i := range changed {
		if len(m.order) == 0 {
			break
		}
		// Rather the newest: they are held.
		k := len(m.order) - 1 - int(float64(len(m.order))*math.Pow(r.Float64(), 3))
		p := m.order[max(k, 0)]
		if m.rows[p].Revision >= event.At(m.sequence, 0) {
			continue
		}
		next := row(r, p, event.At(m.sequence, i))
		if r.IntN(3) == 0 {
			next.Feature = nil
		}
		m.rows[p] = next
		batch = append(batch, next)
	}
	for i := range created {
		p := event.At(m.sequence, changed+i)
		m.rows[p] = row(r, p, p)
		m.order = append(m.order, p)
		batch = append(batch, m.rows[p])
	}
	return batch
}

// Within what is added at once, changes of what is held stand between creations.
func TestChangesBetweenCreations(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	rows := New(1 << 26) // all of it in one chunk
	rows.Add([]Row{row(r, event.At(1, 0), event.At(1, 0))}, 1)
	batch := []Row{row(r, event.At(2, 0), event.At(2, 0)), row(r, event.At(1, 0), event.At(2, 1)), row(r, event.At(2, 2), event.At(2, 2))}
	rows.Add(batch, 2)
	for _, want := range batch {
		got, ok := rows.At(want.Position)
		if !ok || !bytes.Equal(got.Feature, want.Feature) || got.Name != want.Name {
			t.Errorf("at %d: %s, %v, want %s", want.Position, got.Feature, ok, want.Feature)
		}
	}
}

func (m *model) walk(q *Query, from event.Position) (out []string) {
	for _, p := range slices.Backward(m.order) {
		if row := m.rows[p]; p >= from && p < q.Before && row.Feature != nil && filter.Match(q.Filter, &row.Row) {
			if out = append(out, string(row.Feature)); len(out) == q.Limit {
				break
			}
		}
	}
	return out
}

func randomQuery(r *rand.Rand, m *model) *Query {
	q := &Query{Before: math.MaxInt64, Limit: 1 + r.IntN(200)}
	var parts []filter.Expr
	if r.IntN(4) > 0 {
		width := []float64{0.1, 2, 20, 180, 360}[r.IntN(5)]
		x, y := r.Float64()*360-180, r.Float64()*180-90
		if r.IntN(2) == 0 {
			x, y = 2, 48
		}
		box := filter.Box{West: max(x-width/2, -180), South: max(y-width/2, -90), East: min(x+width/2, 180), North: min(y+width/2, 90)}
		if r.IntN(4) == 0 { // across the antimeridian
			box.West, box.East = box.East, box.West
		}
		parts = append(parts, box)
	}
	if r.IntN(3) == 0 && len(m.order) > 0 {
		q.Before = m.order[r.IntN(len(m.order))] + event.Position(r.IntN(3)) - 1
	}
	switch r.IntN(4) {
	case 0:
		name, _ := filter.TextValue(fmt.Sprintf("n%d", r.IntN(20)))
		parts = append(parts, filter.Compare{Field: filter.Name, Value: name}, filter.Compare{Field: filter.Property("name"), Value: name})
	case 1:
		from := int64(r.IntN(1000)) + 1
		parts = append(parts, filter.During(filter.Time, from, from+int64(r.IntN(300))))
	}
	q.Filter = filter.All(parts...)
	return q
}

// check compares what is held with the model, on the rows that a walk covers.
func check(t *testing.T, r *rand.Rand, rows *Rows, m *model) {
	t.Helper()
	q := randomQuery(r, m)
	var got []string
	from, at, ok := rows.Walk(t.Context(), m.sequence, q, func(row *Row) bool {
		got = append(got, string(row.Feature))
		return len(got) < q.Limit
	})
	if !ok || at != m.sequence {
		if n, _ := rows.Stat(); n > 0 {
			t.Fatalf("nothing at %d, but %d", m.sequence, at)
		}
		return
	}
	if want := m.walk(q, from); !slices.Equal(got, want) {
		t.Fatalf("%+v from %d: got %d %v, want %d %v", q, from, len(got), got, len(want), want)
	}
	if len(got) < q.Limit && from > rows.Low() && from > q.Before {
		t.Fatalf("%+v: %d of %d, and not further than %d", q, len(got), q.Limit, from)
	}
}

// Whatever is created, changed, deleted, dropped and filled in: what is held is
// what there is.
func TestRowsAreTheModels(t *testing.T) {
	for _, bound := range []int{3 << 20, 64 << 20} {
		t.Run(fmt.Sprintf("%d MiB", bound>>20), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			rows, m := New(bound), newModel()
			for range 150 {
				switch n := r.IntN(40); {
				case n == 0:
					rows.Reset(m.sequence)
				case n == 1 && len(m.order) > 0:
					k := r.IntN(len(m.order))
					for _, p := range m.order[:k] {
						delete(m.rows, p)
					}
					rows.Drop(m.order[k])
					m.order = m.order[k:]
				case n < 8 && rows.Room():
					rows.Fill(m.older(rows.Low(), 1+r.IntN(MaxFill)))
				default:
					batch := m.step(r, r.IntN(300), r.IntN(100))
					rows.Add(batch, m.sequence)
					if r.IntN(5) == 0 { // heard twice
						rows.Add(batch, m.sequence)
					}
				}
				if _, bytes := rows.Stat(); bytes > bound {
					t.Fatalf("%d bytes", bytes)
				}
				for range 10 {
					check(t, r, rows, m)
				}
			}
		})
	}
}

// older are up to n rows below a position, and how far down they go.
func (m *model) older(low event.Position, n int) (rows []Row, from event.Position) {
	end, _ := slices.BinarySearch(m.order, low)
	begin := max(end-n, 0)
	for _, p := range m.order[begin:end] {
		rows = append(rows, m.rows[p])
	}
	if begin > 0 {
		from = m.order[begin]
	}
	return rows, from
}

// The bound is on bytes, however rows are made up and whatever becomes of them.
func TestBoundIsHonoured(t *testing.T) {
	const bound = 8 << 20
	r := rand.New(rand.NewPCG(1, 1))
	rows, m := New(bound), newModel()
	for i := range 400 {
		batch := m.step(r, 100, 20)
		for k := range batch {
			if batch[k].Feature != nil && i%7 == 0 {
				batch[k].Feature = append(batch[k].Feature, bytes.Repeat([]byte("y"), 20_000)...)
			}
		}
		rows.Add(batch, m.sequence)
		n, size := rows.Stat()
		if held := rows.count(); size > bound || held > size+size/10 {
			t.Fatalf("%d rows, %d bytes counted, %d found", n, size, held)
		}
	}
	if rows.Low() < event.At(10, 0) {
		t.Error("nothing was dropped")
	}
	rows.Reset(m.sequence)
	rows.Add(nil, m.sequence+1)
	if n, size := rows.Stat(); n != 0 || size > 2<<20 {
		t.Errorf("after a reset: %d rows, %d bytes", n, size)
	}
}

// count recounts what is held, in bytes.
func (r *Rows) count() (n int) {
	for _, c := range r.chunks {
		n += cap(c.rows) * rowBytes
		for _, b := range c.blobs {
			n += cap(b)
		}
	}
	for _, l := range r.grid.lists {
		n += cap(l)*4 + listBytes
	}
	return n + len(r.grid.cells)*4
}

// Readers and the one who changes are not in each other's way.
func TestConcurrentWalks(t *testing.T) {
	rows, m := New(4<<20), newModel()
	r := rand.New(rand.NewPCG(2, 2))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for n := range 4 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 3))
			for {
				select {
				case <-done:
					return
				default:
				}
				q := randomQuery(r, &model{})
				last := event.Position(math.MaxInt64)
				rows.Walk(t.Context(), 0, q, func(row *Row) bool {
					if row.Position >= last || !bytes.Contains(row.Feature, fmt.Appendf(nil, `"p":%d,"r":%d,`, row.Position, row.Revision)) {
						t.Errorf("%d after %d: %s", row.Position, last, row.Feature)
					}
					last = row.Position
					return true
				})
			}
		})
	}
	for range 300 {
		rows.Add(m.step(r, 100, 50), m.sequence)
	}
	close(done)
	readers.Wait()
}

// Chunks that have none of the names, or none of the times, are passed over, whether few are
// left or many; and what is passed over has nothing of what is looked for.
func TestChunksArePassedOver(t *testing.T) {
	const batches, batchRows = 90, chunkRows / 4
	r := rand.New(rand.NewPCG(3, 3))
	rows, m := New(1<<30), newModel()
	for n := range batches {
		batch := m.step(r, batchRows, 0)
		for i := range batch {
			// Names of now and then, one that is rare, and times that rise.
			batch[i].Name, batch[i].Time = fmt.Sprintf("h%d", (batch[i].Position.Sequence()-1)/8%2), int64(n*batchRows+i)
			if n == 2 && i == batchRows/2 {
				batch[i].Name = "rare"
			}
			m.rows[batch[i].Position] = batch[i]
		}
		rows.Add(batch, m.sequence)
	}
	name := func(s string) filter.Expr {
		v, _ := filter.TextValue(s)
		return filter.Compare{Field: filter.Name, Value: v}
	}
	world, town := filter.Box{West: -180, South: -90, East: 180, North: 90}, filter.Box{West: 2, South: 48, East: 3, North: 49}
	for title, e := range map[string]filter.Expr{
		"a rare name":                filter.All(world, name("rare")),
		"a name of half the chunks":  filter.All(town, name("h1")),
		"a name that is not there":   filter.All(world, name("nobody")),
		"an old time":                filter.All(town, filter.During(filter.Time, 3_000, 3_100)),
		"a time of most":             filter.All(town, filter.During(filter.Time, 3_000, 80_000)),
		"a time before all":          filter.All(world, filter.During(filter.Time, -5, -1)),
		"a name in a time, anywhere": filter.All(name("h0"), filter.During(filter.Time, 21_000, 22_000)),
	} {
		t.Run(title, func(t *testing.T) {
			for _, before := range []event.Position{math.MaxInt64, m.order[len(m.order)/2]} {
				q := &Query{Filter: e, Before: before, Limit: 100_000}
				var got []string
				from, _, ok := rows.Walk(t.Context(), m.sequence, q, func(row *Row) bool {
					got = append(got, string(row.Feature))
					return true
				})
				if want := m.walk(q, from); !ok || !slices.Equal(got, want) {
					t.Errorf("before %d, from %d: got %d, want %d", before, from, len(got), len(want))
				}
				if from > rows.Low() {
					t.Errorf("before %d: it ends at %d, and the rows begin at %d", before, from, rows.Low())
				}
			}
		})
	}
}

// heavy rows have a quarter of a megabyte of properties, nearly.
func heavy(t *testing.T, n int) (rows *Rows, m *model) {
	t.Helper()
	properties := []byte(`{"p0": 0`)
	for i := 1; len(properties) < 240<<10; i++ {
		properties = fmt.Appendf(properties, `, "p%d": %d`, i, i)
	}
	properties = append(properties, '}')
	rows, m = New(1<<30), newModel()
	r := rand.New(rand.NewPCG(4, 4))
	batch := m.step(r, n, 0)
	for i := range batch {
		batch[i].Properties, batch[i].Feature = properties, append([]byte(`{"properties":`), properties...)
		m.rows[batch[i].Position] = batch[i]
	}
	rows.Add(batch, m.sequence)
	return rows, m
}

// heaviest is the heaviest filter of comparisons that there may be: none of them is true.
func heaviest(t *testing.T, prefix string, e filter.Expr) filter.Expr {
	t.Helper()
	any := filter.Or{e}
	for filter.Comparisons(any) < filter.MaxComparisons {
		v, err := filter.NumberValue("-1")
		if err != nil {
			t.Fatal(err)
		}
		any = append(any, filter.Compare{Field: filter.Property(fmt.Sprintf("%s%d", prefix, len(any))), Value: v})
	}
	return any
}

// However heavy a filter and the rows are, a walk ends at its bound: it looks at no row
// beyond, and whoever changes the rows waits no longer. The page continues where it ended.
func TestHeavyFilterEndsTheWalk(t *testing.T) {
	const held = 60
	rows, m := heavy(t, held)
	everywhere := filter.Box{West: -180, South: -90, East: 180, North: 90}
	for title, test := range map[string]struct {
		e     filter.Expr
		bound int
	}{
		"nothing passes":            {heaviest(t, "q", filter.Or{}), maxSpent},
		"nothing passes, in a box":  {filter.All(everywhere, heaviest(t, "q", filter.Or{})), maxSpent},
		"all pass":                  {heaviest(t, "q", filter.IsNull{Field: filter.Property("q")}), maxPassed},
		"all pass at the last":      {filter.Or{heaviest(t, "q", filter.Or{}), filter.IsNull{Field: filter.Property("q")}}, maxPassed},
		"all pass, one at a time":   {filter.Not{Expr: heaviest(t, "p", filter.Or{})}, maxPassed},
		"a property that is absent": {filter.Compare{Field: filter.Property("q"), Value: filter.BoolValue(true)}, maxSpent},
	} {
		t.Run(title, func(t *testing.T) {
			var one filter.Subject
			newest := m.rows[m.order[len(m.order)-1]]
			one.Set(&newest.Row)
			left := math.MaxInt
			one.Match(test.e, &left)
			row := math.MaxInt - left + one.Read()

			q := &Query{Filter: test.e, Before: math.MaxInt64, Limit: held}
			w := new(walk)
			var got []string
			w.prepare(rows, q, func(row *Row) bool {
				got = append(got, string(row.Feature))
				return true
			})
			from := w.run()
			looked := 0
			for _, p := range m.order {
				if p >= from {
					looked++
				}
			}
			if looked == 0 || looked == held || looked > test.bound/row+1 {
				t.Errorf("it looked at %d rows, each of which costs %d", looked, row)
			}
			if want := m.walk(q, from); !slices.Equal(got, want) {
				t.Errorf("it has %d rows, want %d", len(got), len(want))
			}
		})
	}
}

// A row about which nothing can be said within the bound is left to the database, and all
// below it.
func TestWalkEndsBeforeWhatItCannotSay(t *testing.T) {
	rows, m := New(1<<26), newModel()
	r := rand.New(rand.NewPCG(4, 4))
	batch := m.step(r, 9, 0)
	batch[4].Properties = []byte(`{"note": "` + strings.Repeat("a", 100_000) + `"}`)
	for i := range batch {
		m.rows[batch[i].Position] = batch[i]
	}
	rows.Add(batch, m.sequence)
	like, err := filter.NewLike(filter.Property("note"), "%"+strings.Repeat("a", 400)+"_b%")
	if err != nil {
		t.Fatal(err)
	}
	everywhere := filter.Box{West: -180, South: -90, East: 180, North: 90}
	for _, e := range []filter.Expr{like, filter.And{everywhere, filter.Or{like, everywhere}}} {
		q := &Query{Filter: e, Before: math.MaxInt64, Limit: 100}
		n := 0
		from, _, ok := rows.Walk(t.Context(), m.sequence, q, func(*Row) bool { n++; return true })
		if !ok || from != batch[4].Position+1 || n != len(m.walk(q, from)) {
			t.Errorf("%.30s…: it ends at %d with %d rows, and the row is at %d", filter.Canonical(e), from, n, batch[4].Position)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, ok := rows.Walk(ctx, m.sequence, &Query{Before: math.MaxInt64, Limit: 1}, func(*Row) bool { t.Error("it is walked"); return false }); ok {
		t.Error("somebody who has left has an answer")
	}
}
