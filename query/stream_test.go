package query

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cairn/event"
	"cairn/internal/testkit"
	"cairn/query/answer"
	"cairn/query/filter"
)

// A listener is a client of /stream, as a browser's EventSource is.
type listener struct {
	t      testing.TB
	lines  *bufio.Scanner
	leave  context.CancelFunc
	status int
	header http.Header
	lastID string
}

func (f *fixture) listen(path string, header ...string) *listener {
	f.t.Helper()
	ctx, leave := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { leave(); _ = res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	return &listener{t: f.t, lines: lines, leave: leave, status: res.StatusCode, header: res.Header}
}

// next is the next event's id and data; ok is false at the end.
func (l *listener) next() (id, data string, ok bool) {
	for l.lines.Scan() {
		line := l.lines.Text()
		field, value, _ := strings.Cut(line, ": ")
		switch {
		case field == "id":
			l.lastID = value
		case field == "data":
			data = value
		case line == "" && data != "":
			return l.lastID, data, true
		}
	}
	return "", "", false
}

// joined waits until so many streams hear what comes.
func (f *fixture) joined(n int) {
	f.t.Helper()
	testkit.Eventually(f.t, within, fmt.Sprintf("%d streams are live", n), func() bool {
		f.tail.mu.Lock()
		defer f.tail.mu.Unlock()
		return len(f.tail.readers) == n
	})
}

func TestStreamIsLive(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 1})
	all, west := f.listen("/stream"), f.listen("/stream?bbox=-180,-90,0,90")
	if all.status != http.StatusOK || all.header.Get("Content-Type") != "text/event-stream" || all.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("%d %v", all.status, all.header)
	}
	f.joined(2)
	f.put(2, [2]float64{-1, 1}, [2]float64{2, 2})
	f.tracker.Saw(2)
	f.put(3, [2]float64{-3, 3}) // not announced
	for l, want := range map[*listener][]string{all: {"p2.0", "p2.1", "p3.0"}, west: {"p2.0", "p3.0"}} {
		for _, name := range want {
			id, data, ok := l.next()
			position := f.get("/points/" + name)
			if !ok || data != string(position.body) || !strings.Contains(data, `"position":`+id+",") {
				t.Errorf("want %s, got %s %s", name, id, data)
			}
		}
	}
	if r := f.do(http.MethodHead, "/stream"); r.status != http.StatusOK || r.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %d %v", r.status, r.header)
	}
}

// A client that comes and goes, under writes, gets every row once, in order.
func TestStreamResumesWithoutGap(t *testing.T) {
	f := newFixture(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const envelopes = 150
	go func() {
		for n := range uint64(envelopes) {
			f.put(n+1, append(grid(1+int(n*7%40), n), [2]float64{20, 20})...)
			if n%3 > 0 {
				f.tracker.Saw(n + 1)
			}
		}
	}()
	// The last point of the last envelope, which passes both filters.
	last := event.At(envelopes, 1+(envelopes-1)*7%40)
	isLast := func(id string) bool { return id == fmt.Sprint(int64(last)) }
	for _, query := range []string{"", "&bbox=10,-90,30,90"} {
		got, at := []string{}, "0"
		for !isLast(at) {
			path, header := "/stream?since="+at+query, []string(nil)
			if r.IntN(2) == 0 { // the field wins
				path, header = "/stream?since=5"+query, []string{headerLastEventID, at}
			}
			l := f.listen(path, header...)
			for n := r.IntN(300); n >= 0 && !isLast(at); n-- {
				id, _, ok := l.next()
				if !ok {
					t.Fatal("the stream ended")
				}
				got, at = append(got, id), id
			}
			l.leave()
		}
		var want []string
		c, _ := f.pageAt("/points?limit=10000" + query)
		for _, p := range c.Features {
			want = append(want, fmt.Sprint(int64(p.Position)))
		}
		slices.Reverse(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %d events, want %d", query, len(got), len(want))
		}
	}
}

// Who does not read is cut off, and costs the others nothing.
func TestSlowStreamIsCutOff(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 1})
	slow, quick := f.listen("/stream"), f.listen("/stream")
	f.joined(2)
	const rows, sequences = 40, 5 // of 250 kB
	begin := time.Now()
	for n := range uint64(sequences) {
		f.exec(`insert into points (id, position, geom, received_at, properties)
			select gen_random_uuid(), ($1::bigint << 12) + i, ST_SetSRID(ST_MakePoint(0, 0), 4326), now(), jsonb_build_object('pad', repeat('x', 250000))
			from generate_series(1, $2) i`, int64(n)+2, rows)
		f.exec("update checkpoint set sequence = $1", int64(n)+2)
		f.tracker.Saw(n + 2)
		for i := range rows {
			if id, _, ok := quick.next(); !ok || id != fmt.Sprint(int64(event.At(n+2, i+1))) {
				t.Fatalf("the quick one got %s after %v", id, time.Since(begin))
			}
		}
	}
	f.joined(1)
	if n := f.metric("cairn_stream_dropped_total"); n != 1 {
		t.Errorf("%v were cut off", n)
	}
	last, seen := "", 0
	for {
		id, _, ok := slow.next()
		if !ok {
			break
		}
		last, seen = id, seen+1
	}
	again := f.listen("/stream", headerLastEventID, last)
	for range rows*sequences - seen {
		if _, _, ok := again.next(); !ok {
			t.Fatal("the stream ended")
		}
	}
	if want := fmt.Sprint(int64(event.At(sequences+1, rows))); again.lastID != want {
		t.Errorf("it came to %s, not %s", again.lastID, want)
	}
}

