package faults

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cairn/internal/testrig"
)

// readPause comes after each read.
const readPause = 50 * time.Millisecond

// reading asks for points that were acknowledged, naming their positions, until
// ctx ends. A reader may be refused at any time; what it is told must be right.
func (s *system) reading(ctx context.Context, seed uint64) {
	c := newClient(s, seed)
	defer c.http.CloseIdleConnections()
	for ctx.Err() == nil {
		if e := s.ledger.One(c.rng.Uint64()); e != nil && e.ID != "" {
			if err := c.look(ctx, e); err != nil {
				s.find("reader: %v", err)
			}
		}
		if err := c.lookAtChange(ctx); err != nil {
			s.find("reader: %v", err)
		}
		if err := c.page(ctx); err != nil {
			s.find("reader: %v", err)
		}
		_ = testrig.Pause(ctx, readPause)
	}
}

// look reads one point that must be there by the position of its answer.
func (c *client) look(ctx context.Context, e *testrig.Entry) error {
	path := fmt.Sprintf("/points/%s?min_position=%d", url.PathEscape(e.ID), e.Position)
	status, body := c.get(ctx, path)
	switch status {
	case http.StatusOK:
		var f testrig.Feature
		if err := testrig.Decode(body, &f); err != nil {
			return fmt.Errorf("GET %s: %w in %s", path, err, body)
		}
		if d := e.Same(f.Got()); d != "" || f.Position > e.Position {
			return fmt.Errorf("GET %s: %s: %s", path, d, body)
		}
		c.s.figures.read()
	case 0, http.StatusServiceUnavailable:
	case http.StatusNotFound:
		if !c.s.mayBeGone(e.Position) {
			return fmt.Errorf("GET %s: LOST: %s", path, body)
		}
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
	var page testrig.Page
	if err := testrig.Decode(body, &page); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	for i := range page.Features {
		g := page.Features[i].Got()
		changes := strings.HasPrefix(g.Name(), changePrefix) // lookAtChange's
		if d := c.s.ledger.Differs(g); d != "" && !changes && !strings.HasPrefix(g.Name(), devicePrefix) {
			return fmt.Errorf("GET %s: %s", path, d)
		}
		if i > 0 && g.Position >= page.Features[i-1].Position {
			return fmt.Errorf("GET %s has position %d after %d", path, g.Position, page.Features[i-1].Position)
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
