// Package testkit gives tests what they run against: a real PostGIS, a real
// stream, and ways to wait for things without sleeping.
//
// One private cluster serves all tests of a process and starts when the first
// one asks; a test's database is a copy of one that was migrated once. With
// DATABASE_URL set, that server is used instead. What a killed run leaves
// behind, the next one removes.
package testkit

import (
	"bytes"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"
)

// pollEvery is how often Eventually looks.
const pollEvery = 10 * time.Millisecond

// Main is the body of a package's TestMain. It does not return.
func Main(m *testing.M) {
	os.Exit(Run(m))
}

// Run is Main for a TestMain that has something of its own to clean up: it
// returns the exit code.
func Run(m *testing.M) int {
	defer shared.close()
	defer prepared.remove()
	return m.Run()
}

// Eventually returns as soon as cond holds. If it does not within the time, the
// test ends, saying what was waited for. Call it from the test's goroutine.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			if !cond() { // it had its last chance a poll ago
				t.Fatalf("waited %v in vain until: %s", within, what)
			}
			return
		case <-tick.C:
		}
	}
}

// Log returns a logger that writes to the test's log, and nowhere once the test
// has ended: what runs on in the background may still use it.
func Log(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(w.close)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct {
	mu sync.Mutex
	t  testing.TB // nil after the test
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Helper()
		w.t.Logf("%s", bytes.TrimRight(p, "\n"))
	}
	return len(p), nil
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}
