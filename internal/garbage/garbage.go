// Package garbage bounds how much garbage gathers in this process before it is
// collected. By itself Go lets as much gather as there is kept, which would double what
// rows and answers cost. The queue's server lets go of the blocks of its store that it
// has read or written, 8 MiB each, when garbage is collected and not before, so that
// more of it would keep more of them, and these allow more of it again.
package garbage

import (
	"cmp"
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// heldGarbage is about how much may gather beside what is held, more than the
	// process has without that.
	heldGarbage = 48 << 20
	// blockGarbage is the same where the queue's blocks are: four of them.
	blockGarbage = 32 << 20
	// usualPercent is Go's own, of what is kept. leastPercent bounds the work beside
	// what is held, which has next to no pointers for the collector to follow, and
	// leastBlockPercent that beside blocks and everything else: twice the usual work.
	usualPercent, leastPercent, leastBlockPercent = 100, 20, 50
	// lookEvery is how often it is seen to: what is kept grows little meanwhile.
	lookEvery = 100 * time.Millisecond
)

// bound is of the process, as the collector is.
var bound struct {
	mu     sync.Mutex
	held   map[*func() int]struct{}
	blocks int // queues in this process
	set    int // in percent of what is kept; 0: nothing was
}

// Bound sees to it until ctx ends. Who sets GOGC has the last word.
func Bound(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			Look()
		}
	}
}

// Count makes held tell of bytes that are held in memory on purpose, which the last
// collection may not have seen yet, until forget is called.
func Count(held func() int) (forget func()) {
	bound.mu.Lock()
	defer bound.mu.Unlock()
	if bound.held == nil {
		bound.held = map[*func() int]struct{}{}
	}
	bound.held[&held] = struct{}{}
	return func() {
		bound.mu.Lock()
		defer bound.mu.Unlock()
		delete(bound.held, &held)
	}
}

// CountBlocks says that the queue's blocks are in this process, until forget is called.
func CountBlocks() (forget func()) {
	bound.mu.Lock()
	defer bound.mu.Unlock()
	bound.blocks++
	return func() {
		bound.mu.Lock()
		defer bound.mu.Unlock()
		bound.blocks--
	}
}

// Look sees to it at once: before much is allocated, on a machine that may be too busy
// for who does it every now and then.
func Look() {
	if os.Getenv("GOGC") != "" {
		return
	}
	bound.mu.Lock()
	defer bound.mu.Unlock()
	held := 0
	for of := range bound.held {
		held += (*of)()
	}
	allowed := percent(heldGarbage, held, leastPercent)
	if bound.blocks > 0 {
		allowed = min(allowed, percent(blockGarbage, live()-held, leastBlockPercent))
	}
	set(allowed)
}

// set sets it, where it differs by a tenth at least: that stops the world for a moment.
func set(percent int) {
	before := cmp.Or(bound.set, usualPercent)
	if percent < before*9/10 || percent > before*11/10 || percent == usualPercent && before != usualPercent {
		debug.SetGCPercent(percent)
		bound.set = percent
	}
}

// live is how many bytes the last collection left.
func live() int {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64()) //nolint:gosec // less than the machine has
}

// percent is what so much garbage is of what is kept, within bounds.
func percent(garbage, kept, least int) int {
	if kept <= garbage {
		return usualPercent
	}
	return max(usualPercent*garbage/kept, least)
}
