package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A sent point can be told again from its id alone, so that the checker needs
// no copy of what was sent.
type sent struct {
	ID        string  `json:"id"`
	Longitude float64 `json:"longitude"`
	Latitude  float64 `json:"latitude"`
	Name      string  `json:"name"`
}

func sentBy(writer, number int) sent {
	const columns, rows = 3600, 1800 // tenths of a degree
	cell := writer*rows + number
	return sent{
		ID:        fmt.Sprintf("w%d-%d", writer, number),
		Longitude: float64(cell%columns)/10 - 180,
		Latitude:  float64(cell/columns%rows)/10 - 90,
		Name:      fmt.Sprintf("point %d of writer %d", number, writer),
	}
}

// A ledger knows what writers have sent, and what of it was acknowledged.
type ledger struct {
	mu      sync.Mutex
	sent    map[string]sent
	acked   map[string]int64 // the position that was answered
	refused []string         // answers that no retry mends
	retries int
}

func newLedger() *ledger { return &ledger{sent: map[string]sent{}, acked: map[string]int64{}} }

func (l *ledger) ackedCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// writing starts writers that post one point after the other, each until it is
// acknowledged, as a sensible client does. The result ends them; a point that
// is on its way then counts as sent only.
func (l *ledger) writing(base string, writers int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.write(ctx, base, sentBy(w, n))
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

// retryPause is short: the tests' outages are.
const retryPause = 20 * time.Millisecond

func (l *ledger) write(ctx context.Context, base string, p sent) {
	body, _ := json.Marshal(p) // numbers and strings
	l.mu.Lock()
	l.sent[p.ID] = p
	l.mu.Unlock()
	for ctx.Err() == nil {
		a, err := postUnder(ctx, base+"/point", body)
		if err == nil && l.note(p, a) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
}

func postUnder(ctx context.Context, url string, body []byte) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := httpClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	return readAll(response)
}

// note tells whether the point needs no other attempt.
func (l *ledger) note(p sent, a answer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch a.status {
	case http.StatusAccepted:
		var one accepted
		if err := json.Unmarshal(a.body, &one); err == nil && one.ID == p.ID && one.Position > 0 {
			l.acked[p.ID] = one.Position
			return true
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		l.retries++
		return false
	}
	l.refused = append(l.refused, fmt.Sprintf("%s: %d %s", p.ID, a.status, a.body))
	return true
}

// check compares what is served with what was sent: every acknowledged point
// once, with its values, and nothing that nobody sent.
func (l *ledger) check(t testing.TB, base string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.refused {
		t.Errorf("refused: %s", r)
	}
	seen := map[string]bool{}
	for _, f := range allPoints(t, base) {
		id, _ := f.ID.(string)
		p, ok := l.sent[id]
		switch {
		case !ok:
			t.Errorf("nobody sent %v", f.ID)
		case seen[id]:
			t.Errorf("%s is there twice", id)
		case !p.is(f):
			t.Errorf("%+v became %+v", p, f)
		}
		seen[id] = true
		// A retry's position is later than that of the attempt that went in.
		if at, ok := l.acked[id]; ok && f.Position > at {
			t.Errorf("%s is at %d but was acknowledged at %d", id, f.Position, at)
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
	t.Logf("%d sent, %d acknowledged, %d there, %d answers asked for a retry", len(l.sent), len(l.acked), len(seen), l.retries)
}

func (p sent) is(f feature) bool {
	if len(f.Geometry.Coordinates) != 2 || f.Properties["name"] != p.Name || len(f.Properties) != 1 {
		return false
	}
	longitude, err := f.Geometry.Coordinates[0].Float64()
	latitude, err2 := f.Geometry.Coordinates[1].Float64()
	return err == nil && err2 == nil && longitude == p.Longitude && latitude == p.Latitude
}
