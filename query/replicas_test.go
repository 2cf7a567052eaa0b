package query

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/event"
	"cairn/internal/testkit"
	"cairn/internal/web"
	"cairn/schema"
)

// replica runs the whole role, with a NATS server, until the test ends.
func replica(t testing.TB, url string, nats *server.Server, change ...func(*Config)) *fixture {
	t.Helper()
	log := testkit.Log(t)
	server, err := web.Listen(web.Config{Listen: "127.0.0.1:0", Log: log, Version: "test"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- server.Run(ctx) }()
	cfg := Config{Server: server, DatabaseURL: url, Bus: nats.Endpoint(bus.UserQuery), Log: log}
	for _, c := range change {
		c(&cfg)
	}
	go func() { ended <- Run(ctx, cfg) }()
	f := &fixture{t: t, base: "http://" + server.Addr(), client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	f.stop = sync.OnceFunc(func() {
		f.client.CloseIdleConnections()
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(f.stop)
	testkit.Eventually(t, within, "the role is mounted", func() bool { return f.get("/readyz").status == http.StatusOK })
	return f
}

// announcer speaks as the projector does.
func announcer(t testing.TB, nats *server.Server) func(sequence uint64) {
	t.Helper()
	nc, err := bus.Connect(nats.Endpoint(bus.UserProjector), testkit.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return func(sequence uint64) { _ = bus.Announce(nc, bus.Applied{Sequence: sequence}) }
}

// What the projector announces reaches the connections that are kept warm.
func TestAnnouncedSegmentsAreWarmed(t *testing.T) {
	url, nats := testkit.Postgres(t), testkit.NATS(t)
	replica(t, url, nats)
	db := connect(t, url)
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	read := func(table string) (n int) {
		t.Helper()
		err := db.QueryRow(t.Context(), `select count(*) from pg_stat_activity where datname = current_database()
			and application_name = 'cairn-query' and query like '%from ' || $1 || ' %'`, table).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	testkit.Eventually(t, within, "connections are warm", func() bool { return read("points_1") > 1 })
	exec(schema.CreateTable(7))
	for _, sql := range append(schema.HeadIndexes(7), schema.GrantLike(7)) {
		exec(sql)
	}
	exec(fmt.Sprintf(`update segments set high = 1000 where id = 1; insert into segments (id, low, high, state) values (7, 1000, %d, 'sealed')`, int64(schema.HeadEnd)))
	var number int64
	if err := db.QueryRow(t.Context(), "update checkpoint set catalogue = catalogue + 1 returning catalogue").Scan(&number); err != nil {
		t.Fatal(err)
	}
	nc := testkit.JetStream(t, nats, bus.UserProjector).Conn()
	testkit.Eventually(t, within, "connections know the new segment", func() bool {
		_ = bus.Announce(nc, bus.Applied{Catalogue: number}) // again, as the projector does
		return read("points_7") > 1
	})
}

// A world is a writer's plain memory of what it has committed. Points only come,
// so what was there at a position is those up to it.
type world struct {
	mu     sync.Mutex
	points []modelPoint
}

func (w *world) add(points []modelPoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.points = append(w.points, points...)
}

// page is what the filter's page holds at the position.
func (w *world) page(q *itemsQuery, at event.Position) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids, before := []string{}, newest
	if q.After != nil {
		before = q.After.Position
	}
	for i := len(w.points) - 1; i >= 0 && len(ids) < q.Limit; i-- {
		if p := &w.points[i]; p.position <= at && p.position < before && p.passes(q.Filter) {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// write commits envelopes until ctx ends. The world knows of each before anybody
// can have read it; every third announcement is lost.
func (w *world) write(ctx context.Context, db *pgx.Conn, r *rand.Rand, announce func(uint64), wrote func(modelPoint)) error {
	for n := uint64(1); ctx.Err() == nil; n++ {
		b := &pgx.Batch{}
		b.Queue("begin")
		var points []modelPoint
		for i := range r.IntN(5) {
			p, args := randomPoint(r, event.At(n, i))
			points = append(points, p)
			b.Queue(insertModel, args...)
		}
		b.Queue("update checkpoint set sequence = $1", int64(n))
		b.Queue("commit")
		w.add(points)
		if err := db.SendBatch(context.Background(), b).Close(); err != nil {
			return err
		}
		if n%3 > 0 {
			announce(n)
		}
		if len(points) > 0 {
			wrote(points[len(points)-1])
		}
	}
	return nil
}

// Three replicas and a writer: whoever follows a write sees it, on any replica;
// for who carries a position, answers never go backwards; what an answer says is
// what there was at its position, to the point; and an ETag stands for one body.
func TestReplicasAgainstAModel(t *testing.T) {
	url, nats := testkit.Postgres(t), testkit.NATS(t)
	replicas := []*fixture{replica(t, url, nats), replica(t, url, nats), replica(t, url, nats)}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Second)
	defer stop()
	w, tags := &world{}, &sync.Map{}
	var group sync.WaitGroup
	var followed, read, revalidated atomic.Int64
	group.Go(func() {
		r := rand.New(rand.NewPCG(seed, 0))
		err := w.write(ctx, connect(t, url), r, announcer(t, nats), func(p modelPoint) {
			path := fmt.Sprintf("/points/%s?min_position=%d", p.id, p.position)
			if got, err := replicas[r.IntN(3)].try(http.MethodGet, path); err != nil || got.status != http.StatusOK {
				t.Errorf("GET %s: %d %v %s", path, got.status, err, got.body)
			}
			followed.Add(1)
		})
		if err != nil {
			t.Error(err)
		}
	})
	for i := range 4 {
		group.Go(func() {
			c := &carrier{t: t, world: w, tags: tags, held: map[string]string{}, rand: rand.New(rand.NewPCG(seed, uint64(i)+1))}
			for ctx.Err() == nil && !t.Failed() {
				c.read(replicas[c.rand.IntN(3)])
			}
			read.Add(c.reads)
			revalidated.Add(c.unchanged)
		})
	}
	group.Wait()
	t.Logf("%d writes followed, %d reads, %d of them 304", followed.Load(), read.Load(), revalidated.Load())
	if followed.Load() < 20 || read.Load() < 100 || revalidated.Load() == 0 {
		t.Error("too little happened")
	}
}

// A carrier is a client that never wants to see less than it has seen.
type carrier struct {
	t                *testing.T
	world            *world
	tags             *sync.Map         // ETag → body, of all clients
	held             map[string]string // request → ETag
	rand             *rand.Rand
	at               int64
	reads, unchanged int64
}

func (c *carrier) read(f *fixture) {
	query := "limit=20"
	if c.rand.IntN(2) == 0 {
		query = randomQuery(rand.New(rand.NewPCG(1, c.rand.Uint64N(20)))) // one of a few, so that caches matter
	}
	coding := []string{"identity", "gzip", "zstd"}[c.rand.IntN(3)]
	header := []string{"Accept-Encoding", coding, headerMinPosition, strconv.FormatInt(c.at, 10)}
	held := c.held[query+coding]
	if held != "" {
		header = append(header, "If-None-Match", held)
	}
	r, err := f.try(http.MethodGet, "/points?"+query, header...)
	if err != nil {
		c.t.Error(err)
		return
	}
	c.reads++
	at, err := strconv.ParseInt(r.header.Get(headerPosition), 10, 64)
	tag := r.header.Get("ETag")
	if err != nil || at < c.at || r.status != http.StatusOK && r.status != http.StatusNotModified {
		c.t.Errorf("GET %s: %d at %d (%v), after %d: %s", query, r.status, at, err, c.at, r.body)
		return
	}
	c.at = at
	if r.status == http.StatusNotModified {
		c.unchanged++
		body, _ := c.tags.Load(held)
		c.check(query, []byte(body.(string)), at)
		return
	}
	body := string(unpack(c.t, r))
	if before, known := c.tags.LoadOrStore(tag, body); known && before != body {
		c.t.Errorf("the ETag %s stands for two bodies", tag)
	}
	c.held[query+coding] = tag
	c.check(query, []byte(body), at)
}

func (c *carrier) check(query string, body []byte, at int64) {
	l, err := parseItems(query, pointsParameters)
	if err != nil {
		c.t.Error(err)
		return
	}
	var page collection
	if err := json.Unmarshal(body, &page); err != nil {
		c.t.Error(err)
		return
	}
	got := append([]string{}, idsOf(page)...)
	if want := c.world.page(l, event.Position(at)); !slices.Equal(got, want) {
		c.t.Errorf("GET %s at %d: %d points, want %d\n%s\n%s", query, at, len(got), len(want), strings.Join(got, " "), strings.Join(want, " "))
	}
}

// With NATS, the projector, a replica and then Postgres gone, one after the
// other, in the middle of a load, reads continue wherever they can.
func TestReadsGoOn(t *testing.T) {
	cluster, nats := testkit.OwnCluster(t), testkit.NATS(t)
	replicas := []*fixture{replica(t, cluster.URL(), nats), replica(t, cluster.URL(), nats), replica(t, cluster.URL(), nats)}
	writing, stopWriting := context.WithCancel(t.Context())
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	written := make(chan struct{})
	go func() {
		defer close(written)
		w := &world{}
		if err := w.write(writing, connect(t, cluster.URL()), rand.New(rand.NewPCG(1, 1)), announcer(t, nats), func(modelPoint) {}); err != nil {
			t.Error(err)
		}
	}()
	var reads, elsewhere atomic.Int64
	for i := range 6 {
		group.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				// As a proxy does: who does not answer is passed over.
				r, err := replicas[n%3].try(http.MethodGet, "/points?limit=10")
				if err != nil || r.header.Get("Retry-After") != "" {
					elsewhere.Add(1)
					r, err = replicas[(n+1)%3].try(http.MethodGet, "/points?limit=10")
				}
				if err != nil || r.status != http.StatusOK {
					t.Errorf("%d %v %s", r.status, err, r.body)
					return
				}
				reads.Add(1)
			}
		})
	}
	more := func(what string) {
		t.Helper()
		from := reads.Load()
		testkit.Eventually(t, within, "reads go on "+what, func() bool { return reads.Load() > from+300 || t.Failed() })
	}
	more("with everything there")
	nats.Close()
	more("without NATS")
	stopWriting()
	<-written
	more("without a projector")
	replicas[2].stop()
	more("without a replica")
	if err := cluster.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	more("without Postgres")
	testkit.Eventually(t, within, "answers show their age", func() bool { return replicas[0].get("/points?limit=10").header.Get("Age") != "" })
	replicas[0].detail(replicas[0].get("/points?limit=11"), http.StatusServiceUnavailable)
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, within, "all is as before", func() bool {
		return replicas[0].get("/points?limit=11").status == http.StatusOK && replicas[1].get("/points?limit=10").header.Get("Age") == ""
	})
	stop()
	group.Wait()
	t.Logf("%d reads, %d of them at the second replica tried", reads.Load(), elsewhere.Load())
}

// A writer in the middle of its transaction, with all its locks, lets every
// reader through.
func TestNoReaderWaitsForAWriter(t *testing.T) {
	f := newFixture(t)
	f.forget()
	f.put(1, grid(500, 1)...)
	watcher := connect(t, f.db.Config().ConnString())
	f.exec("begin")
	f.exec("update checkpoint set sequence = 2")
	f.exec(`insert into points (id, position, geom, received_at)
		select gen_random_uuid(), 8192 + i, ST_SetSRID(ST_MakePoint(i % 100, 1), 4326), now() from generate_series(0, 3999) i`)
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for reader := range 4 {
		group.Go(func() {
			for n := 1; n <= 50; n++ { // no two alike, so that each is a statement
				path := fmt.Sprintf("/points?bbox=%d,-90,%d.%d,90", reader, 40+n, n)
				if r, err := f.try(http.MethodGet, path); err != nil || r.status != http.StatusOK || r.header.Get(headerPosition) != positionText(1) {
					t.Errorf("GET %s: %d %v %v", path, r.status, err, r.header)
				}
			}
		})
	}
	go func() { group.Wait(); stop() }()
	looks := 0
	for ; ctx.Err() == nil; looks++ {
		var waiting int
		if err := watcher.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where datname = current_database() and application_name = 'cairn-query' and wait_event_type = 'Lock'`).Scan(&waiting); err != nil || waiting > 0 {
			t.Fatalf("%d readers wait for a lock, %v", waiting, err)
		}
	}
	f.exec("commit")
	if n := f.statements("page"); n != 200 || looks < 10 {
		t.Errorf("%d statements, looked at %d times", n, looks)
	}
}
