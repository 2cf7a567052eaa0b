package query

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"slices"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"cairn/query/filter"
)

// sampleRow is a row as Postgres sends it.
func sampleRow(position uint64) row {
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	return row{
		colSequence:   number(1),
		colID:         []byte("0123456789abcdef"),
		colPosition:   number(position),
		colLongitude:  number(math.Float64bits(13.412345)),
		colLatitude:   number(math.Float64bits(52.55889892578125)),
		colAltitude:   number(math.Float64bits(34.5)),
		colObserved:   number(800_000_000_000_000),
		colReceived:   number(800_000_000_123_456),
		colProperties: []byte("\x01" + `{"name": "Berlin", "country": "DE", "modified": "2024-01-02", "geonameid": 2950159, "population": 3426354}`),
		colMembers:    nil,
		colRevision:   nil,
	}
}

func BenchmarkEncode(b *testing.B) {
	r := sampleRow(12345678)
	buf := make([]byte, 0, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		out, err := appendFeature(buf, r)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(out)))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkPage(b *testing.B) {
	f := newFixture(b)
	f.exec(`insert into points (id, position, name, geom, received_at, properties)
		select gen_random_uuid(), 4096 + i, 'Point ' || i, ST_SetSRID(ST_MakePoint(i % 100, i % 90), 4326), now(),
			jsonb_build_object('name', 'Point ' || i, 'country', 'DE', 'population', i)
		from generate_series(1, 20000) i`)
	for name, path := range map[string]string{
		"newest-1000": "/points", "newest-100": "/points?limit=100", "box-1000": "/points?bbox=10,10,60,60", "one": "/points/nothing",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := f.get(path); r.status != http.StatusOK && r.status != http.StatusNotFound {
					b.Fatal(r.status)
				}
			}
		})
	}
}

// BenchmarkKept is the handler alone, for what most requests come to.
func BenchmarkKept(b *testing.B) {
	f := newFixture(b)
	f.put(1, grid(200, 1)...)
	f.pageAt("/points?limit=100")
	ctx := &fasthttp.RequestCtx{}
	ctx.Request.SetRequestURI("/points?limit=100")
	app := fiber.New()
	c := app.AcquireCtx(ctx)
	defer app.ReleaseCtx(c)
	b.ReportAllocs()
	for b.Loop() {
		f.tracker.Read(f.tracker.Begin(), 1)
		if err := f.getPoints(c); err != nil || len(ctx.Response.Body()) < 10_000 {
			b.Fatal(err, len(ctx.Response.Body()))
		}
		ctx.Response.Reset()
	}
}

// What all streams wait for: a batch is handed to some with heavy filters.
func BenchmarkDeliver(b *testing.B) {
	f := newFixture(b)
	small := make([]string, batchRows)
	for i := range small {
		small[i] = fmt.Sprintf(`{"name": "Berlin", "country": "DE", "modified": "2024-01-02", "geonameid": 2950159, "population": %d}`, i)
	}
	large := []byte(`{"p0": 0`)
	for i := 1; len(large) < 240<<10; i++ {
		large = fmt.Appendf(large, `, "p%d": %d`, i, i)
	}
	large = append(large, '}')
	for title, properties := range map[string][]string{"small": small, "large": {string(large)}} {
		for _, streams := range []int{1, 20, 200} {
			for _, comparisons := range []int{1, 100} {
				b.Run(fmt.Sprintf("%s/streams=%d/comparisons=%d", title, streams, comparisons), func(b *testing.B) {
					tail := newTail(f.tracker, nil, nil, nil, newStreamMetrics(prometheus.NewRegistry()))
					cut := 0
					for i := range streams {
						var e filter.Or
						for k := range (comparisons + 1) / 2 {
							name := fmt.Sprintf("properties.q%d.%d", i, k)
							value := "1"
							if comparisons == 1 {
								name, value = "properties.population", "x"
							}
							p, _, err := filter.ParseParameter(name, value)
							if err != nil {
								b.Fatal(err)
							}
							e = append(e, p.Expr)
						}
						tail.readerOf(e, func() { cut++ })
					}
					all := slices.Clone(tail.readers)
					for b.Loop() {
						b.StopTimer()
						batch := createdWith(properties...)
						for _, r := range all {
							r.at = 0
						}
						b.StartTimer()
						tail.deliver(batch, 0, 0)
					}
					b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(properties)), "µs/point")
					b.ReportMetric(float64(cut), "cut")
				})
			}
		}
	}
}
