package server_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/event"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// The way of a write: a handler hands lines to the collector, which answers when they
// are on disk; whoever may read the stream finds them there.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := writeAndRead(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// on disk, the first at position 4096
	// message 1: created 01a2006f-5a4f-7388-aa72-6cdd6fdf07a1 at [2.3522 48.8566]
}

func writeAndRead(ctx context.Context) error {
	log := slog.New(slog.DiscardHandler)
	store, err := os.MkdirTemp("", "cairn-example-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(store) }()
	queue, err := server.Start(server.Config{Listen: "127.0.0.1:0", StoreDir: store, MaxStore: 64 << 20,
		Passwords: map[string]string{bus.UserIngest: "a", bus.UserProjector: "b"}, Log: log})
	if err != nil {
		return err
	}
	defer queue.Close()

	projector, err := connect(queue, bus.UserProjector, log)
	if err != nil {
		return err
	}
	defer projector.Conn().Close()
	stream, err := bus.CreateStream(ctx, projector, 0, 16<<20) // the projector makes it
	if err != nil {
		return err
	}

	ingest, err := connect(queue, bus.UserIngest, log)
	if err != nil {
		return err
	}
	defer ingest.Conn().Close()
	collector := bus.NewCollector(ingest, queue.Refusal, prometheus.NewRegistry(), log)
	defer collector.Close()
	b := bus.NewBatch()
	defer b.Release()
	b.Lines = append(b.Lines, `{"id":"01a2006f-5a4f-7388-aa72-6cdd6fdf07a1","type":"created","received":"2026-11-26T10:00:00Z","point":{"type":"Feature","geometry":{"type":"Point","coordinates":[2.3522,48.8566]},"properties":null}}`+"\n"...)
	b.Count = 1
	if err := collector.Enqueue(ctx, b); err != nil {
		return err
	}
	first, err := b.Wait()
	if err != nil {
		return err
	}
	fmt.Println("on disk, the first at position", int64(first))

	m, err := stream.GetMsg(ctx, first.Sequence())
	if err != nil {
		return err
	}
	var d event.Decoder
	for line := range bytes.Lines(m.Data) {
		var e event.Event
		if err := d.Event(bytes.TrimSuffix(line, []byte("\n")), &e); err != nil {
			return err
		}
		fmt.Printf("message %d: %s %s at %v\n", m.Sequence, e.Type, e.ID, e.Point.Position)
	}
	return nil
}

func connect(queue *server.Server, user string, log *slog.Logger) (jetstream.JetStream, error) {
	nc, err := bus.Connect(queue.Endpoint(user), log)
	if err != nil {
		return nil, err
	}
	return jetstream.New(nc)
}
