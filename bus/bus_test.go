package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/event"
	"cairn/internal/testkit"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

func collector(t testing.TB, s *server.Server) *bus.Collector {
	c := bus.NewCollector(testkit.JetStream(t, s, bus.UserIngest), s.Refusal, prometheus.NewRegistry(), testkit.Log(t))
	t.Cleanup(c.Close)
	return c
}

func TestCollectorGroupsAndNumbers(t *testing.T) {
	s := testkit.NATS(t)
	stream, err := bus.CreateStream(t.Context(), testkit.JetStream(t, s, bus.UserProjector), 0, bus.MinMaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	c := collector(t, s)

	const writers, each = 64, 50
	type written struct {
		position event.Position
		line     string
	}
	all := make(chan written, writers*each)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				line := fmt.Sprintf("writer %d line %d\n", w, i)
				p, err := testkit.Publish(t, c, line)
				if err != nil {
					t.Error(err)
					return
				}
				all <- written{p, line}
			}
		})
	}
	wg.Wait()
	close(all)
	seen := map[event.Position]bool{}
	for w := range all {
		if seen[w.position] {
			t.Fatalf("position %d was given twice", w.position)
		}
		seen[w.position] = true
		m, err := stream.GetMsg(t.Context(), w.position.Sequence())
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(m.Data), "\n")
		if index := int(w.position & event.MaxIndex); lines[index] != w.line {
			t.Fatalf("at position %d is %q, want %q", w.position, lines[index], w.line)
		}
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := info.State.Msgs; got >= writers*each {
		t.Errorf("%d messages for %d points: nothing was grouped", got, writers*each)
	}
}

func TestCollectorKeepsEnvelopesInBounds(t *testing.T) {
	s := testkit.NATS(t)
	stream, err := bus.CreateStream(t.Context(), testkit.JetStream(t, s, bus.UserProjector), 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	c := collector(t, s)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if _, err := testkit.Publish(t, c, strings.Repeat("x\n", 400)); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := testkit.Publish(t, c, strings.Repeat("y", 200<<10)+"\n"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= info.State.LastSeq; sequence++ {
		m, err := stream.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(m.Data), "\n"); n > bus.MaxEnvelopePoints || len(m.Data) > bus.MaxEnvelopeBytes {
			t.Errorf("envelope %d has %d points in %d bytes", sequence, n, len(m.Data))
		}
	}
}

func TestEnvelopeHeaders(t *testing.T) {
	s := testkit.NATS(t)
	stream, err := bus.CreateStream(t.Context(), testkit.JetStream(t, s, bus.UserProjector), 0, bus.MinMaxBytes)
	if err != nil {
		t.Fatal(err)
	}
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	b := bus.NewBatch()
	defer b.Release()
	b.Lines, b.Count, b.Trace = append(b.Lines, "x\ny\n"...), 2, trace
	if err := collector(t, s).Enqueue(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	p, err := b.Wait()
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), p.Sequence())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Cairn-Format": bus.Format, "Cairn-Count": "2", "traceparent": trace} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if m.Header.Get(jetstream.MsgIDHeader) == "" {
		t.Error("there is no message id")
	}
}

func TestCollectorSaysWhyNot(t *testing.T) {
	s := testkit.NATS(t)
	c := collector(t, s)
	if _, err := testkit.Publish(t, c, "x\n"); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("without a stream: %v, want %v", err, bus.ErrUnavailable)
	}
	js := testkit.JetStream(t, s, bus.UserProjector)
	stream, err := bus.CreateStream(t.Context(), js, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var last event.Position
	for range 20 {
		var p event.Position
		if p, err = testkit.Publish(t, c, strings.Repeat("x", 200<<10)+"\n"); err != nil {
			break
		}
		last = p
	}
	if !errors.Is(err, bus.ErrFull) {
		t.Errorf("a full stream: %v, want %v", err, bus.ErrFull)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(last.Sequence())); err != nil {
		t.Fatal(err)
	}
	if _, err := testkit.Publish(t, c, "x\n"); err != nil {
		t.Errorf("after room was made: %v", err)
	}
}

