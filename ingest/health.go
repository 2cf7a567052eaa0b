package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"cairn/bus"
	"cairn/event"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// A streamHealth knows whether there is a stream to write to: the projector makes it,
// and until then every write is refused. It knows how many copies it has, too.
type streamHealth struct {
	js        jetstream.JetStream
	collector *bus.Collector
	endpoint  bus.Endpoint
	state     atomic.Pointer[streamState]
	metrics   streamMetrics
}

type streamState struct {
	err    error
	absent bool // err says that there is none
	state  jetstream.StreamState
	bound  int64 // in bytes
	copies bus.Copies
}

type streamMetrics struct{ wanted, whole, led prometheus.Gauge }

func newStreamHealth(js jetstream.JetStream, collector *bus.Collector, cfg Config) *streamHealth {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		cfg.Server.Registry().MustRegister(g)
		return g
	}
	return &streamHealth{js: js, collector: collector, endpoint: cfg.Bus, metrics: streamMetrics{
		wanted: gauge("cairn_queue_copies_wanted", "Copies that the stream should have."),
		whole:  gauge("cairn_queue_copies_whole", "Copies of the stream that have all that is committed, by its leader; 0 while nobody leads it."),
		led:    gauge("cairn_queue_leader", "1 while a node leads the stream: without one no write is taken."),
	}}
}

func (w *streamHealth) poll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	s, err := w.js.Stream(ctx, bus.Stream)
	before := w.state.Load()
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		w.state.Store(&streamState{absent: true, err: fmt.Errorf("there is no stream %s yet: the projector makes it when it has reached its database", bus.Stream)})
	case err != nil:
		now := streamState{}
		if before != nil {
			now = *before // what was seen last
		}
		now.absent, now.err = false, fmt.Errorf("the queue is not reachable: %w", err)
		now.copies.Whole, now.copies.Leader = 0, ""
		w.state.Store(&now)
	default:
		info := s.CachedInfo()
		now := &streamState{state: info.State, bound: info.Config.MaxBytes, copies: bus.CopiesOf(info)}
		w.collector.Replicated(max(now.copies.Wanted, w.endpoint.Replicas()) > 1)
		w.state.Store(now)
	}
	w.measure()
}

func (w *streamHealth) measure() {
	s := w.state.Load()
	led := 0.0
	if s.err == nil && (s.copies.Wanted == 1 || s.copies.Leader != "") {
		led = 1
	}
	w.metrics.led.Set(led)
	w.metrics.wanted.Set(float64(max(s.copies.Wanted, w.endpoint.Replicas())))
	w.metrics.whole.Set(float64(s.copies.Whole))
}

// ready says why no write can be taken. Where the stream has several copies it is
// what became of the last write that counts, not whether the leader answers a look:
// during an election it does not, and without a quorum it may.
func (w *streamHealth) ready() error {
	s := w.state.Load()
	if max(s.copies.Wanted, w.endpoint.Replicas()) <= 1 || s.absent {
		return errors.Join(s.err, w.endpoint.Refusal())
	}
	return errors.Join(w.collector.Ready(), w.endpoint.Refusal(), w.endpoint.Joined())
}

// lastSequence is the stream's last, as of now.
func (w *streamHealth) lastSequence(ctx context.Context) (uint64, error) {
	s, err := w.js.Stream(ctx, bus.Stream)
	if err != nil {
		return 0, fmt.Errorf("ask for the stream's state: %w", err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

func (w *streamHealth) status() Status {
	s := w.state.Load()
	out := Status{LastSequence: s.state.LastSeq, LastPosition: event.EndOf(s.state.LastSeq), StreamBytes: s.state.Bytes, StreamBound: s.bound,
		DiskFree: w.endpoint.DiskFree()}
	problem := errors.Join(s.err, w.endpoint.Refusal(), w.collector.Ready(), w.endpoint.Joined())
	if s.copies.Wanted > 1 || w.endpoint.Replicas() > 1 {
		copies := s.copies
		copies.Wanted = max(copies.Wanted, w.endpoint.Replicas())
		out.Copies = &copies
		if text := copies.Problem(); text != "" && s.err == nil {
			problem = errors.Join(problem, errors.New(text))
		}
	}
	if problem != nil {
		out.Problem = problem.Error()
	}
	if w.endpoint.Local == nil {
		out.Note = noteForeign
	}
	return out
}
