package faults

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cairn/e2e/faults/lossy"
	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// The file system under the store becomes read-only, as a kernel makes it after an error
// of the disk, with writes under way or without: /readyz says so and writes are refused
// with the reason, also where none had come to find it out. Once it can be written
// again service resumes on its own, and what was acknowledged is there.
func TestReadOnlyDisk(t *testing.T) {
	if !mayMount(t) {
		return
	}
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy %v", busy), func(t *testing.T) {
			m := &machine{t: t, disk: lossy.New(), data: testkit.Folder(t), logs: t.TempDir(), acked: map[int64]string{}}
			store := filepath.Join(m.data, "jetstream")
			if err := os.Mkdir(store, 0o755); err != nil {
				t.Fatal(err)
			}
			mount(t, m.disk, store)
			m.start(true)
			m.ready(true, "")
			stop := m.write(busy)
			m.disk.ReadOnly(true)
			m.ready(false, "the queue's store cannot be written: ")
			a, err := testrig.Do(t.Context(), http.MethodPost, m.base+"/point", "application/json", strings.NewReader(`{"longitude":1,"latitude":2}`))
			if err != nil || a.Status != http.StatusServiceUnavailable || !strings.Contains(string(a.Body), "the queue's store cannot be written: ") || a.Header.Get("Retry-After") == "" {
				t.Errorf("a write: %d %s %v", a.Status, a.Body, err)
			}
			m.disk.ReadOnly(false)
			m.ready(true, "")
			before := m.written()
			testkit.Eventually(t, settleBound, "a write is taken again", func() bool {
				return m.send(t.Context(), testrig.NewPoint("after").Called(fmt.Sprintf("after %d", m.written()), false))
			})
			stop()
			if m.written() == before {
				t.Error("nothing was acknowledged")
			}
			if lost := m.missing(); lost > 0 {
				t.Errorf("%d of %d acknowledged points are lost", lost, len(m.acked))
			}
			m.process.Kill()
		})
	}
}

// ready waits until /readyz says yes, or no with these words.
func (m *machine) ready(want bool, words string) {
	m.t.Helper()
	last := ""
	err := testrig.Until(m.t.Context(), settleBound, fmt.Sprintf("/readyz is %v", want), func(ctx context.Context) error {
		a, err := testrig.Get(ctx, m.base+"/readyz")
		if last = string(a.Body); err == nil && ((a.Status == http.StatusOK) != want || !strings.Contains(last, words)) {
			err = fmt.Errorf("it is %d %s", a.Status, last)
		}
		return err
	})
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.process.Stderr.Tail())
	}
}

// write writes one point and, where it is to be busy, continues until the result is called.
func (m *machine) write(busy bool) (stop func()) {
	m.t.Helper()
	send := func(ctx context.Context, n int) bool {
		name := fmt.Sprintf("point %d", n)
		return m.send(ctx, testrig.NewPoint(name).Called(name, false))
	}
	testkit.Eventually(m.t, settleBound, "a write is taken", func() bool { return send(m.t.Context(), 0) })
	if !busy {
		return func() {}
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 1; ctx.Err() == nil; n++ {
			send(ctx, n)
		}
	}()
	return func() { cancel(); <-ended }
}

func (m *machine) written() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}
