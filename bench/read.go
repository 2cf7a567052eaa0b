package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cairn/query"

	"github.com/jackc/pgx/v5"
)

const (
	// cachedConnections are as many browsers as a hot page may have at once.
	cachedConnections = 64
	// uncachedConnections are twice the database's: some wait, none is refused.
	uncachedConnections = 8
	// cachedPath is the hot page.
	cachedPath = "/points?limit=100"
)

// benchCached compares the hot page, from memory, with a handler of the same
// framework that sends the same bytes.
func benchCached(ctx context.Context, sys *system, s settings) error {
	if err := sys.fill(ctx, 1000); err != nil {
		return err
	}
	body, err := get(sys.query + cachedPath)
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
		ours, err := runWrk(ctx, cachedConnections, s.read, sys.query+cachedPath)
		if err != nil {
			return err
		}
		peer, err := runWrk(ctx, cachedConnections, s.read, sys.noop+cachedPath)
		if err != nil {
			return err
		}
		pairs = append(pairs, pair{ours, peer})
	}
	report(fmt.Sprintf("cached GET %s ÷ fiber handler, %d bytes", cachedPath, len(body)), "requests/s", pairs)
	return nil
}

// areaScript makes wrk ask for an area of 3 by 3 degrees, another one each time.
const areaScript = `
math.randomseed(%d)
request = function()
  local x, y = math.random() * 350 - 180, math.random() * 170 - 90
  return wrk.format("GET", string.format("/points?limit=100&bbox=%%.6f,%%.6f,%%.6f,%%.6f", x, y, x + 3, y + 3))
end
`

func areaQuery() string {
	x, y := rand.Float64()*350-180, rand.Float64()*170-90
	return fmt.Sprintf("limit=100&bbox=%.6f,%.6f,%.6f,%.6f", x, y, x+3, y+3)
}

// benchUncached compares areas that nobody asked for before with their
// statements alone.
func benchUncached(ctx context.Context, sys *system, s settings) error {
	if err := sys.fill(ctx, s.table); err != nil {
		return err
	}
	peer, err := query.OpenPeer(ctx, sys.cluster.URL())
	if err != nil {
		return err
	}
	defer peer.Close()
	script := filepath.Join(sys.dir, "area.lua")
	var pairs []pair
	for range s.rounds {
		if err := os.WriteFile(script, fmt.Appendf(nil, areaScript, rand.IntN(1<<30)), 0o600); err != nil {
			return err
		}
		ours, err := runWrk(ctx, uncachedConnections, s.read, sys.query, "-s", script)
		if err != nil {
			return err
		}
		alone, err := askAlone(peer, s.read)
		if err != nil {
			return err
		}
		pairs = append(pairs, pair{ours, alone})
	}
	report(fmt.Sprintf("uncached GET /points?bbox, %d rows ÷ its statements through pgx", s.table), "requests/s", pairs)
	return nil
}

func askAlone(peer *query.Peer, d time.Duration) (float64, error) {
	var asked atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for range uncachedConnections {
		wg.Go(func() {
			for time.Since(start) < d {
				if _, err := peer.Ask(areaQuery()); err != nil {
					failed.Store(&err)
					return
				}
				asked.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(asked.Load()) / time.Since(start).Seconds(), nil
}

// fill empties the table and puts rows in, spread over the world, as if they had
// come before everything else.
func (s *system) fill(ctx context.Context, rows int) error {
	if err := s.settle(ctx); err != nil {
		return err
	}
	err := s.withConn(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `insert into points (id, position, name, geom, received_at, properties)
			select gen_random_uuid(), i - $1, 'place ' || i, ST_SetSRID(ST_MakePoint(random() * 360 - 180, random() * 180 - 90), 4326), now(),
				jsonb_build_object('name', 'place ' || i, 'country', 'XX', 'population', i, 'modified', '2026-11-21')
			from generate_series(1, $1::bigint) i`, rows)
		if err == nil {
			_, err = conn.Exec(ctx, "vacuum analyze points")
		}
		return err
	})
	if err != nil {
		return err
	}
	// What was kept of the table before is no longer so: the next sequence ends it.
	last, err := s.lastSequence()
	if err != nil {
		return err
	}
	return s.applied(ctx, last)
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
