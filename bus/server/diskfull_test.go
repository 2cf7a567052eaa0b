package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/testkit"

	"github.com/prometheus/client_golang/prometheus"
)

// A disk that fills up refuses writes; when there is room again, it takes them,
// without anybody's help and with all that was acknowledged.
func TestDiskFullAndFreedAgain(t *testing.T) {
	s, dir, _ := startSmall(t)
	if s == nil {
		return
	}
	c := bus.NewCollector(testkit.JetStream(t, s, bus.UserIngest), s.Refusal, prometheus.NewRegistry(), testkit.Log(t))
	t.Cleanup(c.Close)

	large := strings.Repeat("x", 400<<10) + "\n"
	var last event.Position
	var err error
	for range 50 {
		if last, err = testkit.Publish(t, c, large); err != nil {
			t.Fatal(err)
		}
	}
	// In one go, faster than anyone can watch: the store itself hits the end.
	filler := filepath.Join(dir, "filler")
	testkit.Fill(t, filler, 512)
	for err = nil; err == nil; {
		var p event.Position
		if p, err = testkit.Publish(t, c, large); err == nil {
			last = p
		}
	}
	if !errors.Is(err, bus.ErrFull) && !errors.Is(err, bus.ErrUncertain) {
		t.Errorf("on a full disk: %v", err)
	}
	testkit.Eventually(t, 10*time.Second, "writes to be refused at once", func() bool { return errors.Is(s.Refusal(), bus.ErrFull) })
	if _, err := testkit.Publish(t, c, large); !errors.Is(err, bus.ErrFull) {
		t.Errorf("while it is full: %v", err)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	var p event.Position
	testkit.Eventually(t, 60*time.Second, "a write to be taken again", func() bool {
		p, err = testkit.Publish(t, c, "small\n")
		return err == nil
	})
	if p <= last {
		t.Errorf("position %d after %d: it was given before", p, last)
	}
	js := testkit.JetStream(t, s, bus.UserInspect)
	stream, err := js.Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= last.Sequence(); sequence++ {
		if m, err := stream.GetMsg(t.Context(), sequence); err != nil || string(m.Data) != large {
			t.Fatalf("acknowledged message %d: %v", sequence, err)
		}
	}
}
