package query

import (
	"context"
	"os"
	"runtime/debug"
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
// kept in rows, answers and what clients have yet to take, which would double what
// they cost. They have next to no pointers, so that collecting more often costs next
// to nothing. Who sets GOGC has the last word.
func (s *service) collect(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	ticker := time.NewTicker(collectEvery)
	defer ticker.Stop()
	set := 100
	for {
		select {
		case <-ctx.Done():
			debug.SetGCPercent(100)
			return
		case <-ticker.C:
		}
		if percent := collectPercent(s.kept()); percent < set*9/10 || percent > set*11/10 || percent == 100 && set != 100 {
			debug.SetGCPercent(percent)
			set = percent
		}
	}
}

// kept is how many bytes of points there are in memory, in whatever form.
func (s *service) kept() int {
	_, rows := s.memory.rows.Stat()
	return rows + s.cache.Kept() + s.server.Unsent() + int(s.tail.backlog.Load()) + len(s.places.free)*batchBytes + len(s.making)*answer.MaxBytes
}

func collectPercent(kept int) int {
	if kept <= garbageBytes {
		return 100
	}
	return max(100*garbageBytes/kept, minCollectPercent)
}
