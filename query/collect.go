package query

import (
	"cmp"
	"context"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"cairn/query/answer"
)

const (
	// garbageBytes is about how much garbage may gather beside what is kept, more than
	// the process has without that.
	garbageBytes      = 48 << 20
	minCollectPercent = 20
	// collectEvery is how often that is seen to: what is kept grows by no more than
	// some large pages meanwhile.
	collectEvery = 100 * time.Millisecond
)

// collect keeps the garbage collector from letting as much garbage gather as there is
// kept in rows, answers and what clients have not read yet, which would double what
// they cost. They have next to no pointers, so that collecting more often costs next
// to nothing. Who sets GOGC has the last word.
func (s *service) collect(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	ticker := time.NewTicker(collectEvery)
	defer ticker.Stop()
	defer s.garbage.setPercent(100)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.collectNow()
		}
	}
}

// collectNow takes care of it at once: before a large page is made, on a machine that may be
// too busy for the ticker.
func (s *service) collectNow() {
	if os.Getenv("GOGC") == "" {
		s.garbage.setPercent(collectPercent(s.heldBytes()))
	}
}

// garbage is how much of it may gather, in percent of what is kept; 0: it was not set.
type garbage struct {
	mu  sync.Mutex
	set int
}

// setPercent sets it, where it differs by a tenth at least: that stops the world for a moment.
func (g *garbage) setPercent(percent int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := cmp.Or(g.set, 100)
	if percent < before*9/10 || percent > before*11/10 || percent == 100 && before != 100 {
		debug.SetGCPercent(percent)
		g.set = percent
	}
}

// heldBytes is how many bytes of points there are in memory, in whatever form.
func (s *service) heldBytes() int {
	_, rows := s.memory.rows.Stat()
	return rows + s.cache.Size() + s.server.Unsent() + int(s.tail.backlog.Load()) + len(s.places.free)*batchBytes + len(s.making)*answer.MaxBytes
}

func collectPercent(held int) int {
	if held <= garbageBytes {
		return 100
	}
	return max(100*garbageBytes/held, minCollectPercent)
}
