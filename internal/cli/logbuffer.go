package cli

import (
	"io"
	"sync"
	"time"
)

const (
	// logDelay is the longest that a log line waits for others to share a
	// system call. A line a request, each with a call of its own, cost a tenth
	// of all the work at full load.
	logDelay = 50 * time.Millisecond
	// logBytes is when it waits no longer.
	logBytes = 32 << 10
)

// A logBuffer gathers lines. Close writes out what is left.
type logBuffer struct {
	mu      sync.Mutex
	out     io.Writer
	lines   []byte
	waiting bool // a flush is due within logDelay
}

func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line...)
	switch {
	case len(b.lines) >= logBytes:
		b.flush()
	case !b.waiting:
		b.waiting = true
		time.AfterFunc(logDelay, b.Close)
	}
	return len(line), nil
}

// Close writes out what waits. The buffer can be used on.
func (b *logBuffer) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = false
	b.flush()
}

func (b *logBuffer) flush() {
	if len(b.lines) > 0 {
		_, _ = b.out.Write(b.lines) // there is nowhere else to say that it failed
		b.lines = b.lines[:0]
	}
}
