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
	"github.com/nats-io/nats.go"
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

func TestResumesAfterAStop(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	p := b.publish(line("b", `{}`))
	b.start()
	b.waitFor(p)
	if n := b.count("select count(*) from points"); n != 2 {
		t.Errorf("%d points, want 2", n)
	}
}

func TestTwoProjectorsAreHarmless(t *testing.T) {
	b := newBench(t)
	b.start()
	b.start()
	var last event.Position
	for i := range 300 {
		last = b.publish(line(fmt.Sprint("x", i), `{}`), line(fmt.Sprint("y", i), `{}`))
	}
	b.waitFor(last)
	if points, parked := b.count("select count(*) from points"), b.count("select count(*) from parked"); points != 600 || parked != 0 {
		t.Errorf("%d points and %d parked, want 600 and 0", points, parked)
	}
}

func TestOutlivesPostgres(t *testing.T) {
	cluster := testkit.OwnCluster(t)
	b := newBenchOn(t, cluster.URL())
	stop := b.start()
	b.waitFor(b.publish(line("before", `{}`)))
	if err := cluster.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := b.publish(line("while it is away", `{}`))
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.waitFor(p)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if n := b.count("select count(*) from points"); n != 2 {
		t.Errorf("%d points, want 2", n)
	}
}

