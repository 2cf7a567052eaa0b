package projector

import (
	"testing"

	"cairn/bus"
	"cairn/internal/testkit"

	"github.com/nats-io/nats.go/jetstream"
)

// The stream's bound is what the disks of the queue's nodes allow, not the projector's.
func TestStreamBound(t *testing.T) {
	const asked, own = 1 << 61, 7
	cfg := Config{WantBytes: asked, MaxBytes: own, Replicas: 3}
	open := func(e bus.Endpoint) jetstream.JetStream {
		nc, err := bus.Connect(e, testkit.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return js
	}
	single := testkit.NATS(t)
	if got := streamBound(t.Context(), open(single.Endpoint(bus.UserProjector)), cfg); got != own {
		t.Errorf("where no node tells: %d, want %d", got, own)
	}
	c := testkit.NewCluster(t, t.TempDir(), 3)
	c.StartAll()
	js := open(c.Nodes[0].Endpoint(bus.UserProjector))
	testkit.Eventually(t, failoverPatience, "the nodes have found each other", func() bool {
		nodes, err := bus.AskNodes(t.Context(), js.Conn(), 3)
		return err == nil && len(nodes) == 3
	})
	if got := streamBound(t.Context(), js, cfg); got == own || got >= asked || got < bus.MinMaxBytes {
		t.Errorf("by the nodes' disks: %d", got)
	}
	cfg.WantBytes = bus.MinMaxBytes
	if got := streamBound(t.Context(), js, cfg); got != bus.MinMaxBytes {
		t.Errorf("what is asked for and fits: %d, want %d", got, bus.MinMaxBytes)
	}
}
