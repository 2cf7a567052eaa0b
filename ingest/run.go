package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/ingest/device"
	"cairn/internal/web"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pollEvery is how often the state of the stream is read, for readiness and status.
	pollEvery = time.Second
	// pollTimeout bounds one such read.
	pollTimeout = 3 * time.Second
)

// Config is what the role needs.
type Config struct {
	Server *web.Server
	Bus    bus.Endpoint
	Log    *slog.Logger
	// RequireConditions refuses (428) a PUT, PATCH or DELETE that says nothing of
	// what it expects to be there.
	RequireConditions bool
	// MQTT is where devices publish; nil: nowhere.
	MQTT *MQTT
	// Forms are how programs name what they send, beside those that are built in.
	Forms device.Forms
	// Hint tells the query role, where that is beside, before a writer is told.
	Hint *bus.Hint
}

// Run accepts writes until ctx ends, which should be after the server has
// drained: everything that the queue has been given by then is answered.
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
	writer, err := bus.Connect(cfg.Bus.Writer(), cfg.Log)
	if err != nil {
		return err
	}
	defer writer.Close()
	publisher, err := jetstream.New(writer)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	collector := bus.NewCollector(publisher, cfg.Bus.Refusal, cfg.Server.Registry(), cfg.Log)
	collector.OnCommit(cfg.Bus.Acknowledged)
	collector.Replicated(cfg.Bus.Replicas() > 1)
	defer collector.Close()

	h := newHandler(cfg.Server.Stopping(), collector, cfg.Log, cfg.Server.Registry(), defaultLimits)
	if err := bus.OnApplied(nc, func(a bus.Applied) { cfg.Hint.Notify(a.Sequence); h.submit.projection.hear(a) }); err != nil {
		return fmt.Errorf("listen to announcements: %w", err)
	}
	h.base, h.prefix = cfg.Server.Base, cfg.Server.Prefix
	h.requireConditions = cfg.RequireConditions
	h.forms = device.BuiltInForms(cfg.Forms)
	h.read = func(ctx context.Context, id uuid.UUID) (bus.Stored, error) { return bus.Read(ctx, nc, id) }
	h.changeResource = func(ctx context.Context, k bus.ResourceChange) (bus.ResourceResult, error) {
		return bus.RequestChange(ctx, nc, k)
	}
	h.memory.read = func(ctx context.Context, key string) ([]byte, error) { return bus.ReadUpload(ctx, nc, key) }
	h.memory.keep = func(ctx context.Context, key string, data []byte) error { return bus.KeepUpload(ctx, js, key, data) }
	w := newStreamHealth(js, collector, cfg)
	h.lastSequence = w.lastSequence
	w.poll(ctx)
	cfg.Server.Mount(web.Role{
		Name:   "ingest",
		Routes: h.routes(),
		Ready:  w.ready,
		Status: func(context.Context) any { return w.status() },
	})
	published := make(chan error, 1)
	if cfg.MQTT != nil {
		m := *cfg.MQTT
		m.Clients, m.Metrics = cfg.Server.Neighbours(), cfg.Server.Registry()
		go func() { published <- h.serveMQTT(ctx, &m, cfg.Server.Access()) }()
	} else {
		context.AfterFunc(ctx, func() { published <- nil })
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-published: // when ctx has ended, or on its own
			return err
		case <-ticker.C:
			w.poll(ctx)
		}
	}
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
	// Copies of the stream, where it should have several.
	Copies *bus.Copies `json:"copies,omitempty"`
	// Note is what cannot be seen from here.
	Note string `json:"note,omitempty"`
}

// noteForeign is of servers that are not Cairn's own.
const noteForeign = "the queue is run by others: whether its servers sync each message to disk before they acknowledge it cannot be seen from here (in nats-server: jetstream.sync_interval: always)"
