package projector

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/event"
	"cairn/internal/hosts"
	"cairn/internal/testkit"

	"github.com/google/uuid"
)

// metric reads a counter of the projector that runs.
func (b *bench) metric(name string) int {
	b.t.Helper()
	resp, err := http.Get(b.http + "/metrics")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(body)
	if found == nil {
		b.t.Fatalf("no metric %s", name)
	}
	n, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return int(n)
}

// Full batches of changes, whose points are prefetched, do what the model says: with ids that the
// batch before has, too, and while segments are sealed, merged and folded.
func TestPrefetch(t *testing.T) {
	for _, head := range []int64{0, 300} {
		t.Run(fmt.Sprintf("heads of %d rows", head), func(t *testing.T) { testPrefetch(t, head) })
	}
}

func testPrefetch(t *testing.T, head int64) {
	const rounds, envelopes, most = 5, 40, 60
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBench(t)
	setUp := func(c *Config) { c.sizes, c.batchRows = smallSizes(head), most/2 }
	m := &model{points: map[uuid.UUID]*modelPoint{}}
	ids := someIDs(2000)
	var revisions []event.Position
	b.start(setUp)() //nolint:errcheck // makes the stream
	prefetched := 0
	for range rounds {
		var last event.Position
		for range envelopes {
			var events []event.Event
			var values, lines []string
			for range most/2 + random.IntN(most/2) {
				e, value := randomEvent(random, ids, revisions)
				events, values, lines = append(events, e), append(values, value), append(lines, lineOf(e))
			}
			last = b.publish(lines...)
			for i, e := range events {
				m.apply(e, last+event.Position(i), values[i])
			}
		}
		for _, p := range m.points {
			revisions = append(revisions, p.revision)
		}
		stop := b.start(setUp) // all envelopes wait, so each batch is full
		b.waitFor(last)
		if got := b.rows(); got != m.String() {
			t.Fatalf("rows\n%s\nwant\n%s", got, m)
		}
		prefetched += b.metric("cairn_batches_prefetched_total")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	if prefetched == 0 {
		t.Error("nothing was prefetched")
	}
	t.Logf("%d of %d batches were prefetched", prefetched, rounds*envelopes)
	stop := b.start(setUp)
	if head > 0 {
		b.settle(head)
	}
	b.checkLatest()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.checkCatalogue()
	if got := b.rows(); got != m.String() {
		t.Fatalf("in the end, rows\n%s\nwant\n%s", got, m)
	}
}

// What was prefetched is not trusted: if rows lie elsewhere by then, the batch fails as a
// whole, and is applied when it is read again.
func TestPrefetchIsChecked(t *testing.T) {
	const n = 40
	for _, disturb := range []string{"vacuum full points_1", "cluster points_1 using points_1_geom"} {
		for _, kind := range []string{event.Put, event.Deleted} {
			t.Run(disturb+", "+kind, func(t *testing.T) {
				b := newBench(t)
				stop := b.start()
				var lines []string
				ids := someIDs(n)
				for i, id := range ids {
					lines = append(lines, lineOf(event.Event{ID: id, Type: event.Created, Received: time.Now().UTC(), Point: pointOf(strings.Repeat("x", 1+i))}))
				}
				b.waitFor(b.publish(lines...))
				b.waitFor(b.publish(lineOf(event.Event{ID: ids[0], Type: event.Deleted, Received: time.Now().UTC()})))
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				w, next := b.writerFor(kind, ids[n/2:])
				if _, err := w.conn.Exec(t.Context(), `update points_1 set author = 'moved' where ctid < '(0,9)'`); err != nil { // so that there are holes
					t.Fatal(err)
				}
				s := &prefetcher{source: source{url: b.url, seen: &hosts.Seen{}}, log: testkit.Log(t)}
				defer s.close()
				var err error
				if s.lineage, err = hosts.Of(t.Context(), w.conn.PgConn()); err != nil {
					t.Fatal(err)
				}
				found, err := s.read(t.Context(), next, w.catalogue.clone())
				if err != nil {
					t.Fatal(err)
				}
				b.exec(disturb)
				before := b.rows()
				w.prefetched = &storedPoints{batch: next, by: w.catalogue, rows: found}
				if _, err := w.apply(t.Context(), next); err == nil || !strings.Contains(err.Error(), "rows were changed") {
					t.Fatalf("a batch that was prefetched before %s: %v", disturb, err)
				}
				if got := b.rows(); got != before {
					t.Fatalf("after the failure, rows\n%s\nwant\n%s", got, before)
				}
				v, err := w.apply(t.Context(), next)
				if err != nil {
					t.Fatal(err)
				}
				if len(v.applied) != n/2 || w.served != 1 {
					t.Errorf("%d of %d events applied, %d batches served by what was prefetched", len(v.applied), n/2, w.served)
				}
			})
		}
	}
}

// writerFor is a writer with an empty batch behind it, and the next batch: an event of the
// kind for each id.
func (b *bench) writerFor(kind string, ids []uuid.UUID) (*writer, *batch) {
	b.t.Helper()
	conn, err := connect(b.t.Context(), b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	at, err := readCheckpoint(b.t.Context(), conn)
	if err != nil {
		b.t.Fatal(err)
	}
	w := &writer{conn: conn, at: at, log: testkit.Log(b.t), patience: time.Second, inPlace: map[int]int{}}
	first := newBatch(at.sequence + 1)
	first.last, first.lastID = at.sequence+1, "first"
	if _, err := w.apply(b.t.Context(), first); err != nil {
		b.t.Fatal(err)
	}
	var lines []string
	for _, id := range ids {
		e := event.Event{ID: id, Type: kind, Received: time.Now().UTC()}
		if kind == event.Put {
			e.Point = pointOf("new")
		}
		lines = append(lines, lineOf(e))
	}
	next := newBatch(at.sequence + 2)
	if err := next.add(new(event.Decoder), at.sequence+2, "next", []byte(strings.Join(lines, "\n"))); err != nil {
		b.t.Fatal(err)
	}
	return w, next
}
