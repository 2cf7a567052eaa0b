package cli

import (
	"fmt"
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
	// logBound is how much may wait for a reader that has stalled, in bytes.
	// What comes then is dropped, and counted.
	logBound = 4 << 20
	// logTimeout is how long the end of the process waits for that reader.
	logTimeout = time.Second
)

// A logBuffer gathers lines, and never makes whoever logs wait for whoever reads:
// a pipe that nobody empties blocks its writer forever. Only one goroutine writes,
// and holds no lock meanwhile.
type logBuffer struct {
	out io.Writer

	mu      sync.Mutex
	lines   []byte
	dropped int           // lines, since the last that was kept
	writing chan struct{} // closed when the write under way has ended; nil: none is
	due     bool          // a flush is due within logDelay
}

func (b *logBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lines)+len(line) > logBound {
		b.dropped++
		return len(line), nil
	}
	if b.dropped > 0 {
		b.lines = fmt.Appendf(b.lines, "level=WARN msg=\"log lines were dropped: whoever reads the log has stalled\" lines=%d\n", b.dropped)
		b.dropped = 0
	}
	b.lines = append(b.lines, line...)
	switch {
	case len(b.lines) >= logBytes:
		b.flush()
	case !b.due:
		b.due = true
		time.AfterFunc(logDelay, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.due = false
			b.flush()
		})
	}
	return len(line), nil
}

// flush begins to write what waits, unless a write is under way, which then continues
// with it. The lock is held.
func (b *logBuffer) flush() {
	if b.writing != nil || len(b.lines) == 0 {
		return
	}
	b.writing = make(chan struct{})
	go b.write(b.writing)
}

func (b *logBuffer) write(ended chan struct{}) {
	defer close(ended)
	var spare []byte
	for {
		b.mu.Lock()
		lines := b.lines
		b.lines = spare[:0]
		if len(lines) == 0 {
			b.writing = nil
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		_, _ = b.out.Write(lines) // there is nowhere else to say that it failed
		if spare = lines; cap(spare) > 2*logBytes {
			spare = nil
		}
	}
}

// Close writes out what waits, for as long as logTimeout. The buffer can be used
// on.
func (b *logBuffer) Close() {
	b.mu.Lock()
	b.flush()
	writing := b.writing
	b.mu.Unlock()
	if writing == nil {
		return
	}
	select {
	case <-writing:
	case <-time.After(logTimeout):
	}
}
