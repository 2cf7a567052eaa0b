package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// postConnections is what the ratio is promised for.
const postConnections = 256

// postScript makes wrk send a point of about 200 bytes as an event.
const postScript = `
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local n = 0
request = function()
  n = n + 1
  return wrk.format(nil, nil, nil, string.format('{"longitude": %.5f, "latitude": %.5f, "name": "bench %d"}',
    math.random() * 360 - 180, math.random() * 180 - 90, n))
end
`

func benchPost(ctx context.Context, sys *system, s settings) error {
	for _, paused := range []bool{true, false} {
		var pairs []pair
		for range s.rounds {
			if err := sys.settle(ctx); err != nil {
				return err
			}
			if paused {
				sys.pause()
			}
			ours, err := sys.wrk(ctx, sys.ingest, s.post)
			sys.resume()
			if err != nil {
				return err
			}
			if err := sys.settle(ctx); err != nil {
				return err
			}
			peer, err := sys.wrk(ctx, sys.noop, s.post)
			if err != nil {
				return err
			}
			pairs = append(pairs, pair{ours, peer})
		}
		how := "running"
		if paused {
			how = "paused"
		}
		report(fmt.Sprintf("durable POST /point ÷ fiber handler that does nothing, projector %s", how), "requests/s", pairs)
	}
	return nil
}

var (
	wrkCounted  = regexp.MustCompile(`(\d+) requests in `)
	wrkRated    = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkFailures = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
)

// wrk returns requests/s. A request that failed is an error: it is no work done.
func (s *system) wrk(ctx context.Context, base string, d time.Duration) (float64, error) {
	script := filepath.Join(s.dir, "post.lua")
	if err := os.WriteFile(script, []byte(postScript), 0o600); err != nil {
		return 0, err
	}
	return wrkRate(ctx, postConnections, d, base+"/point", "-s", script)
}

// A wrkResult is what wrk says of the requests that it made.
type wrkResult struct {
	requests int
	rate     float64 // requests/s
}

func wrkRate(ctx context.Context, connections int, d time.Duration, url string, args ...string) (float64, error) {
	result, err := runWrk(ctx, connections, d, url, args...)
	return result.rate, err
}

// runWrk makes requests for d, in whole seconds.
func runWrk(ctx context.Context, connections int, d time.Duration, url string, args ...string) (result wrkResult, err error) {
	args = append([]string{"-t1", "--timeout", "30s", "-c", strconv.Itoa(connections), "-d", fmt.Sprintf("%ds", int(d.Seconds()))}, args...)
	out, err := exec.CommandContext(ctx, "wrk", append(args, url)...).CombinedOutput()
	if err != nil {
		return result, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	if m := wrkFailures.Find(out); m != nil {
		return result, fmt.Errorf("requests to %s failed: %s", url, m)
	}
	count, rate := wrkCounted.FindSubmatch(out), wrkRated.FindSubmatch(out)
	if count == nil || rate == nil {
		return result, fmt.Errorf("wrk said no rate:\n%s", out)
	}
	if result.requests, err = strconv.Atoi(string(count[1])); err != nil {
		return result, err
	}
	result.rate, err = strconv.ParseFloat(string(rate[1]), 64)
	return result, err
}

// lastSequence is the stream's, by what a write is answered.
func (s *system) lastSequence() (uint64, error) {
	p, err := s.postOne(http.DefaultClient)
	return uint64(p) >> 12, err
}

func (s *system) postOne(client *http.Client) (int64, error) {
	resp, err := client.Post(s.ingest+"/point", "application/json", pointBody())
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct{ Position int64 }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusAccepted {
		return 0, fmt.Errorf("POST /point: %s", resp.Status)
	}
	return answer.Position, nil
}
