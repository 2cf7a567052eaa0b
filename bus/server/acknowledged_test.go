package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cairn/bus"
	"cairn/bus/server"
	"cairn/internal/testkit"
)

// A store that ends before what was acknowledged takes no writes: they would be
// given positions that others were told already.
func TestStoreThatEndsTooEarly(t *testing.T) {
	dir := t.TempDir()
	cfg := server.Config{Listen: "127.0.0.1:0", StoreDir: filepath.Join(dir, "store"), AcknowledgedFile: filepath.Join(dir, "acknowledged"),
		MaxStore: 1 << 30, Log: testkit.Log(t), Passwords: map[string]string{bus.UserProjector: "a", bus.UserIngest: "b", bus.UserQuery: "c", bus.UserInspect: "d", bus.UserAdmin: "e"}}
	start := func() *server.Server {
		s, err := server.Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := start()
	if _, err := bus.CreateStream(t.Context(), testkit.JetStream(t, s, bus.UserProjector), 0, bus.MinMaxBytes); err != nil {
		t.Fatal(err)
	}
	writer := testkit.JetStream(t, s, bus.UserIngest)
	for range 3 {
		ack, err := writer.Publish(t.Context(), bus.Subject, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		s.Acknowledged(ack.Sequence)
	}
	s.Acknowledged(2) // an answer overtaken by the next
	s.Close()
	if highest, err := server.ReadAcknowledged(cfg.AcknowledgedFile); err != nil || highest != 3 {
		t.Fatalf("the acknowledged sequence is %d, %v", highest, err)
	}

	s = start()
	if err := s.Refusal(); err != nil {
		t.Errorf("all is there, and it refuses: %v", err)
	}
	s.Acknowledged(9) // what the store lost
	testkit.Eventually(t, 10*time.Second, "writes are refused", func() bool { return errors.Is(s.Refusal(), bus.ErrDamaged) })
	s.Close()
	s = start()
	if err := s.Refusal(); !errors.Is(err, bus.ErrDamaged) {
		t.Errorf("after a restart: %v", err)
	}
	// Salvage makes a stream that begins above it.
	admin := testkit.JetStream(t, s, bus.UserAdmin)
	if err := admin.DeleteStream(t.Context(), bus.Stream); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.CreateStream(t.Context(), admin, 9, bus.MinMaxBytes); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "writes are taken again", func() bool { return s.Refusal() == nil })
	s.Close()

	if err := os.WriteFile(cfg.AcknowledgedFile, []byte("no number"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := server.Start(cfg); err == nil {
		s.Close()
		t.Error("it starts although the acknowledged sequence cannot be read")
	}
}
