package cli

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/internal/testkit"
)

// A stalled is a reader of the log that takes nothing until it is dropped.
type stalled struct {
	letGo chan struct{}
	mu    sync.Mutex
	text  bytes.Buffer
}

func (s *stalled) Write(p []byte) (int, error) {
	<-s.letGo
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *stalled) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Whoever logs does not wait for a reader that has stalled: lines are dropped, and
// it says how many once the reader is back.
func TestLogNeverBlocks(t *testing.T) {
	out := &stalled{letGo: make(chan struct{})}
	b := &logBuffer{out: out}
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const lines = 4 * logBound / 1024
	for range lines { // would wait forever
		if _, err := b.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	b.mu.Lock()
	waiting, dropped := len(b.lines), b.dropped
	b.mu.Unlock()
	if waiting > logBound || dropped == 0 {
		t.Errorf("%d bytes wait, %d lines were dropped", waiting, dropped)
	}
	close(out.letGo)
	testkit.Eventually(t, 10*time.Second, "what waited is written", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.lines) == 0
	})
	fmt.Fprintln(b, "the last")
	b.Close()
	text := out.String()
	kept := strings.Count(text, "x\n")
	if !strings.Contains(text, fmt.Sprintf("lines=%d\nthe last\n", lines-kept)) {
		t.Errorf("%d lines of %d were kept; the end is %q", kept, lines, text[max(0, len(text)-200):])
	}
}
