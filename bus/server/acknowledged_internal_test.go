package server

import (
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"cairn/bus"

	"github.com/nats-io/nats.go/jetstream"
)

// A pollOnce at the store while writes come in must not take the newest for lost.
func TestMarkUnderLoad(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	s, err := Start(Config{Listen: "127.0.0.1:0", StoreDir: filepath.Join(dir, "store"), AcknowledgedFile: filepath.Join(dir, "acknowledged"),
		MaxStore: 1 << 30, Passwords: map[string]string{bus.UserProjector: "a", bus.UserIngest: "b", bus.UserQuery: "c", bus.UserInspect: "d", bus.UserAdmin: "e"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	nc, err := bus.Connect(s.Endpoint(bus.UserAdmin), log)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.CreateStream(t.Context(), js, 0, bus.MinMaxBytes); err != nil {
		t.Fatal(err)
	}
	const writes = 200
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := s.acked.missing(s.current.Load()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range writes {
		ack, err := js.Publish(t.Context(), bus.Subject, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		s.Acknowledged(ack.Sequence)
	}
	close(done)
	looking.Wait()
}
