package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"cairn/internal/postgres"
	"cairn/internal/testkit"
)

// Where it cannot be told whether the server runs, because there are no free files, it is
// left alone: its pid file above all, without which it shuts itself down.
func TestNoFreeFiles(t *testing.T) {
	dir := folder(t)
	var said said
	c, err := postgres.Start(t.Context(), dir, slog.New(slog.NewTextHandler(&said, nil)), postgres.Unsafe())
	if err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(dir, "cluster", "postmaster.pid")
	if _, err := os.Stat(pidFile); err != nil {
		t.Fatal(err)
	}
	pid := c.PID()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	restore := func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.Supervise(ctx)
		close(ended)
	}()
	testkit.Eventually(t, patience, "it to be told", func() bool { return said.has("too many open files") })
	startErr := c.Start(t.Context())
	restore()
	cancel()
	<-ended
	if !errors.Is(startErr, syscall.EMFILE) {
		t.Errorf("a start says %v", startErr)
	}
	if _, err := os.Stat(pidFile); err != nil {
		t.Error(err)
	}
	if got := query(t, c.URL(), "select 'up'"); got != "up" || c.PID() != pid {
		t.Errorf("%q of process %d, want one of %d", got, c.PID(), pid)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// said is what was logged.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) has(words string) bool { return strings.Contains(s.String(), words) }

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
