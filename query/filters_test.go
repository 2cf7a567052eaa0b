package query

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/event"
	"cairn/query/filter"
)

// A modelPoint is a row as a plain program would keep it.
type modelPoint struct {
	id       string
	position event.Position
	x, y     float64
	at       int64 // observed, else received
	name     string
}

// passes says what the filter should; query/filter holds that against PostGIS.
func (p *modelPoint) passes(e filter.Expr) bool {
	return filter.Match(e, &filter.Row{X: p.x, Y: p.y, Altitude: math.NaN(), Time: p.at, Name: p.name, Position: p.position, Revision: p.position})
}

// randomQuery makes filters that hit some of randomPoint's points.
func randomQuery(r *rand.Rand) string {
	values := url.Values{}
	if r.IntN(2) == 0 {
		west, east, south := r.IntN(361)-180, r.IntN(361)-180, r.IntN(181)-90
		values.Set("bbox", fmt.Sprintf("%d,%d,%d,%d", west, south, east, south+r.IntN(91-south)))
	}
	hour := func() string { return modelEpoch.Add(time.Duration(r.IntN(100)) * time.Hour).Format(time.RFC3339) }
	switch from, to := hour(), hour(); r.IntN(8) {
	case 0:
		values.Set("datetime", from)
	case 1:
		values.Set("datetime", from+"/..")
	case 2:
		values.Set("datetime", "../"+to)
	case 3:
		values.Set("datetime", min(from, to)+"/"+max(from, to))
	}
	if r.IntN(3) == 0 {
		values.Set("name", modelNames[r.IntN(len(modelNames)-1)+1])
	}
	if r.IntN(2) == 0 {
		values.Set("limit", fmt.Sprint(1+r.IntN(300)))
	}
	return values.Encode()
}

var (
	modelEpoch = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	modelNames = []string{"", "a", "A", "東京", "O'Hare \"x\" & y", strings.Repeat("é", event.MaxNameRunes)}
)

const insertModel = `insert into points (id, external_id, position, name, geom, observed_at, received_at)
	values ($1, $2, $3, nullif($4, ''), ST_SetSRID(ST_MakePoint($5, $6), 4326), $7, $8)`

// randomPoint returns a point, and what insertModel takes for it.
func randomPoint(r *rand.Rand, position event.Position) (modelPoint, []any) {
	p := modelPoint{id: fmt.Sprintf("m%d", position), position: position, x: float64(r.IntN(361) - 180), y: float64(r.IntN(181) - 90),
		name: modelNames[r.IntN(len(modelNames))]}
	received := modelEpoch.Add(time.Duration(r.IntN(100)) * time.Hour)
	observed, known := received, any(nil)
	if r.IntN(2) == 0 {
		observed = modelEpoch.Add(time.Duration(r.IntN(100)) * time.Hour)
		known = observed
	}
	p.at = observed.UnixMicro() - postgresEpoch
	return p, []any{event.Key(p.id), p.id, int64(position), p.name, p.x, p.y, known, received}
}

// Every way to a page gives what a plain loop over all points gives.
func TestFiltersAgainstAModel(t *testing.T) {
	f := newFixture(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var model []modelPoint
	for i := range 3000 {
		p, args := randomPoint(r, event.At(1, i))
		model = append(model, p)
		f.exec(insertModel, args...)
	}
	f.exec("update checkpoint set sequence = 1")
	f.exec("analyze points")
	for range 100 {
		query := randomQuery(r)
		l, err := parseItems(query, pointsParameters)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		var want []string
		for i := len(model) - 1; i >= 0; i-- {
			if model[i].passes(l.Filter) {
				want = append(want, model[i].id)
			}
		}
		if got, _ := f.all("/points?" + query); !slices.Equal(got, want) {
			t.Errorf("%s: %d points, want %d", query, len(got), len(want))
		}
		f.streamsTo(query, l.Filter, want)
	}
}

// streamsTo checks that a stream with the filter gives the same points, whether
// the database picks them or the tail does.
func (f *fixture) streamsTo(query string, only filter.Expr, want []string) {
	f.t.Helper()
	picked, passed := f.events(only), []*change(nil)
	for _, c := range f.events(nil) {
		if filter.Match(only, &c.Row.Row) {
			passed = append(passed, c)
		}
	}
	for _, changes := range [][]*change{picked, passed} {
		same := len(changes) == len(want)
		for i, c := range changes {
			same = same && strings.Contains(string(c.wire), `"`+want[len(want)-1-i]+`"`)
		}
		if !same {
			f.t.Errorf("%s: %d events, want %d", query, len(changes), len(want))
		}
	}
}

func (f *fixture) events(only filter.Expr) (changes []*change) {
	f.t.Helper()
	for b := (batch{more: true}); b.more; {
		var err error
		if b, err = f.changes(b.upTo, newest, only); err != nil {
			f.t.Fatal(err)
		}
		changes = append(changes, b.changes...)
	}
	return changes
}
