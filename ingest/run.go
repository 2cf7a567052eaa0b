package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/web"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// lookEvery is how often the stream is looked at, for readiness and status.
	lookEvery = time.Second
	// lookTimeout bounds one look.
	lookTimeout = 3 * time.Second
)

// Config is what the role needs.
type Config struct {
	Server *web.Server
	Bus    bus.Endpoint
	Log    *slog.Logger
	// RequireConditions refuses (428) a PUT, PATCH or DELETE that says nothing of
	// what it expects to be there.
	RequireConditions bool
}

// Run takes points in until ctx ends, which it should after the server has
// drained: what was handed to the queue by then is answered.
func Run(ctx context.Context, cfg Config) error {
	nc, err := bus.Connect(cfg.Bus, cfg.Log)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	collector := bus.NewCollector(js, cfg.Bus.Refusal, cfg.Server.Registry(), cfg.Log)
	collector.OnCommit(cfg.Bus.Acknowledged)
	defer collector.Close()

	h := newHandler(cfg.Server.Stopping(), collector, cfg.Log, cfg.Server.Registry(), defaultLimits)
	if err := bus.OnApplied(nc, h.submit.projection.hear); err != nil {
		return fmt.Errorf("listen to announcements: %w", err)
	}
	h.base, h.prefix = cfg.Server.Base, cfg.Server.Prefix
	h.requireConditions = cfg.RequireConditions
	h.read = func(ctx context.Context, id uuid.UUID) (bus.Stored, error) { return bus.Read(ctx, nc, id) }
	h.memory.read = func(ctx context.Context, key string) ([]byte, error) { return bus.ReadUpload(ctx, nc, key) }
	h.memory.keep = func(ctx context.Context, key string, data []byte) error { return bus.KeepUpload(ctx, js, key, data) }
	w := &streamWatch{js: js}
	h.lastSequence = w.lastSequence
	w.look(ctx)
	cfg.Server.Mount(web.Role{
		Name:   "ingest",
		Routes: h.routes(),
		Ready:  func() error { return w.state.Load().err },
		Status: func(context.Context) any { return w.status(cfg.Bus) },
	})
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			w.look(ctx)
		}
	}
}

// streamWatch knows whether there is a stream to write to: the projector makes
// it, and until then every write is refused.
type streamWatch struct {
	js    jetstream.JetStream
	state atomic.Pointer[streamState]
}

type streamState struct {
	err   error
	state jetstream.StreamState
	bound int64 // in bytes
}

func (w *streamWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	s, err := w.js.Stream(ctx, bus.Stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		w.state.Store(&streamState{err: fmt.Errorf("there is no stream %s yet: the projector makes it when it has reached its database", bus.Stream)})
	case err != nil:
		w.state.Store(&streamState{err: fmt.Errorf("the queue is not reachable: %w", err)})
	default:
		info := s.CachedInfo()
		w.state.Store(&streamState{state: info.State, bound: info.Config.MaxBytes})
	}
}

// lastSequence is the stream's last, as of now.
func (w *streamWatch) lastSequence(ctx context.Context) (uint64, error) {
	s, err := w.js.Stream(ctx, bus.Stream)
	if err != nil {
		return 0, fmt.Errorf("ask for the stream's state: %w", err)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// Status is the role's part of GET /status.
type Status struct {
	Problem      string         `json:"problem,omitempty"`
	LastSequence uint64         `json:"last_sequence"`
	LastPosition event.Position `json:"last_position"`
	StreamBytes  uint64         `json:"stream_bytes"`
	StreamBound  int64          `json:"stream_max_bytes"`
	// DiskFree is what is free under the store, where it is in this process.
	DiskFree int64 `json:"disk_free_bytes,omitempty"`
}

func (w *streamWatch) status(endpoint bus.Endpoint) Status {
	s := w.state.Load()
	out := Status{LastSequence: s.state.LastSeq, LastPosition: event.EndOf(s.state.LastSeq), StreamBytes: s.state.Bytes, StreamBound: s.bound,
		DiskFree: endpoint.DiskFree()}
	if err := errors.Join(s.err, endpoint.Refusal()); err != nil {
		out.Problem = err.Error()
	}
	return out
}
