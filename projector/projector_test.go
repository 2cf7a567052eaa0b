package projector

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"

	"github.com/jackc/pgx/v5"
	"github.com/paulmach/orb"
)

func TestEventsBecomeRows(t *testing.T) {
	b := newBench(t)
	b.start()
	e := event.Event{ID: event.Key("42"), Type: event.Created, Received: time.Date(2026, 11, 21, 1, 2, 3, 456789000, time.UTC),
		Point: event.Point{ExternalID: []byte("42"), Position: orb.Point{-180, 52.55889892578125}, Altitude: -3.5,
			Properties: []byte(`{"name":"Мирный 平和 \"q\"","n":123456789012345678901234567890,"f":1.10}`),
			Time:       time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC), Members: []byte(`{"links":[]}`)}}
	p := b.publish(strings.TrimSuffix(string(event.AppendEvent(nil, &e)), "\n"))
	b.waitFor(p)
	var got string
	err := b.pool.QueryRow(t.Context(), `select concat_ws('|', id, external_id, external_id_number, position, name, st_asewkt(geom), altitude,
		observed_at at time zone 'utc', received_at at time zone 'utc', properties, members) from points`).Scan(&got)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`%s|42|t|%d|Мирный 平和 "q"|SRID=4326;POINT(-180 52.55889892578125)|-3.5|1999-12-31 23:59:59|2026-11-21 01:02:03.456789|`+
		`{"f": 1.10, "n": 123456789012345678901234567890, "name": "Мирный 平和 \"q\""}|{"links": []}`, event.Key("42"), p)
	if got != want {
		t.Errorf("row\n got %s\nwant %s", got, want)
	}
}

func TestNullsStayNull(t *testing.T) {
	b := newBench(t)
	b.start()
	e := event.Event{ID: event.NewKey(), Type: event.Created, Received: time.Now().UTC(), Point: event.Point{Altitude: math.NaN()}}
	e.Point.ExternalID = []byte(`"` + e.ID.String() + `"`) // the key's own text needs no column
	b.waitFor(b.publish(strings.TrimSuffix(string(event.AppendEvent(nil, &e)), "\n")))
	if n := b.count(`select num_nonnulls(external_id, external_id_number, name, altitude, observed_at, properties, members) from points`); n != 0 {
		t.Errorf("%d columns are not null", n)
	}
}

func TestRetriesAddNothingAndConflictsAreParked(t *testing.T) {
	b := newBench(t)
	b.start()
	b.waitFor(b.publish(line("a", `{"v":1}`), line("b", `{"v":1}`)))
	// The same again, beside something new; twice in one envelope too.
	b.waitFor(b.publish(line("a", `{ "v":1}`), line("c", `{}`), line("c", `{}`), line("b", `{"v":1}`)))
	if n := b.count("select count(*) from parked"); n != 0 {
		t.Errorf("%d retries were parked", n)
	}
	p := b.publish(line("a", `{"v":2}`), line("d", `{}`), line("d", `{"v":3}`))
	b.waitFor(p)
	if n := b.count("select count(*) from points"); n != 4 {
		t.Errorf("%d points, want a, b, c, d", n)
	}
	rows, err := b.pool.Query(t.Context(), "select position, reason from parked order by position")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (s string, err error) {
		var position event.Position
		var reason string
		err = r.Scan((*int64)(&position), &reason)
		return fmt.Sprintf("%d %s", position-p, reason), err
	})
	if want := "[0 conflict 2 conflict]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("parked %v, %v; want %s", got, err, want)
	}
	if n := b.count("select count(*) from points where properties = '{\"v\":1}' and external_id = 'a'"); n != 1 {
		t.Error("the conflict changed the point")
	}
}

func TestABadEventStopsNobody(t *testing.T) {
	b := newBench(t)
	b.start()
	lines := []string{}
	for i := range 300 {
		lines = append(lines, line(fmt.Sprint(i), `{}`))
	}
	lines[7] = line("7", `{"nul":"\u0000"}`) // jsonb refuses it
	lines[8] = line("8", `{"big":1e999999}`) // numeric refuses it
	lines[100] = `{"id":"no"`                // not JSON
	lines[200] = strings.Replace(lines[200], `"type":"created",`, "", 1)
	p := b.publish(lines...)
	b.waitFor(p)
	if n := b.count("select count(*) from points"); n != 296 {
		t.Errorf("%d points, want the 296 good ones", n)
	}
	if n := b.count("select count(*) from parked where reason = 'refused' and detail like '%SQLSTATE 22%'"); n != 2 {
		t.Errorf("%d refused, want 2", n)
	}
	if n := b.count("select count(*) from parked where reason = 'unreadable'"); n != 2 {
		t.Errorf("%d unreadable, want 2", n)
	}
	var event string
	if err := b.pool.QueryRow(t.Context(), "select convert_from(event, 'utf8') from parked where position = $1", int64(p)+7).Scan(&event); err != nil || event != lines[7] {
		t.Errorf("the parked event is %q, %v", event, err)
	}
	b.waitFor(b.publish(line("after", `{}`)))
}

func TestAnnounces(t *testing.T) {
	b := newBench(t)
	heard := make(chan bus.Applied, 1000)
	nc := b.dial(bus.UserQuery).Conn()
	if err := bus.OnApplied(nc, func(a bus.Applied) { heard <- a }); err != nil {
		t.Fatal(err)
	}
	b.start()
	p := b.publish(line("a", `{}`), line("a", `{"v":1}`))
	deadline := time.After(patience)
	for outcomes, catalogue := false, false; !outcomes || !catalogue; {
		select {
		case a := <-heard:
			first, known := a.Outcome(p)
			second, _ := a.Outcome(p + 1)
			outcomes = outcomes || known && first == bus.OutcomeCreated && second == bus.OutcomeConflict
			catalogue = catalogue || a.Catalogue > 0 && a.Catalogue == int64(b.count("select catalogue from checkpoint"))
		case <-deadline:
			t.Fatalf("outcomes announced: %v, the catalogue: %v", outcomes, catalogue)
		}
	}
}
