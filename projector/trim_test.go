package projector

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/testkit"

	"github.com/nats-io/nats.go/jetstream"
)

func TestTrimmable(t *testing.T) {
	const mib = 1 << 20
	now := time.Now()
	info := func(first, last uint64, bytes uint64) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{Config: jetstream.StreamConfig{MaxBytes: 100 * mib},
			State: jetstream.StreamState{FirstSeq: first, LastSeq: last, Msgs: last - first + 1, Bytes: bytes, FirstTime: now}}
	}
	tests := []struct {
		name    string
		info    *jetstream.StreamInfo
		applied uint64
		window  ReplayWindow
		want    uint64
	}{
		{"empty", &jetstream.StreamInfo{}, 0, ReplayWindow{}, 0},
		{"within the window", info(1, 1000, 40*mib), 1000, ReplayWindow{}, 0},
		{"half of the bound by default", info(1, 1000, 60*mib), 1000, ReplayWindow{}, 166},
		{"beyond a window of one's own", info(1, 1000, 40*mib), 1000, ReplayWindow{Bytes: 10 * mib}, 750},
		{"a little beyond: not worth it", info(1, 1000, 51*mib), 1000, ReplayWindow{}, 0},
		{"what is not projected is not the window's", info(1, 1000, 60*mib), 100, ReplayWindow{}, 0},
		{"crowded: room comes first", info(1, 1000, 90*mib), 400, ReplayWindow{Bytes: 90 * mib}, 334},
		{"crowded by a backlog: the checkpoint's message stays", info(1, 1000, 90*mib), 100, ReplayWindow{}, 100},
		{"nothing applied", info(5, 1000, 90*mib), 5, ReplayWindow{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := trimmable(t.Context(), nil, tt.info, tt.applied, tt.window, now)
			if err != nil || got != tt.want {
				t.Errorf("keep from %d, %v; want %d", got, err, tt.want)
			}
		})
	}
}

func TestTrimsByAge(t *testing.T) {
	b := newBench(t)
	b.start(func(c *Config) { c.Replay = ReplayWindow{Age: time.Hour} })
	var middle time.Time
	var last event.Position
	for i := range 20 {
		if i == 10 {
			middle = time.Now()
		}
		last = b.publish(strings.ReplaceAll(line("n", `{}`), `"n"`, `"x`+string(rune('a'+i))+`"`))
	}
	b.waitFor(last)
	s, err := b.js.Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// An hour later, what came before the middle is older than the window.
	got, err := trimmable(t.Context(), s, info, last.Sequence(), ReplayWindow{Age: time.Hour}, middle.Add(time.Hour))
	if err != nil || got != 11 {
		t.Errorf("keep from %d, %v; want 11", got, err)
	}
	// A clock that jumps can make the window too long or too short, but never
	// reach what is not applied.
	for step, want := range map[time.Duration]uint64{-1000 * time.Hour: 0, 1000 * time.Hour: 15} {
		got, err := trimmable(t.Context(), s, info, 15, ReplayWindow{Age: time.Hour}, middle.Add(step))
		if err != nil || got != want {
			t.Errorf("with the clock off by %v: keep from %d, %v; want %d", step, got, err, want)
		}
	}
}

func TestAFullStreamIsABacklogOnly(t *testing.T) {
	b := newBench(t)
	b.start()
	// Three times what the stream may hold goes through it, because what is
	// projected makes room.
	large := `{"text":"` + strings.Repeat("x", 200<<10) + `"}`
	var last event.Position
	for range 3 * bus.MinMaxBytes / (400 << 10) {
		testkit.Eventually(t, patience, "room in the stream", func() bool {
			p, err := b.tryPublish(line("a"+time.Now().String(), large), line("b"+time.Now().String(), large))
			if err != nil && !errors.Is(err, bus.ErrFull) && !errors.Is(err, bus.ErrUncertain) { // the disk is slow: sent again
				t.Fatal(err)
			}
			last = max(last, p)
			return err == nil
		})
	}
	b.waitFor(last)
}
