package testrig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"cairn/internal/testkit"
)

const (
	// retryPause is short: the tests' outages are.
	retryPause = 20 * time.Millisecond
	// readPause keeps the readers from taking a machine of two cores for
	// themselves: what is tested is that no read fails, not how many succeed.
	readPause = 2 * time.Millisecond
	// maxNotes bounds how many failures are told.
	maxNotes = 20
)

// Write starts writers that post one point after the other, each until it is
// acknowledged, as a sensible client does. The result ends them; a point that is
// on its way then counts as sent only.
func (l *Ledger) Write(base string, writers int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			writer := fmt.Sprintf("%s-%d", l.Prefix, w)
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("%s-%d", writer, n)
				l.write(ctx, base, writer, NewRequest(FormPoint, "", NewPoint(name).Called(name, false)))
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

func (l *Ledger) write(ctx context.Context, base, writer string, r *Request) {
	l.Sending(r)
	t := &Turn{Writer: writer, Request: r}
	defer func() { l.Ended(t) }()
	for ctx.Err() == nil {
		t.Attempts++
		a, err := Do(ctx, http.MethodPost, base+r.Path, r.Media, bytes.NewReader(r.Body))
		if err == nil && l.note(t, a) {
			return
		}
		_ = Pause(ctx, retryPause)
	}
}

// note reports whether the request needs no other attempt.
func (l *Ledger) note(t *Turn, a Answer) bool {
	id := t.Request.Points[0].ID
	l.mu.Lock()
	defer l.mu.Unlock()
	switch a.Status {
	case http.StatusAccepted:
		var one Accepted
		if err := json.Unmarshal(a.Body, &one); err == nil && one.ID == id && one.Position > 0 {
			t.Acked, t.Position = true, one.Position
			return true
		}
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		l.retries++
		return false
	}
	if len(l.refused) < maxNotes {
		l.refused = append(l.refused, fmt.Sprintf("%s: %d %s", id, a.Status, a.Body))
	}
	return true
}

// Reach waits until so many more points are acknowledged.
func (l *Ledger) Reach(t testing.TB, more int) {
	t.Helper()
	target := l.Acked() + more
	testkit.Eventually(t, Patience, fmt.Sprintf("%d points are acknowledged", target), func() bool { return l.Acked() >= target })
}

// Readers read without a pause and remember what failed.
type Readers struct {
	mu     sync.Mutex
	reads  int
	failed []string
	stop   func()
}

// Read starts readers of the newest points at base.
func Read(base string, readers int) *Readers {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Readers{}
	var group sync.WaitGroup
	for range readers {
		group.Go(func() {
			for ctx.Err() == nil {
				r.read(ctx, base)
				_ = Pause(ctx, readPause)
			}
		})
	}
	r.stop = func() {
		cancel()
		group.Wait()
	}
	return r
}

func (r *Readers) read(ctx context.Context, base string) {
	a, err := Get(ctx, base+"/points?limit=10")
	if ctx.Err() != nil {
		return // the end cut it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	var page struct{ Type string }
	switch {
	case err != nil:
	case a.Status != http.StatusOK:
		err = fmt.Errorf("%d %s", a.Status, a.Body)
	default:
		if err = json.Unmarshal(a.Body, &page); err == nil && page.Type != "FeatureCollection" {
			err = fmt.Errorf("this is no page: %s", a.Body)
		}
	}
	if err != nil && len(r.failed) < maxNotes {
		r.failed = append(r.failed, fmt.Sprintf("%s: read %d: %v", time.Now().Format("15:04:05.000"), r.reads, err))
	}
}

// Reach waits until so many more reads were answered, well or not.
func (r *Readers) Reach(t testing.TB, more int) {
	t.Helper()
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.reads
	}
	target := count() + more
	testkit.Eventually(t, Patience, fmt.Sprintf("%d reads are answered", target), func() bool { return count() >= target })
}

// End ends the readers, and says how many reads there were and what failed.
func (r *Readers) End() (reads int, failed []string) {
	r.stop()
	return r.reads, r.failed
}

// Stop is End where each read that failed fails the test.
func (r *Readers) Stop(t testing.TB) {
	t.Helper()
	reads, failed := r.End()
	for _, f := range failed {
		t.Error(f)
	}
	t.Logf("%d reads", reads)
}
