package query

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"cairn/event"
	"cairn/internal/auth"
	"cairn/internal/testkit"
	"cairn/internal/web"
)

// replace puts a point of before elsewhere, as the projector does; remove leaves its
// tombstone. Both move the checkpoint.
func (f *fixture) replace(sequence uint64, id string, x, y float64) {
	f.t.Helper()
	f.change(sequence, id, `update points_1 set geom = ST_SetSRID(ST_MakePoint($3, $4), 4326), revision = $2 where id = $1`, x, y)
}

func (f *fixture) remove(sequence uint64, id string) {
	f.t.Helper()
	f.change(sequence, id, `update points_1 set geom = null, properties = null, revision = $2 where id = $1`)
}

func (f *fixture) change(sequence uint64, id, sql string, args ...any) {
	f.t.Helper()
	b := &pgx.Batch{}
	b.Queue("begin")
	b.Queue(sql, append([]any{event.Key(id), int64(event.At(sequence, 0))}, args...)...)
	b.Queue("update checkpoint set sequence = $1", int64(sequence))
	b.Queue("commit")
	if err := f.db.SendBatch(f.t.Context(), b).Close(); err != nil {
		f.t.Fatal(err)
	}
	f.tracker.Saw(sequence)
}

// event is the next one: "created", or what the stream calls it, with the name of its
// point, its id and its data.
func (l *listener) event() (kind, name, id, data string) {
	l.t.Helper()
	kind = "created"
	for l.lines.Scan() {
		line := l.lines.Text()
		field, value, _ := strings.Cut(line, ": ")
		switch {
		case field == "event":
			kind = value
		case field == "id":
			id = value
		case field == "data":
			data = value
		case line == "" && data != "":
			var body struct{ ID string }
			if err := json.Unmarshal([]byte(data), &body); err != nil {
				l.t.Fatalf("%v in %s", err, data)
			}
			return kind, body.ID, id, data
		}
	}
	l.t.Fatal("the stream ended")
	return "", "", "", ""
}

func (l *listener) expect(kind, name string, sequence uint64) (data string) {
	l.t.Helper()
	k, n, id, data := l.event()
	if k != kind || n != name || id != fmt.Sprint(int64(event.At(sequence, 0))) {
		l.t.Fatalf("want %s %s at %d, got %s %s at %s: %s", kind, name, event.At(sequence, 0), k, n, id, data)
	}
	return data
}

// Streams hear of what changes and what goes, live and when they resume, and one
// whose filter a point leaves hears that it did.
func TestStreamOfChanges(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 1})
	f.put(2, [2]float64{50, 50})
	all, west := f.listen("/stream"), f.listen("/stream?bbox=0,0,10,10")
	f.joined(2)
	f.put(3, [2]float64{2, 2})
	all.expect("created", "p3.0", 3)
	f.replace(4, "p1.0", 3, 3)
	data := all.expect("updated", "p1.0", 4)
	if want := fmt.Sprintf(`"position":%d,"revision":%d,`, event.At(1, 0), event.At(4, 0)); !strings.Contains(data, want) || data != string(f.get("/points/p1.0").body) {
		t.Errorf("updated: %s", data)
	}
	for n, x := range []float64{50, 51, 4} {
		f.replace(uint64(n)+5, "p3.0", x, 2)
		all.expect("updated", "p3.0", uint64(n)+5)
	}
	f.remove(8, "p3.0")
	want := fmt.Sprintf(`{"id":"p3.0","position":%d,"revision":%d}`, event.At(3, 0), event.At(8, 0))
	if data := all.expect("deleted", "p3.0", 8); data != want {
		t.Errorf("deleted: %s, want %s", data, want)
	}
	f.put(9, [2]float64{5, 5})
	all.expect("created", "p9.0", 9)

	west.expect("created", "p3.0", 3)
	west.expect("updated", "p1.0", 4)
	if data := west.expect("deleted", "p3.0", 5); !strings.HasSuffix(data, `,"left":true}`) {
		t.Errorf("left: %s", data)
	}
	west.expect("updated", "p3.0", 7) // and nothing of 6, for it was not there
	west.expect("deleted", "p3.0", 8)
	west.expect("created", "p9.0", 9)

	// Who comes again hears how it ended, each point once.
	again := f.listen(fmt.Sprintf("/stream?since=%d", event.EndOf(3)))
	again.expect("updated", "p1.0", 4)
	again.expect("deleted", "p3.0", 8)
	again.expect("created", "p9.0", 9)
	again = f.listen("/stream?bbox=0,0,10,10", headerLastEventID, fmt.Sprint(int64(event.EndOf(4))))
	again.expect("deleted", "p3.0", 8)
	again.expect("created", "p9.0", 9)
	// For those who know nothing, what was deleted never was.
	again = f.listen("/stream?since=0")
	if k, n, _, data := again.event(); k != "created" || n != "p1.0" || !strings.Contains(data, "[3,3]") {
		t.Errorf("%s %s", k, data)
	}
	again.expect("created", "p2.0", 2)
	again.expect("created", "p9.0", 9)
}

