package garbage

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

// room is how much garbage may gather before it is collected.
func room() int {
	sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64()) - live()
}

// reset forgets what is kept, as a process that starts.
func reset(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Cleanup(func() {
		debug.SetGCPercent(usualPercent)
		bound.set = 0
	})
}

// keep keeps blocks as the queue's server does.
func keep(blocks int) [][]byte {
	kept := make([][]byte, blocks)
	for i := range kept {
		kept[i] = make([]byte, 8<<20)
	}
	runtime.GC()
	return kept
}

func TestBlocks(t *testing.T) {
	reset(t)
	kept := keep(8)
	before := room()
	Look()
	if r := room(); r != before {
		t.Fatalf("room for %d MiB of garbage where no queue is, not %d", r>>20, before>>20)
	}
	forget := CountBlocks()
	defer func() { forget() }()
	Look()
	// What the runtime adds is for stacks and globals.
	if r := room(); r > before*6/10 {
		t.Errorf("room for %d MiB of garbage beside 64 MiB of blocks, %d before they were bounded", r>>20, before>>20)
	}
	runtime.KeepAlive(kept)
	kept = nil
	runtime.GC()
	Look()
	if bound.set != usualPercent {
		t.Errorf("%d %% where few blocks are kept", bound.set)
	}
	kept = keep(8)
	defer runtime.KeepAlive(kept)
	forget()
	forget = func() {}
	Look()
	if bound.set != usualPercent {
		t.Errorf("%d %% once the queue is gone", bound.set)
	}
}

// What is held counts once: beside it the bound is that of what is held.
func TestBlocksBesideHeld(t *testing.T) {
	reset(t)
	defer runtime.KeepAlive(keep(8))
	defer CountBlocks()()
	defer Count(live)()
	Look()
	if want := percent(heldGarbage, live(), leastPercent); bound.set != want {
		t.Errorf("%d %% beside %d MiB, all of them held, not %d", bound.set, live()>>20, want)
	}
}

// What the last collection has not seen counts, while it is told of.
func TestCount(t *testing.T) {
	reset(t)
	forget := Count(func() int { return 2 * heldGarbage })
	also := Count(func() int { return 2 * heldGarbage })
	Look()
	if bound.set != 25 {
		t.Errorf("%d %% beside %d MiB, not 25", bound.set, 4*heldGarbage>>20)
	}
	also()
	Look()
	if bound.set != 50 {
		t.Errorf("%d %% beside %d MiB, not 50", bound.set, 2*heldGarbage>>20)
	}
	forget()
	Look()
	if bound.set != usualPercent {
		t.Errorf("%d %% once nothing is held", bound.set)
	}
}

func TestPercent(t *testing.T) {
	for kept, want := range map[int]int{0: 100, heldGarbage: 100, heldGarbage * 5 / 4: 80, 4 * heldGarbage: 25, 5 * heldGarbage: 20, 100 * heldGarbage: 20} {
		if got := percent(heldGarbage, kept, leastPercent); got != want {
			t.Errorf("%d %% beside %d MiB, not %d", got, kept>>20, want)
		}
	}
}

func TestLastWord(t *testing.T) {
	reset(t)
	t.Setenv("GOGC", "75")
	defer Count(func() int { return 10 * heldGarbage })()
	Look()
	if bound.set != 0 {
		t.Errorf("GOGC=75 became %d", bound.set)
	}
}