func TestStreamEndsAtAStop(t *testing.T) {
	f := newFixture(t)
	f.put(4, [2]float64{1, 1})
	stopped := f.listen("/stream")
	f.joined(1)
	f.stop()
	if _, _, ok := stopped.next(); ok {
		t.Error("an event at the stop")
	}
}

func TestStreamRefuses(t *testing.T) {
	f := newFixture(t)
	for path, want := range map[string]string{
		"/stream?limit=1": "this route takes bbox, datetime, name, near, author, properties.NAME, since, latest", "/stream?since=x": "since: it must be a position",
		"/stream?bbox=1": "four numbers", "/stream?datetime=1": "not a time",
	} {
		if got := f.detail(f.get(path), http.StatusBadRequest); !strings.Contains(got, want) {
			t.Errorf("GET %s: %s", path, got)
		}
	}
	if got := f.detail(f.do(http.MethodGet, "/stream", headerLastEventID, "-1"), http.StatusBadRequest); !strings.Contains(got, headerLastEventID) {
		t.Error(got)
	}
}

// Ten thousand filtered readers each get what passes, and no more.
func TestManyReaders(t *testing.T) {
	tr := answer.NewTracker(func(context.Context) (uint64, error) { return 0, nil }, func() {})
	tail := newTail(tr, nil, nil, newMemory(minMemoryBytes, tr.Now, nil, prometheus.NewRegistry()), newStreamMetrics(prometheus.NewRegistry()))
	readers := make([]*reader, 10_000)
	for i := range readers {
		west, south := float64(i%100), float64(i/100)-50
		readers[i] = &reader{filter: filter.Box{West: west, South: south, East: west + 1, North: south + 1}, wake: make(chan struct{}, 1), cut: func() { t.Error("cut off") }}
		if !tail.join(readers[i]) {
			t.Fatal("not joined")
		}
	}
	const batches = 10
	for n := range batches {
		b := batch{upTo: event.EndOf(uint64(n) + 1)}
		for i := range batchRows {
			c := &change{at: event.At(uint64(n)+1, i), wire: fmt.Append(nil, i%100)}
			c.Position, c.Revision, c.X, c.Y, c.Feature = c.at, c.at, float64(i%100)+.5, float64((i/100+n*10)%100)-49.5, c.wire
			b.changes = append(b.changes, c)
		}
		tail.deliver(b, event.EndOf(uint64(n)), 0)
	}
	for i, r := range readers {
		events, at := r.taken()
		if len(events) != 1 || at != event.EndOf(batches) || string(events[0].wire) != fmt.Sprint(i%100) || len(r.wake) != 1 {
			t.Fatalf("reader %d has %d events up to %d", i, len(events), at)
		}
		tail.wrote(r, events)
		tail.leave(r)
	}
	if n := tail.backlog.Load(); n != 0 {
		t.Errorf("%d bytes wait, though all was written", n)
	}
	if _, any := tail.position(); any {
		t.Error("readers are left")
	}
}
