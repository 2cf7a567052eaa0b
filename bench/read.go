package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
)

const (
	// cachedConnections are as many browsers as a hot page may have at once.
	cachedConnections = 64
	// cachedPath is the hot page.
	cachedPath = "/points?limit=100"
)

// benchCached compares the hot page, and a hot tile, from memory, with a handler of the
// same framework that sends the same bytes.
func benchCached(ctx context.Context, sys *system, s settings) error {
	if err := sys.fill(ctx, 1000); err != nil {
		return err
	}
	for _, path := range []string{cachedPath, tilePath + "/0/0/0"} {
		if err := compareCached(ctx, sys, s, path); err != nil {
			return err
		}
	}
	return nil
}

func compareCached(ctx context.Context, sys *system, s settings, path string) error {
	body, err := get(sys.query + path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, sys.noop+"/points", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	var pairs []pair
	for range s.rounds {
		ours, err := wrkRate(ctx, cachedConnections, s.read, sys.query+path)
		if err != nil {
			return err
		}
		peer, err := wrkRate(ctx, cachedConnections, s.read, sys.noop+"/points")
		if err != nil {
			return err
		}
		pairs = append(pairs, pair{ours, peer})
	}
	report(fmt.Sprintf("cached GET %s ÷ fiber handler, %d bytes", path, len(body)), "requests/s", pairs)
	return nil
}

func areaQuery() string {
	x, y := rand.Float64()*350-180, rand.Float64()*170-90
	return fmt.Sprintf("limit=100&bbox=%.6f,%.6f,%.6f,%.6f", x, y, x+3, y+3)
}

// fill puts rows in, spread over the world.
func (s *system) fill(ctx context.Context, rows int) error {
	_, err := s.upload(ctx, uploadPath, worldRows(rows), rows)
	return err
}

func get(url string) ([]byte, error) {
	resp, err := http.Get(url) //nolint:gosec // our own
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s %.200s", url, resp.Status, body)
	}
	return body, err
}
