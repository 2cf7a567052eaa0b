package front

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
	// patience bounds the wait for what takes a moment on an idle machine.
	patience = 3 * time.Minute
	// retryPause is short: the tests' outages are.
	retryPause = 20 * time.Millisecond
	// readPause keeps the readers from taking a machine of two cores for
	// themselves: what is tested is that no read fails, not how many succeed.
	readPause = 2 * time.Millisecond
	// maxNotes bounds how many failures are told.
	maxNotes = 20
)

// A Ledger knows what writers have sent, and what of it was acknowledged.
type Ledger struct {
	mu      sync.Mutex
	prefix  string
	sent    map[string]bool
	acked   map[string]int64 // the position that was answered
	refused []string         // answers that no retry mends
	retries int
}

// NewLedger begins a ledger; its points' ids begin with prefix.
func NewLedger(prefix string) *Ledger {
	return &Ledger{prefix: prefix, sent: map[string]bool{}, acked: map[string]int64{}}
}

// Acked is how many points were acknowledged.
func (l *Ledger) Acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// Last is the highest position that was answered.
func (l *Ledger) Last() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := int64(0)
	for _, at := range l.acked {
		last = max(last, at)
	}
	return last
}

// Write starts writers that post one point after the other, each until it is
// acknowledged, as a sensible client does. The result ends them.
func (l *Ledger) Write(base string, writers int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.write(ctx, base, fmt.Sprintf("%s-%d-%d", l.prefix, w, n), n)
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

func (l *Ledger) write(ctx context.Context, base, id string, n int) {
	body := fmt.Appendf(nil, `{"id":%q,"longitude":%d.5,"latitude":%d.25,"name":%q}`, id, n%180, n%90, "named "+id)
	l.mu.Lock()
	l.sent[id] = true
	l.mu.Unlock()
	for ctx.Err() == nil {
		a, err := Do(ctx, http.MethodPost, base+"/point", "application/json", bytes.NewReader(body))
		if err == nil && l.note(id, a) {
			return
		}
		pause(ctx, retryPause)
	}
}

// note tells whether the point needs no other attempt.
func (l *Ledger) note(id string, a Answer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch a.Status {
	case http.StatusAccepted:
		var one Accepted
		if err := json.Unmarshal(a.Body, &one); err == nil && one.ID == id && one.Position > 0 {
			l.acked[id] = one.Position
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
	testkit.Eventually(t, patience, fmt.Sprintf("%d points are acknowledged", target), func() bool { return l.Acked() >= target })
}

// Check compares what is served with what was sent: every acknowledged point is
// there, each once, as it was sent.
func (l *Ledger) Check(t testing.TB, base string) {
	t.Helper()
	if last := l.Last(); last > 0 {
		testkit.Eventually(t, patience, fmt.Sprintf("position %d can be read", last), func() bool {
			a, err := Get(t.Context(), fmt.Sprintf("%s/points?limit=1&min_position=%d", base, last))
			return err == nil && a.Status == http.StatusOK
		})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.refused {
		t.Errorf("refused: %s", r)
	}
	seen := map[string]bool{}
	for _, f := range AllPoints(t, base) {
		id, _ := f.ID.(string)
		if !l.sent[id] {
			continue // another ledger's
		}
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		if f.Properties["name"] != "named "+id {
			t.Errorf("%s has become %v", id, f.Properties)
		}
	}
	lost := 0
	for id := range l.acked {
		if !seen[id] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged points are lost", lost, len(l.acked))
	}
	if len(l.acked) == 0 {
		t.Error("nothing was acknowledged")
	}
	t.Logf("%d sent, %d acknowledged, %d there, %d attempts were refused or failed for now", len(l.sent), len(l.acked), len(seen), l.retries)
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
				pause(ctx, readPause)
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
	testkit.Eventually(t, patience, fmt.Sprintf("%d reads are answered", target), func() bool { return count() >= target })
}

// Stop ends the readers; each read that failed fails the test.
func (r *Readers) Stop(t testing.TB) {
	t.Helper()
	r.stop()
	for _, f := range r.failed {
		t.Error(f)
	}
	t.Logf("%d reads", r.reads)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
