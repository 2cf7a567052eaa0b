package recent

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"cairn/event"
	"cairn/query/filter"
)

const benchRows = 1_000_000

// towns are where the benchmarks' points are: a few are large.
var benchmark = sync.OnceValues(func() (*Rows, [][2]float64) {
	r := rand.New(rand.NewPCG(7, 7))
	towns := make([][2]float64, 2_000)
	for i := range towns {
		towns[i] = [2]float64{r.Float64()*340 - 170, r.Float64()*140 - 60}
	}
	rows := New(1 << 30)
	text := bytes.Repeat([]byte("x"), 220)
	for n := range uint64(benchRows / 1000) {
		batch := make([]Row, 1000)
		for i := range batch {
			p := event.At(n+1, i)
			town := towns[int(float64(len(towns))*math.Pow(r.Float64(), 3))]
			batch[i] = Row{Row: filter.Row{Position: p, Revision: p, X: town[0] + r.NormFloat64()/5, Y: town[1] + r.NormFloat64()/5, Time: int64(n),
				Name: "xxxxxxxx", Properties: text[:100]}, Feature: text}
		}
		rows.Add(batch, n+1)
	}
	return rows, towns
})

// Pages of 100 in boxes around the towns, by the boxes' width.
func BenchmarkBox(b *testing.B) {
	rows, towns := benchmark()
	page := make([]byte, 0, 1<<20)
	for _, width := range []float64{0.2, 2, 20, 120} {
		b.Run(fmt.Sprintf("%v°", width), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			found := 0
			for b.Loop() {
				t := towns[r.IntN(len(towns))]
				q := Query{Filter: filter.Box{West: max(t[0]-width/2, -180), South: max(t[1]-width/2, -90), East: min(t[0]+width/2, 180), North: min(t[1]+width/2, 90)}, Before: math.MaxInt64, Limit: 101}
				n := 0
				page = page[:0]
				rows.Walk(b.Context(), 0, &q, func(row *Row) bool {
					page = append(page, row.Feature...)
					n++
					return n < q.Limit
				})
				found += n
			}
			b.ReportMetric(float64(found)/float64(b.N), "rows/op")
		})
	}
}

// What it costs to keep up, a row.
func BenchmarkAdd(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	rows, m := New(64<<20), newModel()
	b.ReportAllocs()
	for n := 0; n < b.N; n += 1000 {
		b.StopTimer()
		batch := m.step(r, 1000, 0)
		b.StartTimer()
		rows.Add(batch, m.sequence)
	}
}

// Pages of 100 of what has a property, of rows as people have them: of a tenth of all, and
// of none, which costs what a walk may spend.
func BenchmarkProperty(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 5))
	rows := New(1 << 28)
	for n := range uint64(100) {
		batch := make([]Row, 1000)
		for i := range batch {
			p := event.At(n+1, i)
			text := fmt.Sprintf(`{"name": "Berlin", "country": "C%d", "modified": "2024-01-02", "geonameid": 2950159, "population": %d}`, r.IntN(10), r.IntN(1e7))
			batch[i] = Row{Row: filter.Row{Position: p, Revision: p, X: r.Float64()*340 - 170, Y: r.Float64()*140 - 60, Time: int64(n), Properties: []byte(text)},
				Feature: []byte(`{"type":"Feature","properties":` + text + `}`)}
		}
		rows.Add(batch, n+1)
	}
	for _, country := range []string{"C1", "none"} {
		b.Run(country, func(b *testing.B) {
			value, _ := filter.TextValue(country)
			q := Query{Filter: filter.Compare{Field: filter.Property("country"), Value: value}, Before: math.MaxInt64, Limit: 101}
			b.ReportAllocs()
			var reached event.Position
			for b.Loop() {
				n := 0
				reached, _, _ = rows.Walk(b.Context(), 0, &q, func(*Row) bool {
					n++
					return n < q.Limit
				})
			}
			b.ReportMetric(float64(event.At(101, 0)-reached)/float64(1<<12)*1000, "looked/op")
		})
	}
}
