//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// readPause comes after each read.
const readPause = 50 * time.Millisecond

// reading asks for points that were acknowledged, naming their positions, until
// ctx ends. A reader may be refused at any time; what it is told must be right.
func (s *system) reading(ctx context.Context, seed uint64) {
	c := newClient(s, seed)
	defer c.http.CloseIdleConnections()
	for ctx.Err() == nil {
		if e := s.ledger.one(c.rng.Uint64()); e != nil && e.id != "" {
			if err := c.look(ctx, e); err != nil {
				s.find("reader: %v", err)
			}
		}
		if err := c.page(ctx); err != nil {
			s.find("reader: %v", err)
		}
		_ = pause(ctx, readPause)
	}
}

// look reads one point that must be there by the position of its answer.
func (c *client) look(ctx context.Context, e *entry) error {
	path := fmt.Sprintf("/points/%s?min_position=%d", url.PathEscape(e.id), e.position)
	status, body := c.get(ctx, path)
	switch status {
	case http.StatusOK:
		var f feature
		if err := json.Unmarshal(body, &f); err != nil {
			return fmt.Errorf("GET %s: %w in %s", path, err, body)
		}
		if d := e.same(f.got()); d != "" || f.Position > e.position {
			return fmt.Errorf("GET %s: %s: %s", path, d, body)
		}
		c.s.figures.read()
	case 0, http.StatusServiceUnavailable:
	default:
		return fmt.Errorf("GET %s: %d %s", path, status, body)
	}
	return nil
}

// page reads the newest points: each once, newest first, and all sent by someone.
func (c *client) page(ctx context.Context) error {
	const path = "/points?limit=100"
	status, body := c.get(ctx, path)
	switch status {
	case http.StatusOK:
	case 0, http.StatusServiceUnavailable:
		return nil
	default:
		return fmt.Errorf("GET %s: %d %s", path, status, body)
	}
	var page struct{ Features []feature }
	if err := json.Unmarshal(body, &page); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	c.s.ledger.mu.Lock()
	defer c.s.ledger.mu.Unlock()
	for i := range page.Features {
		g := page.Features[i].got()
		if e := c.s.ledger.points[g.name()]; e == nil || e.same(g) != "" {
			return fmt.Errorf("GET %s has %q, which is not as it was sent", path, g.name())
		}
		if i > 0 && g.position >= page.Features[i-1].Position {
			return fmt.Errorf("GET %s has position %d after %d", path, g.position, page.Features[i-1].Position)
		}
	}
	c.s.figures.read()
	return nil
}

// get returns status 0 where no answer came.
func (c *client) get(ctx context.Context, path string) (status int, body []byte) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.s.proxies["client-query"].address+path, nil)
	if err != nil {
		return 0, nil
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		return 0, nil
	}
	return response.StatusCode, body
}
