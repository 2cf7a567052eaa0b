package projector

import (
	"context"
	"fmt"
	"testing"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/event"
	"cairn/internal/testkit"

	"github.com/prometheus/client_golang/prometheus"
)

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
	testkit.Eventually(t, patience, "the stream", func() bool { // a first request may go unanswered, and is asked again
		_, err := b.js.Stream(t.Context(), bus.Stream)
		return err == nil
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