// What cannot be resumed from says so, and from where on it is complete.
func TestStreamResets(t *testing.T) {
	f := newFixture(t)
	f.put(4, [2]float64{1, 1})
	ahead := f.listen("/stream", headerLastEventID, "99999999999999")
	reset := func(l *listener, at event.Position) {
		t.Helper()
		if kind, _, id, data := l.event(); kind != "reset" || id != fmt.Sprint(int64(at)) || data != fmt.Sprintf(`{"position":%d}`, at) {
			t.Errorf("want a reset to %d, got %s %s %s", at, kind, id, data)
		}
	}
	reset(ahead, event.EndOf(4))
	f.joined(1)
	f.put(5, [2]float64{1, 1})
	f.tracker.Saw(5)
	ahead.expect("created", "p5.0", 5)

	// A browser comes with what another server told it.
	odd := f.listen("/stream", headerLastEventID, "no position", "Accept", "text/event-stream")
	reset(odd, event.EndOf(5))

	// Retention dropped what was below.
	f.exec("update checkpoint set floor = $1", int64(event.At(5, 0)))
	old := f.listen("/stream", headerLastEventID, fmt.Sprint(int64(event.EndOf(2))))
	reset(old, event.At(5, 0)-1)
	old.expect("created", "p5.0", 5)
	f.listen("/stream?since=0").expect("created", "p5.0", 5)

	f.joined(4)
	f.exec("delete from points_1") // a restored backup
	f.exec("update checkpoint set sequence = 3")
	reset(ahead, event.EndOf(3))
	f.put(4)
	f.put(6, [2]float64{7, 7})
	f.tracker.Saw(6)
	ahead.expect("created", "p6.0", 6)
}

// An EventSource never comes back after an answer that is not 200.
func TestEventSourceIsHeld(t *testing.T) {
	f := newFixture(t)
	const accept, events = "Accept", "text/event-stream"
	f.put(1, [2]float64{1, 1})
	f.exec("alter table checkpoint rename to away")
	f.detail(f.get("/stream"), http.StatusServiceUnavailable)
	l := f.listen("/stream", accept, events)
	if l.status != http.StatusOK {
		t.Fatalf("%d while the database has no schema", l.status)
	}
	f.exec("alter table away rename to checkpoint")
	f.joined(1)
	f.put(2, [2]float64{1, 1})
	l.expect("created", "p2.0", 2)

	for range cap(f.streams) - len(f.streams) {
		f.streams <- struct{}{}
	}
	f.detail(f.get("/stream"), http.StatusServiceUnavailable)
	crowded := f.listen("/stream", accept, events)
	if crowded.status != http.StatusOK || !crowded.lines.Scan() || crowded.lines.Text() != "retry: 15000" {
		t.Errorf("%d %q where there is no place", crowded.status, crowded.lines.Text())
	}
	for len(f.streams) > 1 {
		<-f.streams
	}
}

