package projector

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/fence"
	"cairn/internal/testkit"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/paulmach/orb"
)

// apply asks the projector for a change, as ingest does.
func (b *bench) keep(kind, id, body string) bus.ResourceResult {
	b.t.Helper()
	k := bus.ResourceChange{Kind: kind, ID: id}
	if body != "" {
		k.Body = []byte(body)
	}
	result, err := bus.RequestChange(b.t.Context(), b.ask(), k)
	if err != nil {
		b.t.Fatalf("%s %s: %v", kind, id, err)
	}
	return result
}

func (b *bench) ask() *nats.Conn {
	b.t.Helper()
	nc, err := bus.Connect(b.bus.Endpoint(bus.UserIngest), testkit.Log(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	return nc
}

// at is an event of a point of a name, at a longitude on the equator.
func at(id, kind, name string, longitude float64, seconds int) string {
	e := event.Event{ID: event.Key(id), Type: kind, Received: time.Now().UTC().Truncate(time.Microsecond)}
	if kind != event.Deleted {
		e.Point = event.Point{ExternalID: []byte(`"` + id + `"`), Position: orb.Point{longitude, 0}, Altitude: math.NaN(), Properties: fmt.Appendf(nil, `{"name":%q,"n":%d}`, name, seconds)}
		e.Point.Time = time.Date(2026, 1, 1, 0, 0, seconds, 0, time.UTC)
	}
	return strings.TrimSuffix(string(event.AppendEvent(nil, &e)), "\n")
}

// crossings are what was told after a position: "bus enters home at a".
func (b *bench) crossings(after event.Position) (out []string) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), `select format('%s %s %s %s', name, case when entered then 'enters' else 'leaves' end, fence, coalesce(point, '-'))
		from fence_events where position > $1 order by position, n`, int64(after))
	if err == nil {
		out, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func TestCrossingsStepByStep(t *testing.T) {
	b := newBench(t)
	b.start()
	for id, body := range map[string]string{
		"home":  `{"longitude":0,"latitude":0,"radius":1000}`,
		"work":  `{"geometry":{"type":"Polygon","coordinates":[[[10,-1],[11,-1],[11,1],[10,1],[10,-1]]]}}`,
		"trams": `{"longitude":0,"latitude":0,"radius":1000,"names":["tram*"]}`,
	} {
		if k := b.keep(bus.KindFence, id, body); k.Outcome != bus.OutcomeCreated {
			t.Fatalf("%s: %+v", id, k)
		}
	}
	var last event.Position
	for _, step := range []struct {
		what   string
		events []string
		want   []string
	}{
		{"the first point, outside", []string{at("a", event.Created, "bus", 5, 10)}, nil},
		{"it enters", []string{at("b", event.Created, "bus", 0, 20)}, []string{`bus enters home "b"`}},
		{"it stays", []string{at("c", event.Created, "bus", 0.001, 30)}, nil},
		{"a late point from elsewhere", []string{at("d", event.Created, "bus", 10.5, 15)}, nil},
		{"the same again", []string{at("c", event.Created, "bus", 0.001, 30)}, nil},
		{"it goes from one to the other", []string{at("e", event.Created, "bus", 10.5, 40)}, []string{`bus leaves home "e"`, `bus enters work "e"`}},
		{"through both within a batch", []string{at("f", event.Created, "bus", 5, 50), at("g", event.Created, "bus", 0, 51), at("h", event.Created, "bus", 3, 52), at("i", event.Created, "bus", 10.2, 53)},
			[]string{`bus leaves work "f"`, `bus enters home "g"`, `bus leaves home "h"`, `bus enters work "i"`}},
		{"the newest is deleted", []string{at("i", event.Deleted, "", 0, 0)}, []string{`bus leaves work "h"`}},
		{"one that is not the newest is deleted", []string{at("g", event.Deleted, "", 0, 0)}, nil},
		{"the newest is put elsewhere", []string{at("h", event.Put, "bus", 0, 52)}, []string{`bus enters home "h"`}},
		{"and put there and away within a batch", []string{at("h", event.Put, "bus", 7, 53), at("h", event.Put, "bus", 0, 54), at("h", event.Put, "bus", 8, 55)},
			[]string{`bus leaves home "h"`, `bus enters home "h"`, `bus leaves home "h"`}},
		{"it becomes older than another", []string{at("h", event.Put, "bus", 8, 1)}, nil}, // f is the newest then, and outside
		{"the first point of a name, inside", []string{at("t", event.Created, "tram 4", 0, 1)}, []string{`tram 4 enters home "t"`, `tram 4 enters trams "t"`}},
		{"it is called something else", []string{at("t", event.Put, "van", 0, 2)}, []string{`van enters home "t"`, `tram 4 leaves home -`, `tram 4 leaves trams -`}},
		{"a name's last point is deleted", []string{at("t", event.Deleted, "", 0, 0)}, []string{`van leaves home -`}},
		{"a point without a name", []string{at("n", event.Created, "", 0, 1)}, nil},
	} {
		at := b.publish(step.events...)
		b.waitFor(at)
		if got := b.crossings(last); !slices.Equal(got, step.want) {
			t.Errorf("%s: %q, want %q", step.what, got, step.want)
		}
		last = at | event.MaxIndex
	}
	for _, step := range []struct{ what, kind, id, body string }{
		{"a fence around the bus", bus.KindFence, "new", `{"longitude":5,"latitude":0,"radius":5000}`},
		{"a fence that goes elsewhere", bus.KindFence, "new", `{"longitude":6,"latitude":0,"radius":5000}`},
		{"one that is deleted", bus.KindFence, "home", ""},
	} {
		b.keep(step.kind, step.id, step.body)
		if got := b.crossings(last); len(got) != 0 {
			t.Errorf("%s: %q", step.what, got)
		}
	}
	b.waitFor(b.publish(at("z", event.Created, "bus", 6, 100)))
	if got := b.crossings(last); !slices.Equal(got, []string{`bus enters new "z"`}) {
		t.Errorf("after the fences changed: %q", got)
	}
}

func TestKeepRefuses(t *testing.T) {
	b := newBench(t)
	b.start()
	for _, c := range []struct {
		what, kind, id, body string
		status               int
		detail               string
	}{
		{"what is no fence", bus.KindFence, "home", `{"radius":-1}`, http.StatusBadRequest, "metres"},
		{"an id that is none", bus.KindFence, "a/b", `{"longitude":0,"latitude":0,"radius":5}`, http.StatusBadRequest, "letters"},
		{"one that is not there is deleted", bus.KindFence, "home", "", http.StatusNotFound, "no fence"},
		{"what a later version keeps", "moon", "home", `{}`, http.StatusNotImplemented, "upgrade"},
	} {
		k := b.keep(c.kind, c.id, c.body)
		if k.Refusal == nil || k.Refusal.Status != c.status || !strings.Contains(k.Refusal.Detail, c.detail) {
			t.Errorf("%s: %+v", c.what, k.Refusal)
		}
	}
	if n := b.count(`select fences from checkpoint`); n != 0 {
		t.Errorf("what was refused was noted: %d", n)
	}
	if _, err := b.pool.Exec(t.Context(), `insert into fences (id, revision, vertices, definition) select 'f' || i, 1, 1, '{"longitude":0,"latitude":0,"radius":5}' from generate_series(1, $1::int) i`, fence.MaxFences); err != nil {
		t.Fatal(err)
	}
	if k := b.keep(bus.KindFence, "more", `{"longitude":0,"latitude":0,"radius":5}`); k.Refusal == nil || k.Refusal.Status != http.StatusConflict {
		t.Errorf("one more than there can be: %+v", k)
	}
	if k := b.keep(bus.KindFence, "f7", `{"longitude":1,"latitude":0,"radius":5}`); k.Outcome != bus.OutcomeReplaced {
		t.Errorf("one of them again: %+v", k)
	}
}

// A crossingModel says which fences are crossed, "home" and "work", by events that come
// one after the other.
type crossingModel struct {
	newest map[string]placeAt // by name
	want   []string
}

// A placeAt is a longitude on the equator, and when.
type placeAt struct {
	seconds int
	x       float64
}

func (p placeAt) inside(fence string) bool {
	if fence == "home" {
		return p.x > -0.89 && p.x < 0.89
	}
	return p.x > 0.31 && p.x < 5.69
}

func (m *crossingModel) move(name, id string, to placeAt) {
	from, there := m.newest[name]
	if there && from.seconds > to.seconds {
		return
	}
	m.newest[name] = to
	for _, f := range []string{"home", "work"} {
		if there && from.inside(f) && !to.inside(f) {
			m.want = append(m.want, fmt.Sprintf("%s leaves %s %q", name, f, id))
		}
	}
	for _, f := range []string{"home", "work"} {
		if to.inside(f) && !(there && from.inside(f)) {
			m.want = append(m.want, fmt.Sprintf("%s enters %s %q", name, f, id))
		}
	}
}

// What is told does not depend on how the batches fell, on the projector's ends, or on
// rebuilds: a model that looks at one event after the other says the same.
func TestCrossingsAreThoseOfAModel(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.keep(bus.KindFence, "home", `{"longitude":0,"latitude":0,"radius":100000}`)
	b.keep(bus.KindFence, "work", `{"longitude":3,"latitude":0,"radius":300000}`)
	r := rand.New(rand.NewPCG(1, 2))
	m := crossingModel{newest: map[string]placeAt{}}
	var last event.Position
	n := 0
	for round := range 9 {
		for range 6 {
			var lines []string
			for range 1 + r.IntN(40) {
				name, to := fmt.Sprint("bus ", r.IntN(5)), placeAt{r.IntN(300) + 10*n, float64(r.IntN(14) - 4)}
				id := fmt.Sprint("p", n)
				n++
				lines = append(lines, at(id, event.Created, name, to.x, to.seconds))
				m.move(name, id, to)
			}
			last = b.publish(lines...)
		}
		switch round % 3 {
		case 1:
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			stop = b.start()
		case 2:
			b.waitFor(last)
			if _, err := b.rebuild(); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, patience, "the table latest to be complete", func() bool {
				return b.count(`select count(*) from segments where state in ('head', 'sealed') and not latest_done`) == 0
			})
		}
	}
	b.waitFor(last)
	if got := b.crossings(0); !slices.Equal(got, m.want) {
		for i := range max(len(got), len(m.want)) {
			if i >= len(got) || i >= len(m.want) || got[i] != m.want[i] {
				t.Fatalf("%d told, want %d; from the %dth on: %q, want %q", len(got), len(m.want), i, got[min(i, len(got)):min(i+3, len(got))], m.want[min(i, len(m.want)):min(i+3, len(m.want))])
			}
		}
	}
	if len(m.want) < 100 {
		t.Errorf("only %d crossings: the test looks at nothing", len(m.want))
	}
}

// In a bulk load the table latest is behind, and what is told is not.
func TestCrossingsInABulkLoad(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.keep(bus.KindFence, "home", `{"longitude":0,"latitude":0,"radius":1000}`)
	b.waitFor(b.publish(at("first", event.Created, "bus", 0, 0)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	const rows, per = 4 * maxBatchRows, 500
	var want []string
	var last event.Position
	for from := 0; from < rows; from += per {
		lines := make([]string, 0, per)
		for i := from; i < from+per; i++ {
			x := float64(1 - i/1000%2)
			lines = append(lines, at(fmt.Sprint("p", i), event.Created, "bus", x, i+1))
			if i%1000 == 0 {
				want = append(want, fmt.Sprintf("bus %s home \"p%d\"", map[float64]string{0: "enters", 1: "leaves"}[x], i))
			}
		}
		last = b.publish(lines...)
	}
	b.start()
	b.waitFor(last)
	if got := b.crossings(0); !slices.Equal(got[1:], want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}
