package projector

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cairn/event"
	"cairn/internal/testkit"

	"github.com/jackc/pgx/v5"
	"github.com/paulmach/orb"
)

// checkLatest waits until the table latest is complete, and compares all of it with
// what the points say.
func (b *bench) checkLatest() {
	b.t.Helper()
	testkit.Eventually(b.t, patience, "the table latest to be complete", func() bool {
		return b.count(`select count(*) from checkpoint where latest < sequence or exists (select from segments where state in ('head', 'sealed') and not latest_done)`) == 0
	})
	const columns = `id, external_id, position, revision, name collate "C", st_astext(geom), observed_at, received_at, properties`
	newest := `select distinct on (name) ` + columns + ` from points where name is not null order by name, coalesce(observed_at, received_at) desc, position desc`
	have := `select ` + columns + ` from latest where geom is not null and position >= (select floor from checkpoint)`
	for what, sql := range map[string]string{"is missing": `(` + newest + `) except (` + have + `)`, "should not be there": `(` + have + `) except (` + newest + `)`} {
		rows, err := b.pool.Query(b.t.Context(), sql)
		if err != nil {
			b.t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToMap)
		if err != nil {
			b.t.Fatal(err)
		}
		for i, row := range list {
			if i < 5 {
				b.t.Errorf("of %d that %s: %v", len(list), what, row)
			}
		}
	}
}

// named is an event of a point that has a name, observed so many seconds after a
// moment; negative: nobody says when.
func named(id, kind, name string, seconds int) string {
	e := event.Event{ID: event.Key(id), Type: kind, Received: time.Now().UTC().Truncate(time.Microsecond)}
	if kind != event.Deleted {
		e.Point = event.Point{ExternalID: []byte(`"` + id + `"`), Position: orb.Point{float64(seconds%90) + 1, 2}, Altitude: math.NaN(), Properties: []byte(`{}`)}
		if name != "" {
			e.Point.Properties = fmt.Appendf(nil, `{"name":%q,"n":%d}`, name, seconds)
		}
		if seconds >= 0 {
			e.Point.Time = time.Date(2026, 1, 1, 0, 0, seconds, 0, time.UTC)
		}
	}
	return strings.TrimSuffix(string(event.AppendEvent(nil, &e)), "\n")
}