// A client that has its share of the streams is told so, an EventSource by one that
// ends; another is not in its way.
func TestStreamsOfOneAddress(t *testing.T) {
	f := newFixture(t)
	f.streamShares = web.NewShares("streams", 1)
	const by, one, another = "X-Forwarded-For", "198.51.100.1", "198.51.100.2"
	first := f.listen("/stream", by, one)
	f.joined(1)
	r := f.with(http.MethodGet, "/stream", by, one)
	if why := f.detail(r, http.StatusTooManyRequests); !strings.Contains(why, "1 streams of one client address") || r.header.Get("Retry-After") == "" {
		t.Errorf("%s %v", why, r.header)
	}
	crowded := f.listen("/stream", by, one, "Accept", "text/event-stream")
	if crowded.status != http.StatusOK || !crowded.lines.Scan() || crowded.lines.Text() != "retry: 15000" {
		t.Errorf("%d %q where there is no place", crowded.status, crowded.lines.Text())
	}
	f.listen("/stream", by, another)
	f.joined(2)
	first.leave() // which is noticed when there is something to say
	n := uint64(0)
	testkit.Eventually(t, within, "there is a place again", func() bool {
		n++
		f.put(n, [2]float64{1, 1})
		return f.listen("/stream", by, one).status == http.StatusOK
	})
}

// A single point's tag is its revision, whatever coding the client likes.
func TestRevisionIsTheTag(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 1})
	tag := func(sequence uint64) string { return fmt.Sprintf(`"%d"`, event.At(sequence, 0)) }
	for _, coding := range []string{"", "gzip", "zstd", "identity;q=0, gzip"} {
		r := f.do(http.MethodGet, "/points/p1.0", "Accept-Encoding", coding)
		if r.header.Get("ETag") != tag(1) || r.header.Get("Content-Encoding") != "" || r.header.Get("Vary") != "" {
			t.Errorf("%s: %v", coding, r.header)
		}
	}
	if r := f.do(http.MethodGet, "/points/p1.0", "If-None-Match", tag(1)); r.status != http.StatusNotModified {
		t.Errorf("%d", r.status)
	}
	f.replace(2, "p1.0", 2, 2)
	r := f.do(http.MethodGet, "/points/p1.0", "If-None-Match", tag(1))
	if r.status != http.StatusOK || r.header.Get("ETag") != tag(2) || !strings.Contains(string(r.body), fmt.Sprintf(`"position":%d,"revision":%d,`, event.At(1, 0), event.At(2, 0))) {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	f.remove(3, "p1.0")
	if got := f.detail(f.get("/points/p1.0"), http.StatusGone); got != `the point "p1.0" was deleted` {
		t.Error(got)
	}
	f.detail(f.get("/points/p2.0"), http.StatusNotFound)
	f.replace(4, "p1.0", 5, 5)
	if r := f.get("/points/p1.0"); r.status != http.StatusOK || r.header.Get("ETag") != tag(4) {
		t.Errorf("revived: %d %v", r.status, r.header)
	}
}

// forget keeps rows from before out of memory.
func (f *fixture) forget() {
	f.memory.older = func(event.Position, int) ([]*change, event.Position, uint64, error) { return nil, 0, 0, errBusy }
}

// remember makes the role keep its newest rows in memory, and waits until it has
// all of them.
func (f *fixture) remember() {
	f.t.Helper()
	testkit.Eventually(f.t, within, "the newest rows are in memory", func() bool {
		for i := range wantedPages {
			f.get(fmt.Sprintf("/points?limit=1&bbox=-%d.5,-10,0,10", rand.IntN(170)+i))
		}
		return f.memory.rows.Low() <= 1 && f.memory.rows.Sequence() >= f.tracker.Confirmed()
	})
}