func TestNewStreamBeginsAfterTheCheckpoint(t *testing.T) {
	s := testkit.NATS(t)
	if _, err := bus.CreateStream(t.Context(), testkit.JetStream(t, s, bus.UserProjector), 41, bus.MinMaxBytes); err != nil {
		t.Fatal(err)
	}
	p, err := testkit.Publish(t, collector(t, s), "x\n")
	if err != nil || p != event.At(42, 0) {
		t.Errorf("first position %d of sequence %d, %v; want sequence 42", p, p.Sequence(), err)
	}
}

func TestConsumerResumes(t *testing.T) {
	s := testkit.NATS(t)
	js := testkit.JetStream(t, s, bus.UserProjector)
	if _, err := bus.CreateStream(t.Context(), js, 0, bus.MinMaxBytes); err != nil {
		t.Fatal(err)
	}
	c := collector(t, s)
	for range 5 {
		if _, err := testkit.Publish(t, c, "x\n"); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []uint64{0, 3, 1, 4} {
		consumer, err := bus.ResumeAfter(t.Context(), js, after, "")
		if err != nil {
			t.Fatal(err)
		}
		m, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if meta.Sequence.Stream != after+1 {
			t.Errorf("resumed after %d, got %d", after, meta.Sequence.Stream)
		}
	}
}

func TestUsersMayDoTheirPartOnly(t *testing.T) {
	s := testkit.NATS(t)
	if _, err := bus.CreateStream(t.Context(), testkit.JetStream(t, s, bus.UserProjector), 0, bus.MinMaxBytes); err != nil {
		t.Fatal(err)
	}
	if _, err := testkit.Publish(t, collector(t, s), "x\n"); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{bus.UserQuery, bus.UserInspect, bus.UserProjector} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if _, err := testkit.JetStream(t, s, user).Publish(ctx, bus.Subject, []byte("x"), jetstream.WithRetryAttempts(0)); err == nil {
			t.Errorf("%s could publish points", user)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := testkit.JetStream(t, s, bus.UserInspect).DeleteStream(ctx, bus.Stream); err == nil {
		t.Error("inspect could delete the stream")
	}
	// Who gives no password on loopback is inspect.
	nc, err := nats.Connect("nats://" + s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "x\n" {
		t.Errorf("inspect reads %v, %v", m, err)
	}
	if nc, err := nats.Connect("nats://"+s.Addr(), nats.UserInfo(bus.UserInspect, "wrong")); err == nil {
		nc.Close()
		t.Error("a wrong password was accepted")
	}
}

func TestAnnouncementsReachQueryAndIngest(t *testing.T) {
	s := testkit.NATS(t)
	heard := make(chan bus.Applied, 2)
	for _, user := range []string{bus.UserQuery, bus.UserIngest} {
		nc := testkit.JetStream(t, s, user).Conn()
		if err := bus.OnApplied(nc, func(a bus.Applied) { heard <- a }); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	told := bus.Applied{First: 7, Sequence: 7}
	told.Add(event.At(7, 2), bus.OutcomeConflict)
	if err := bus.Announce(testkit.JetStream(t, s, bus.UserProjector).Conn(), told); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case a := <-heard:
			if o, known := a.Outcome(event.At(7, 2)); !known || o != bus.OutcomeConflict || a.Sequence != 7 {
				t.Errorf("heard %+v", a)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("nobody heard it")
		}
	}
}

func TestOutcomes(t *testing.T) {
	a := bus.Applied{First: 3, Sequence: 5}
	for i := range 10 {
		a.Add(event.At(3, i), bus.OutcomeUnchanged)
	}
	a.Add(event.At(3, 10), bus.OutcomeCreated)
	a.Add(event.At(3, 11), bus.OutcomeUnchanged)
	a.Add(event.At(4, 0), bus.OutcomeRefused)
	a.Add(event.At(5, 0), bus.OutcomeUnchanged)
	a.Add(event.At(5, 1), bus.OutcomeLate)
	a.Add(event.At(5, 2), bus.OutcomeLate)
	data, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"first":3,"sequence":5,"outcomes":{"refused":[[16384,16384]],"unchanged":[[12288,12297],[12299,12299],[20480,20482]]},"late":[[20481,20482]],"parked":[16384]}`
	if string(data) != want {
		t.Errorf("\n got %s\nwant %s", data, want)
	}
	for _, tt := range []struct {
		p     event.Position
		want  bus.Outcome
		known bool
	}{
		{event.At(2, 4095), "", false}, {event.At(3, 0), bus.OutcomeUnchanged, true}, {event.At(3, 9), bus.OutcomeUnchanged, true},
		{event.At(3, 10), bus.OutcomeCreated, true}, {event.At(3, 11), bus.OutcomeUnchanged, true}, {event.At(4, 0), bus.OutcomeRefused, true},
		{event.At(4, 1), bus.OutcomeCreated, true}, {event.At(5, 0), bus.OutcomeUnchanged, true}, {event.At(5, 1), bus.OutcomeLate, true}, {event.At(6, 0), "", false},
	} {
		if got, known := a.Outcome(tt.p); got != tt.want || known != tt.known {
			t.Errorf("%d: %q, %v; want %q, %v", tt.p, got, known, tt.want, tt.known)
		}
	}
	tick := bus.Applied{Sequence: 9}
	if _, known := tick.Outcome(event.At(9, 0)); known {
		t.Error("what is about no batch knows an outcome")
	}
}

// Outcomes that do not fit leave all of them unknown, never wrong.
func TestTooManyOutcomes(t *testing.T) {
	s := testkit.NATS(t)
	heard := make(chan bus.Applied, 1)
	query := testkit.JetStream(t, s, bus.UserQuery).Conn()
	if err := bus.OnApplied(query, func(a bus.Applied) { heard <- a }); err != nil {
		t.Fatal(err)
	}
	if err := query.Flush(); err != nil {
		t.Fatal(err)
	}
	a := bus.Applied{First: 1, Sequence: 20}
	for s := range uint64(20) {
		for i := range 500 {
			a.Add(event.At(1<<40+s, 2*i), bus.OutcomeConflict)
		}
	}
	if err := bus.Announce(testkit.JetStream(t, s, bus.UserProjector).Conn(), a); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-heard:
		if _, known := a.Outcome(event.At(1, 0)); known || !a.Truncated || a.First != 1 || a.Sequence != 20 {
			t.Errorf("heard %+v", a)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nobody heard it")
	}
}

func TestTakenPortIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = server.Start(server.Config{Listen: l.Addr().String(), StoreDir: t.TempDir(), Log: testkit.Log(t)})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "--nats-listen") {
		t.Errorf("got %v", err)
	}
}

func TestStoreSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	cfg := server.Config{Listen: "127.0.0.1:0", StoreDir: dir, MaxStore: 1 << 30, Log: testkit.Log(t),
		Passwords: map[string]string{bus.UserProjector: "a", bus.UserIngest: "b", bus.UserQuery: "c", bus.UserInspect: "d"}}
	for i := range 3 {
		s, err := server.Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		js := testkit.JetStream(t, s, bus.UserProjector)
		if i == 0 {
			if _, err := bus.CreateStream(t.Context(), js, 0, bus.MinMaxBytes); err != nil {
				t.Fatal(err)
			}
		}
		c := bus.NewCollector(testkit.JetStream(t, s, bus.UserIngest), s.Refusal, prometheus.NewRegistry(), testkit.Log(t))
		p, err := testkit.Publish(t, c, "x\n")
		if err != nil || p != event.At(uint64(i)+1, 0) {
			t.Errorf("start %d: position %d, %v", i, p, err)
		}
		c.Close()
		s.Close()
	}
}