func (b *bench) latest(name string) (id string) {
	b.t.Helper()
	err := b.pool.QueryRow(b.t.Context(), `select coalesce((select external_id from latest where name = $1 and geom is not null), '')`, name).Scan(&id)
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func TestLatestStepByStep(t *testing.T) {
	b := newBench(t)
	b.start()
	for _, step := range []struct {
		what, event, want string
		name              string
	}{
		{"the first", named("a", event.Created, "bus", 100), "a", "bus"},
		{"a newer one", named("b", event.Created, "bus", 200), "b", "bus"},
		{"a late one", named("c", event.Created, "bus", 150), "b", "bus"},
		{"of the same time, a higher position", named("d", event.Created, "bus", 200), "d", "bus"},
		{"the same again", named("d", event.Created, "bus", 200), "d", "bus"},
		{"the newest is deleted", named("d", event.Deleted, "", 0), "b", "bus"},
		{"one that is not the newest is deleted", named("a", event.Deleted, "", 0), "b", "bus"},
		{"the newest becomes the oldest", named("b", event.Put, "bus", 10), "c", "bus"},
		{"an old one becomes the newest", named("b", event.Put, "bus", 300), "b", "bus"},
		{"the newest is called something else", named("b", event.Put, "tram", 300), "c", "bus"},
		{"which is the newest there", named("x", event.Created, "tram", 1), "b", "tram"},
		{"the newest loses its name", named("c", event.Put, "", 150), "", "bus"},
		{"a name comes back", named("e", event.Created, "bus", 5), "e", "bus"},
		{"without a time the time received", named("f", event.Created, "bus", -1), "f", "bus"},
	} {
		b.waitFor(b.publish(step.event))
		if got := b.latest(step.name); got != step.want {
			t.Errorf("%s: %q is at %q, want %q", step.what, step.name, got, step.want)
		}
		b.checkLatest()
	}
}

// Events of all kinds and in any order of times, in batches of all sizes, while
// segments are sealed and merged, the projector is ended, and the table is rebuilt.
func TestLatestIsWhatThePointsSay(t *testing.T) {
	const headRows, ids, names = 60, 400, 25
	b := newBench(t)
	r := rand.New(rand.NewPCG(7, 11))
	small := func(c *Config) { c.sizes = smallSizes(headRows) }
	stop := b.start(small)
	fresh := 0
	for round := range 12 {
		var last event.Position
		for range 8 {
			var lines []string
			for range 1 + r.IntN(20) {
				name, id := fmt.Sprintf("Bus №%d", r.IntN(names)), fmt.Sprint(r.IntN(ids))
				kind := []string{event.Created, event.Created, event.Created, event.Put, event.Deleted}[r.IntN(5)]
				if kind == event.Created {
					fresh++
					id = fmt.Sprint("new", fresh)
				}
				lines = append(lines, named(id, kind, name, r.IntN(300)-10))
			}
			last = b.publish(lines...)
		}
		switch round % 4 {
		case 1:
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			stop = b.start(small)
		case 3:
			b.waitFor(last)
			if _, err := b.rebuild(); err != nil {
				t.Fatal(err)
			}
		}
		b.waitFor(last)
		b.checkLatest()
	}
	b.settle(headRows)
	b.checkLatest()
	if n := b.count(`select count(*) from latest where geom is not null`); n < names/2 {
		t.Errorf("only %d names are left: the test looks at nothing", n)
	}
}

// In a bulk load several batches share the work; where the projector ends before it
// is done, the next one finds out what there is to do.
func TestLatestAfterFullBatches(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.waitFor(b.publish(named("first", event.Created, "name 1", 1)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var last event.Position
	for i := range 40 {
		var lines []string
		for j := range 500 {
			n := i*500 + j
			lines = append(lines, named(fmt.Sprint("p", n), event.Created, fmt.Sprint("name ", n%300), (n*7919)%100_000))
		}
		last = b.publish(lines...)
	}
	stop = b.start()
	b.waitFor(last)
	b.checkLatest()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// As if it had been killed with all of that still to do.
	b.exec(`update checkpoint set latest = 1; delete from latest where name <> 'name 1'; update latest set observed_at = '2026-01-01 00:00:01Z' where name = 'name 1'`)
	b.start()
	b.checkLatest()
}

// Full batches that change points share the work too. A projector that ends with some of
// it to do leaves enough for the next one to find out.
func TestLatestAfterFullBatchesOfChanges(t *testing.T) {
	const rounds, messages, rows, ids, names = 4, 24, 500, 3000, 40
	b := newBench(t)
	r := rand.New(rand.NewPCG(3, 5))
	small := func(c *Config) { c.sizes = smallSizes(2000) }
	if err := b.start(small)(); err != nil {
		t.Fatal(err)
	}
	behind := 0
	for range rounds {
		var last event.Position
		for range messages {
			lines := make([]string, 0, rows)
			for range rows {
				kind := []string{event.Put, event.Put, event.Put, event.Created, event.Deleted}[r.IntN(5)]
				lines = append(lines, named(fmt.Sprint("p", r.IntN(ids)), kind, fmt.Sprint("name ", r.IntN(names)), r.IntN(100_000)))
			}
			last = b.publish(lines...)
		}
		stop := b.start(small)
		testkit.Eventually(t, patience, "the table latest to lag, or all to be done", func() bool {
			return b.count(`select count(*) from checkpoint where latest < sequence or sequence >= `+fmt.Sprint(last.Sequence())) > 0
		})
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		behind += b.count(`select count(*) from checkpoint where latest < sequence`)
		stop = b.start(small)
		b.waitFor(last)
		b.checkLatest()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if behind == 0 {
		t.Error("the table latest never lagged: the test looks at nothing")
	}
}

// What retention drops is not the newest of anything, and what it leaves is.
func TestLatestAfterRetention(t *testing.T) {
	const headRows = 50
	b := newBench(t)
	small := func(c *Config) { c.sizes = smallSizes(headRows) }
	stop := b.start(small)
	var lines []string
	for i := range 2 * headRows {
		lines = append(lines, named(fmt.Sprint("old", i), event.Created, fmt.Sprint("gone ", i%7), i))
	}
	lines = append(lines, named("future", event.Created, "stays", 1_000_000))
	b.waitFor(b.publish(lines...))
	b.waitFor(b.publish(named("past", event.Created, "stays", 3), named("other", event.Created, "other", 4)))
	b.settle(headRows)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.exec(`update segments set received_to = now() - interval '2 h' where state = 'sealed'`)
	b.start(small, func(c *Config) { c.Keep = time.Hour })
	testkit.Eventually(t, patience, "the old points to be gone from the table", func() bool {
		return b.count(`select count(*) from latest where name like 'gone%' and geom is not null`) == 0 && b.latest("stays") == "past"
	})
	b.checkLatest()
	// Streams report both, to whomever has been told all that there was.
	const untold = `select count(*) from latest where since > (select sequence << 12 | 4095 from checkpoint)`
	if n := b.count(untold); n != 8 {
		t.Errorf("%d names are noted behind what readers have been told, want 8", n)
	}
	b.waitFor(b.publish(named("more", event.Created, "other", 5)))
	if n := b.count(untold); n != 0 {
		t.Errorf("after the next event %d names are noted behind it", n)
	}
	// What is empty goes when nobody may resume from before it.
	b.exec(`update checkpoint set floor = (sequence + 1) << 12`)
	testkit.Eventually(t, patience, "the empty rows to go", func() bool { return b.count(`select count(*) from latest where name like 'gone%'`) == 0 })
}

// The points of a database of an earlier version are gathered, a name after the
// other, however often that is ended.
func TestLatestOfEarlierPoints(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	var lines []string
	for i := range 900 {
		lines = append(lines, named(fmt.Sprint("p", i), event.Created, fmt.Sprint("n", i%450), i))
	}
	last := b.publish(lines...)
	b.waitFor(last)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.exec(`truncate latest; update segments set latest_done = false`)
	stop = b.start()
	b.waitFor(b.publish(named("late", event.Created, "n0", 5), named("p899", event.Deleted, "", 0), named("new", event.Created, "n1", 5000)))
	b.checkLatest()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.exec(`delete from latest where name >= 'n3'; update segments set latest_done = false, latest_name = 'n299' where state = 'sealed'`)
	b.start()
	b.checkLatest()
}