func TestOutlivesTheBroker(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	passwords := map[string]string{}
	for _, user := range bus.Users {
		passwords[user] = "x"
	}
	cfg := server.Config{Listen: "127.0.0.1:0", StoreDir: dir, MaxStore: 1 << 30, Passwords: passwords, Log: testkit.Log(t)}
	s, err := server.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = s.Addr()
	b.bus = s
	b.js = b.dial(bus.UserAdmin)
	stop := b.start(func(c *Config) {
		c.Bus = bus.Endpoint{URL: "nats://" + cfg.Listen, User: bus.UserProjector, Password: "x"}
	})
	for i := range 3 {
		in := bus.NewCollector(b.dial(bus.UserIngest), b.bus.Refusal, prometheus.NewRegistry(), testkit.Log(t))
		b.in = in
		b.waitFor(b.publish(line(fmt.Sprint(i), `{}`)))
		in.Close()
		s.Close()
		if s, err = server.Start(cfg); err != nil {
			t.Fatal(err)
		}
		b.bus = s
	}
	defer s.Close()
	if n := b.count("select count(*) from points"); n != 3 {
		t.Errorf("%d points, want 3", n)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestEndsAHolderThatNeverLetsGo(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// A projector that was stopped in the middle of a transaction.
	zombie, err := connect(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer zombie.Close(context.Background())
	if _, err := zombie.Exec(t.Context(), "begin; update checkpoint set sequence = sequence"); err != nil {
		t.Fatal(err)
	}
	conn, err := connect(t.Context(), b.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	at, err := readCheckpoint(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{conn: conn, at: at, log: testkit.Log(t), patience: 50 * time.Millisecond, inPlace: map[int]int{}}
	next := newBatch(at.sequence + 1)
	if err := next.add(new(event.Decoder), at.sequence+1, "id", []byte(line("b", `{}`))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.apply(t.Context(), next); !hasCode(err, lockNotAvailable) {
		t.Fatalf("against a held fence: %v", err)
	}
	testkit.Eventually(t, patience, "the batch to go through after the holder was ended", func() bool {
		_, err := w.apply(t.Context(), next)
		return err == nil
	})
	if _, err := zombie.Exec(t.Context(), "commit"); err == nil {
		t.Error("the holder's transaction lived on")
	}
}

func TestStopsWhereStreamAndDatabaseDoNotMatch(t *testing.T) {
	tests := []struct {
		name, says string
		damage     func(t *testing.T, b *bench)
	}{
		{"stream gone", "is gone", func(t *testing.T, b *bench) {
			if err := b.js.DeleteStream(t.Context(), bus.Stream); err != nil {
				t.Fatal(err)
			}
		}},
		{"stream of somebody else", "was created at", func(t *testing.T, b *bench) {
			if err := b.js.DeleteStream(t.Context(), bus.Stream); err != nil {
				t.Fatal(err)
			}
			if _, err := bus.CreateStream(t.Context(), b.js, 0, bus.MinMaxBytes); err != nil {
				t.Fatal(err)
			}
		}},
		{"database too old", "begins at sequence 3", func(t *testing.T, b *bench) {
			s, err := b.js.Stream(t.Context(), bus.Stream)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
				t.Fatal(err)
			}
			b.exec("update checkpoint set sequence = 1")
		}},
		{"stream too short", "ends at sequence 3", func(t *testing.T, b *bench) {
			b.exec("update checkpoint set sequence = 9")
		}},
		{"another message", "is not the one", func(t *testing.T, b *bench) {
			b.exec("update checkpoint set message_id = 'other'")
		}},
		{"checkpoint's message lost", "has lost message 3", func(t *testing.T, b *bench) {
			s, err := b.js.Stream(t.Context(), bus.Stream)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteMsg(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
		}},
		{"a message in the middle lost", "missing from the middle", func(t *testing.T, b *bench) {
			b.publish(line("d", `{}`))
			b.publish(line("e", `{}`))
			s, err := b.js.Stream(t.Context(), bus.Stream)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteMsg(t.Context(), 4); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			stop := b.start()
			for _, id := range []string{"a", "b", "c"} {
				b.waitFor(b.publish(line(id, `{}`)))
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			tt.damage(t, b)
			b.start()
			testkit.Eventually(t, patience, "the projector to say …"+tt.says+"…", func() bool {
				problem := b.status().Problem
				return strings.Contains(problem, tt.says) && strings.Contains(problem, "cairn salvage")
			})
			if n := b.count("select count(*) from points"); n != 3 {
				t.Errorf("%d points, want the 3 of before", n)
			}
		})
	}
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
	for {
		select {
		case a := <-heard:
			first, known := a.Outcome(p)
			if second, _ := a.Outcome(p + 1); known && first == bus.OutcomeCreated && second == bus.OutcomeConflict {
				return
			}
		case <-deadline:
			t.Fatal("the commit was not announced")
		}
	}
}

// What a newer version wrote is neither parked nor passed over: all before it is
// applied, and the projection waits for an upgrade.
func TestStopsAtWhatIsNewer(t *testing.T) {
	newer := func(change func(h nats.Header), lines ...string) func(t *testing.T, b *bench) {
		return func(t *testing.T, b *bench) {
			m := &nats.Msg{Subject: bus.Subject, Header: nats.Header{}, Data: []byte(strings.Join(lines, "\n") + "\n")}
			m.Header.Set("Cairn-Format", bus.Format)
			change(m.Header)
			if _, err := b.dial(bus.UserIngest).PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	none := func(nats.Header) {}
	tests := []struct {
		name, says string
		publish    func(t *testing.T, b *bench)
	}{
		{"format", `format "2"`, newer(func(h nats.Header) { h.Set("Cairn-Format", "2") }, `{"new":"thing"}`)},
		{"type of event", `"moved"`, newer(none, line("x", `{}`), strings.Replace(line("y", `{}`), "created", "moved", 1))},
		{"type of event that has no point", `"merged"`, newer(none, `{"id":"0193","type":"merged","into":7}`)},
		{"condition", `"unless"`, newer(none, strings.Replace(line("y", `{}`), `"type":"created"`, `"type":"created","if":"unless"`, 1))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			stop := b.start()
			b.waitFor(b.publish(line("a", `{}`)))
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			before := b.publish(line("b", `{}`), line("c", `{}`))
			tt.publish(t, b)
			b.publish(line("d", `{}`))
			b.start()
			testkit.Eventually(t, patience, "the projector to say …"+tt.says+"…", func() bool {
				problem := b.status().Problem
				return strings.Contains(problem, tt.says) && strings.Contains(problem, "Upgrade")
			})
			b.waitFor(before)
			resp, err := http.Get(b.http + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if points, parked := b.count("select count(*) from points"), b.count("select count(*) from parked"); points != 3 || parked != 0 || resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%d points, want 3; %d parked, want 0; /readyz %d", points, parked, resp.StatusCode)
			}
		})
	}
}

func TestStopsAtANewerSchema(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.exec("update cairn_schema_version set version = version + 1")
	b.start()
	testkit.Eventually(t, patience, "the projector to ask for an upgrade", func() bool {
		return strings.Contains(b.status().Problem, "Upgrade this projector")
	})
}

func (b *bench) exec(sql string) {
	b.t.Helper()
	if _, err := b.pool.Exec(context.Background(), sql); err != nil {
		b.t.Fatal(err)
	}
}