// Whatever is created, changed and deleted: a page from memory is, byte for byte,
// the one from the database.
func TestMemoryIsTheDatabase(t *testing.T) {
	f := newFixture(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	f.put(1, grid(200, 1)...)
	f.exec("update points_1 set author = 'ann' where position % 3 = 0")
	f.remember()
	var fromMemory int
	for sequence := uint64(2); sequence < 60; sequence++ {
		id := fmt.Sprintf("p1.%d", r.IntN(200))
		switch r.IntN(4) {
		case 0:
			f.replace(sequence, id, r.Float64()*360-180, r.Float64()*180-90)
		case 1:
			f.remove(sequence, id)
		default:
			f.put(sequence, grid(r.IntN(20), sequence)...)
			f.tracker.Saw(sequence)
		}
		testkit.Eventually(t, within, "the memory has it", func() bool { f.get("/points?limit=2"); return f.memory.rows.Sequence() >= sequence })
		for range 5 {
			west, south := r.Float64()*300-180, r.Float64()*100-90
			l, err := parseItems(fmt.Sprintf("limit=%d&bbox=%.1f,%.1f,%.1f,%.1f", 1+r.IntN(60), west, south, west+r.Float64()*60, south+r.Float64()*80), pointsParameters)
			if err != nil {
				t.Fatal(err)
			}
			l.view = pickOne(r, []view{{}, {authors: true}, {area: &auth.Area{-60, -50, 120, 50}}, {area: &auth.Area{100, -80, -100, 80}, authors: true}})
			l.Filter = l.view.within(l.Filter)
			got, err := f.page("", l)
			if err != nil {
				t.Fatal(err)
			}
			if got.Remembered {
				fromMemory++
			}
			f.memory.valid.Store(false)
			want, err := f.page("", l)
			f.memory.valid.Store(true)
			if err != nil || string(got.Body) != string(want.Body) || got.Next != want.Next || got.Sequence != sequence || want.Remembered {
				t.Fatalf("%s at %d (%d): %v\n%s\n%s", l.text(nil), sequence, got.Sequence, err, got.Body, want.Body)
			}
		}
	}
	if fromMemory < 100 {
		t.Errorf("%d pages came from memory", fromMemory)
	}
}

func pickOne[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// What retention drops is in no page, wherever that comes from.
func TestMemoryForgetsWhatIsDropped(t *testing.T) {
	f := newFixture(t)
	for n := range uint64(5) {
		f.put(n+1, grid(100, n+1)...)
	}
	f.remember()
	f.exec("delete from points_1 where position < $1", int64(event.At(4, 0)))
	f.exec("update checkpoint set floor = $1", int64(event.At(4, 0)))
	f.put(6, [2]float64{1, 1})
	f.tracker.Saw(6)
	testkit.Eventually(t, within, "a page from memory", func() bool {
		l, _ := parseItems("limit=1000", pointsParameters)
		a, err := f.page("", l)
		if err != nil || strings.Contains(string(a.Body), `"p3.`) {
			t.Fatalf("%v, or what was dropped is there", err)
		}
		return a.Remembered && strings.Contains(string(a.Body), `"numberReturned":201`)
	})
}

// Nor is it in an answer that was cached before, though nothing is written that would
// make that old.
func TestCacheForgetsWhatIsDropped(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 1})
	f.put(2, [2]float64{1, 1})
	f.tracker.Saw(2)
	const path = "/points?limit=10"
	testkit.Eventually(t, within, "both points", func() bool { return strings.Contains(string(f.get(path).body), `"numberReturned":2`) })
	f.exec("delete from points_1 where position < $1", int64(event.At(2, 0)))
	f.exec("update checkpoint set floor = $1", int64(event.At(2, 0)))
	testkit.Eventually(t, within, "the one that was kept", func() bool { return strings.Contains(string(f.get(path).body), `"numberReturned":1`) })
}

// A page that begins in memory continues in the database.
func TestPageOfBoth(t *testing.T) {
	f := newFixture(t)
	f.forget()
	for n := range uint64(20) {
		f.put(n+1, grid(50, n+1)...)
	}
	f.get("/points?limit=1")
	f.tail.again() // nothing older is in memory than what comes now
	for n := uint64(21); n <= 30; n++ {
		f.put(n, grid(50, n)...)
	}
	b, err := f.changes(event.EndOf(20), newest, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.memory.add(b)
	f.get("/points?limit=1")
	for _, limit := range []int{1, 499, 500, 501, 700, 1000, 2000} {
		l, _ := parseItems(fmt.Sprintf("limit=%d", limit), pointsParameters)
		got, err := f.page("", l)
		if err != nil {
			t.Fatal(err)
		}
		f.memory.valid.Store(false)
		want, _ := f.page("", l)
		f.memory.valid.Store(true)
		if string(got.Body) != string(want.Body) || got.Sequence != 30 || got.Remembered != (limit < 500) {
			t.Errorf("limit %d: at %d, %d bytes, want %d; %v", limit, got.Sequence, len(got.Body), len(want.Body), got.Remembered)
		}
	}
}
