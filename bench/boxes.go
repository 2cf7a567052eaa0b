package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cairn/schema"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// boxConnections ask at once.
	boxConnections = 16
	boxLimit       = 100
	// aloneRequests are asked one after the other for a p99: at first, when connections
	// plan statements that they have not seen, and again when they have.
	aloneRequests = 400
	// slow is what a request alone should take at most; those above are printed.
	slow = 50 * time.Millisecond
	// wideBox is the width of the box in which a rare name is asked for, and
	// seaBox that of one without a point.
	wideBox, seaBox = 60, 2
)

// widths are of boxes near towns, in degrees.
var widths = []float64{0.2, 2, 20}

// boxScript makes wrk ask for a box near a town, another one each time. It draws
// its places as near does.
const boxScript = `
math.randomseed(%d)
local towns = {%s}
local half, spread = %g, %g
local function gauss()
  return math.sqrt(-2 * math.log(1 - math.random())) * math.cos(2 * math.pi * math.random())
end
request = function()
  local t = towns[math.random(#towns)]
  local y = t[2] + gauss() * spread
  local x = t[1] + gauss() * spread / math.cos(math.rad(t[2]))
  return wrk.format("GET", string.format("/points?limit=%d&bbox=%%.6f,%%.6f,%%.6f,%%.6f",
    math.max(x - half, -180), math.max(y - half, -90), math.min(x + half, 180), math.min(y + half, 90)))
end
`

// A box is west, south, east, north.
type box [4]float64

// around is the box of a width with a centre, cut off where the world ends.
func around(longitude, latitude, width float64) box {
	half := width / 2
	return box{max(longitude-half, -180), max(latitude-half, -90), min(longitude+half, 180), min(latitude+half, 90)}
}

func nearTown(rng *rand.Rand, width float64) box {
	longitude, latitude := anyTown(rng).near(rng)
	return around(longitude, latitude, width)
}

// atSea is a box in the South Pacific, where no town is.
func atSea(rng *rand.Rand) box {
	return around(-140+rng.Float64()*50, -50+rng.Float64()*20, seaBox)
}

func (b box) String() string { return fmt.Sprintf("%.6f,%.6f,%.6f,%.6f", b[0], b[1], b[2], b[3]) }

// boxes compares distinct boxes through Cairn, newest first, with the bare
// statement in no order on one table of the same points.
func (g *growth) boxes(ctx context.Context) error {
	if err := g.sys.makeTable(ctx, "bare", []string{"create index on bare using gist (geom)"}); err != nil {
		return err
	}
	pool, err := openBare(ctx, g.sys.cluster.URL())
	if err != nil {
		return err
	}
	defer pool.Close()
	for _, width := range widths {
		var pairs []pair
		for range g.s.rounds {
			ours, err := g.askBoxes(ctx, width)
			if err != nil {
				return err
			}
			bare, err := askBare(ctx, pool, g.rng.Uint64(), width, g.s.read)
			if err != nil {
				return err
			}
			pairs = append(pairs, pair{ours, bare})
		}
		report(g.title(fmt.Sprintf("boxes %g° wide, newest %d ÷ bare statement", width, boxLimit)), "requests/s", pairs)
	}
	return g.sys.withConn(ctx, dropTable("bare"))
}

// askBoxes returns requests/s.
func (g *growth) askBoxes(ctx context.Context, width float64) (float64, error) {
	var list strings.Builder
	for _, t := range towns {
		fmt.Fprintf(&list, "{%g,%g},", t.longitude, t.latitude)
	}
	script := filepath.Join(g.sys.dir, "boxes.lua")
	text := fmt.Sprintf(boxScript, g.rng.IntN(math.MaxInt32), list.String(), width/2, spreadKm/kmPerDegree, boxLimit)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return 0, err
	}
	return wrkRate(ctx, boxConnections, g.s.read, g.sys.query, "-s", script)
}

func openBare(ctx context.Context, database string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = boxConnections
	return pgxpool.NewWithConfig(ctx, cfg)
}

// askBare returns statements/s over as many connections, prepared as pgx does
// on its own, their rows received and dropped.
func askBare(ctx context.Context, pool *pgxpool.Pool, seed uint64, width float64, d time.Duration) (float64, error) {
	sql := fmt.Sprintf("select %s from bare where geom && ST_MakeEnvelope($1, $2, $3, $4, 4326) limit %d", schema.List("", schema.Columns), boxLimit)
	var asked atomic.Int64
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	start := time.Now()
	for i := range boxConnections {
		rng := rand.New(rand.NewPCG(seed, uint64(i))) //nolint:gosec // small
		group.Go(func() {
			for time.Since(start) < d {
				b := nearTown(rng, width)
				rows, err := pool.Query(ctx, sql, b[0], b[1], b[2], b[3])
				if err == nil {
					for rows.Next() {
						_ = rows.RawValues()
					}
					err = rows.Err()
				}
				if err != nil {
					failed.Store(&err)
					return
				}
				asked.Add(1)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(asked.Load()) / time.Since(start).Seconds(), nil
}

// alone asks each kind of request, one request after the other, first of a system that
// has not been asked any of that kind.
func (g *growth) alone(ctx context.Context) error {
	kinds := []struct {
		name string
		next func() url.Values
	}{
		{"a box of 0.2°", func() url.Values { return url.Values{"bbox": {nearTown(g.rng, 0.2).String()}} }},
		{"a box of 2°", func() url.Values { return url.Values{"bbox": {nearTown(g.rng, 2).String()}} }},
		{"a box of 20°", func() url.Values { return url.Values{"bbox": {nearTown(g.rng, 20).String()}} }},
		{"a month in a box of 2°", func() url.Values {
			return url.Values{"bbox": {nearTown(g.rng, 2).String()}, "datetime": {g.month()}}
		}},
		{"a rare name in a box of 60°", func() url.Values {
			return url.Values{"bbox": {nearTown(g.rng, wideBox).String()}, "name": {rareName(g.rng.IntN(rareNames))}}
		}},
		{"a box without a point", func() url.Values { return url.Values{"bbox": {atSea(g.rng).String()}} }},
	}
	for _, k := range kinds {
		for _, when := range []string{"at first", "then"} {
			hist := hdrhistogram.New(1, 60_000_000, 3)
			for range aloneRequests {
				values := k.next()
				values.Set("limit", fmt.Sprint(boxLimit))
				request := "/points?" + values.Encode()
				start := time.Now()
				if err := fetch(ctx, http.DefaultClient, g.sys.query+request); err != nil {
					return err
				}
				took := time.Since(start)
				_ = hist.RecordValue(max(took.Microseconds(), 1))
				if took > slow {
					fmt.Printf("  %v: %s\n", took.Round(time.Millisecond), request)
				}
			}
			g.note("p99 of "+k.name+", alone, "+when, float64(hist.ValueAtQuantile(99))/1000, "ms")
		}
	}
	return nil
}

// month is 30 days in the time that the rows span.
func (g *growth) month() string {
	const span = 30 * 24 * time.Hour
	from := firstTime
	if room := rowTime(g.w.n).Sub(firstTime) - span; room > 0 {
		from = from.Add(time.Duration(g.rng.Int64N(int64(room))))
	}
	return from.Format(time.RFC3339) + "/" + from.Add(span).Format(time.RFC3339)
}
