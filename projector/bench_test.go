package projector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/event"
	"cairn/internal/hosts"
	"cairn/internal/testkit"
	"cairn/internal/web"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/paulmach/orb"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patience = 20 * time.Second // of the tests, on a busy machine

// connect connects as the projector does.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	return source{url: url, seen: &hosts.Seen{}}.connect(ctx, applicationName)
}

// A bench is a queue and a database with nothing between them yet.
type bench struct {
	t    *testing.T
	bus  *server.Server
	url  string
	pool *pgxpool.Pool
	js   jetstream.JetStream // as the projector
	in   *bus.Collector
	http string // of the last projector started
}

func newBench(t *testing.T) *bench { return newBenchOn(t, testkit.Postgres(t)) }

func newBenchOn(t *testing.T, url string) *bench {
	t.Helper()
	b := &bench{t: t, bus: testkit.NATS(t), url: url}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	b.pool = pool
	b.js = b.dial(bus.UserAdmin)
	b.in = bus.NewCollector(b.dial(bus.UserIngest), b.bus.Refusal, prometheus.NewRegistry(), testkit.Log(t))
	t.Cleanup(b.in.Close)
	return b
}

func (b *bench) dial(user string) jetstream.JetStream {
	b.t.Helper()
	nc, err := bus.Connect(b.bus.Endpoint(user), testkit.Log(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.t.Fatal(err)
	}
	return js
}

// start runs a projector; stop ends it and returns what Run returned.
func (b *bench) start(change ...func(*Config)) (stop func() error) {
	b.t.Helper()
	server, err := web.Listen(web.Config{Listen: "127.0.0.1:0", Log: testkit.Log(b.t)}, 1)
	if err != nil {
		b.t.Fatal(err)
	}
	cfg := Config{Server: server, Bus: b.bus.Endpoint(bus.UserProjector), DatabaseURL: b.url, MaxBytes: bus.MinMaxBytes,
		Replay: ReplayWindow{Age: DefaultReplayAge}, Log: testkit.Log(b.t)}
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg) }()
	served := make(chan error, 1)
	go func() { served <- server.Run(ctx) }()
	b.http = "http://" + server.Addr()
	stop = sync.OnceValue(func() error { cancel(); return errors.Join(<-ended, <-served) })
	b.t.Cleanup(func() { _ = stop() })
	testkit.Eventually(b.t, patience, "the stream, or a problem", func() bool {
		_, err := b.js.Stream(b.t.Context(), bus.Stream)
		return err == nil || b.status().Problem != ""
	})
	return stop
}

func (b *bench) status() Status {
	b.t.Helper()
	resp, err := http.Get(b.http + "/status")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	var status struct{ Projector Status }
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		b.t.Fatal(err)
	}
	return status.Projector
}

// publish puts raw lines into one envelope.
func (b *bench) publish(lines ...string) event.Position {
	b.t.Helper()
	p, err := b.tryPublish(lines...)
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *bench) tryPublish(lines ...string) (event.Position, error) {
	batch := bus.NewBatch()
	defer batch.Release()
	for _, line := range lines {
		batch.Lines = append(append(batch.Lines, line...), '\n')
	}
	batch.Count = len(lines)
	if err := b.in.Enqueue(b.t.Context(), batch); err != nil {
		return 0, err
	}
	return batch.Wait()
}

func (b *bench) waitFor(p event.Position) {
	b.t.Helper()
	testkit.Eventually(b.t, patience, fmt.Sprintf("the checkpoint to reach %d", p.Sequence()), func() bool {
		var sequence uint64
		err := b.pool.QueryRow(b.t.Context(), "select sequence from checkpoint").Scan(&sequence)
		return err == nil && sequence >= p.Sequence()
	})
}

func (b *bench) count(sql string) (n int) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), sql).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func line(id, properties string) string {
	e := event.Event{ID: event.Key(id), Type: event.Created, Received: time.Now().UTC().Truncate(time.Microsecond),
		Point: event.Point{ExternalID: []byte(`"` + id + `"`), Position: orb.Point{1, 2}, Altitude: math.NaN(), Properties: []byte(properties)}}
	return strings.TrimSuffix(string(event.AppendEvent(nil, &e)), "\n")
}

func (b *bench) exec(sql string) {
	b.t.Helper()
	if _, err := b.pool.Exec(context.Background(), sql); err != nil {
		b.t.Fatal(err)
	}
}
