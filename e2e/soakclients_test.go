package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn/internal/testrig"
)

const (
	// soakPause is between two requests of an honest client.
	soakPause = 25 * time.Millisecond
	// soakRows are those of an honest upload.
	soakRows = 20
)

// do asks with the key.
func (k *soak) do(ctx context.Context, method, path, media, body string) (testrig.Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, k.base+path, strings.NewReader(body))
	if err != nil {
		return testrig.Answer{}, err
	}
	request.Header.Set("Authorization", "Bearer "+k.key)
	if media != "" {
		request.Header.Set("Content-Type", media)
	}
	return testrig.Send(request)
}

// get is the status of an answer, 0 for none.
func (k *soak) get(ctx context.Context, path string) int {
	a, err := k.do(ctx, http.MethodGet, path, "", "")
	if err != nil {
		return 0
	}
	return a.Status
}

// fill makes pages large: what attackers leave unread.
func (k *soak) fill(t *testing.T) {
	t.Helper()
	var body strings.Builder
	for i := range 400 {
		fmt.Fprintf(&body, `{"longitude":%d,"latitude":40,"name":"large","properties":{"pad":%q}}`+"\n", i%180, strings.Repeat("x", 20_000))
	}
	a, err := k.do(t.Context(), http.MethodPost, "/point", "application/x-ndjson", body.String())
	if err != nil || a.Status != http.StatusAccepted {
		t.Fatal(a.Status, err)
	}
}

// write sends points, one by one and many at once, each until it is acknowledged.
func (k *soak) write(ctx context.Context, n int) {
	for i := 0; ctx.Err() == nil; i++ {
		var ids []string
		var body strings.Builder
		rows, media := 1, "application/json"
		if i%10 == 0 {
			rows, media = soakRows, "application/x-ndjson"
		}
		for row := range rows {
			id := fmt.Sprintf("s%d.%d.%d.%d", n, time.Now().UnixNano(), i, row)
			ids = append(ids, id)
			fmt.Fprintf(&body, `{"id":%q,"longitude":%d,"latitude":%d,"name":"writer %d"}`+"\n", id, i%180, i%80, n)
		}
		for ctx.Err() == nil {
			a, err := k.do(ctx, http.MethodPost, "/point", media, body.String())
			if err == nil && a.Status == http.StatusAccepted {
				k.mu.Lock()
				for _, id := range ids {
					k.acknowledged[id] = true
				}
				k.counts.points += rows
				k.mu.Unlock()
				break
			}
			k.count(func(c *soakCounts) { c.refused++ })
			_ = testrig.Pause(ctx, 10*soakPause)
		}
		_ = testrig.Pause(ctx, soakPause)
	}
}

// read asks for pages of several kinds, most of which nobody has asked for before.
func (k *soak) read(ctx context.Context, n int) {
	for i := 0; ctx.Err() == nil; i++ {
		path := []string{
			fmt.Sprintf("/points?limit=100&bbox=%d,0,%d.%d,50", i%90, 90+i%90, i),
			"/latest?limit=10",
			"/tracks/writer%20" + fmt.Sprint(n),
			fmt.Sprintf("/collections/points/tiles/WebMercatorQuad/%d/1/1", 2+i%3),
		}[i%4]
		if status := k.get(ctx, path); status == http.StatusOK || status == http.StatusNoContent || status == http.StatusNotFound {
			k.count(func(c *soakCounts) { c.pages++ })
		} else if ctx.Err() == nil {
			k.count(func(c *soakCounts) { c.refused++ })
		}
		_ = testrig.Pause(ctx, soakPause)
	}
}

// follow reads a stream, and comes again where it ends.
func (k *soak) follow(ctx context.Context) {
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.base+"/stream", nil)
		if err != nil {
			return
		}
		request.Header.Set("Authorization", "Bearer "+k.key)
		request.Header.Set("Accept", "text/event-stream")
		response, err := (&http.Client{}).Do(request)
		if err == nil {
			lines := bufio.NewScanner(response.Body)
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "data: ") {
					k.count(func(c *soakCounts) { c.events++ })
				}
			}
			_ = response.Body.Close()
		}
		_ = testrig.Pause(ctx, 10*soakPause)
	}
}
