package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// fairClients ask for boxes of fairPoints points, without a pause.
	fairClients = 20
	fairPoints  = 10_000
	// fairTable is the rows in the table, spread over the world, and fairIDs how many of
	// them are asked for.
	fairTable = 200_000
	fairIDs   = 5_000
	// fairLead is how long the boxes are asked for before the point is.
	fairLead = 2 * time.Second
)

// fairBoxes makes wrk ask for a wide box, another one each time.
const fairBoxes = `
math.randomseed(%d)
request = function()
  local x, y = -180 + 170 * math.random(), -90 + 80 * math.random()
  return wrk.format("GET", string.format("/points?limit=%d&bbox=%%.6f,%%.6f,%%.6f,%%.6f", x, y, x + 180, y + 90))
end
`

// fairPoint makes wrk ask for one point, any of some.
const fairPoint = `
math.randomseed(%d)
local ids = {"%s"}
request = function() return wrk.format("GET", "/points/" .. ids[math.random(#ids)]) end
`

// benchFair measures what callers that ask for much do to one who asks for little: a client
// in a process of its own, which gets points by id, one after the other, alone and
// beside others who get the largest pages.
func benchFair(ctx context.Context, sys *system, s settings) error {
	if err := sys.fill(ctx, fairTable); err != nil {
		return err
	}
	body, err := get(fmt.Sprintf("%s/points?limit=%d", sys.query, fairIDs))
	if err != nil {
		return err
	}
	var page struct{ Features []struct{ ID string } }
	if err := json.Unmarshal(body, &page); err != nil || len(page.Features) != fairIDs {
		return errors.Join(err, fmt.Errorf("a page has %d points", len(page.Features)))
	}
	ids := make([]string, fairIDs)
	for i, f := range page.Features {
		ids[i] = f.ID
	}
	boxes, point := filepath.Join(sys.dir, "fair-boxes.lua"), filepath.Join(sys.dir, "fair-point.lua")
	var pairs []pair
	for range s.rounds {
		for file, text := range map[string]string{boxes: fmt.Sprintf(fairBoxes, rand.Int32(), fairPoints), point: fmt.Sprintf(fairPoint, rand.Int32(), strings.Join(ids, `","`))} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				return err
			}
		}
		alone, err := wrkP99(ctx, sys.query, point, s.read)
		if err != nil {
			return err
		}
		beside, err := fairBeside(ctx, sys.query, boxes, point, s.read)
		if err != nil {
			return err
		}
		pairs = append(pairs, pair{beside, alone})
	}
	report(fmt.Sprintf("p99 of GET /points/{id} beside %d clients of %d points ÷ alone", fairClients, fairPoints), "µs", pairs)
	return nil
}

// fairBeside is the p99 of points while boxes are asked for.
func fairBeside(ctx context.Context, base, boxes, point string, d time.Duration) (float64, error) {
	crowd := make(chan error, 1)
	go func() {
		crowd <- fairCrowd(ctx, base, boxes, d+2*fairLead)
	}()
	select {
	case err := <-crowd:
		return 0, err
	case <-time.After(fairLead):
	}
	p99, err := wrkP99(ctx, base, point, d)
	return p99, errors.Join(err, <-crowd)
}

// fairCrowd asks for boxes. On a machine that does other work, too, some may be refused
// because no turn came in time; most must not be.
func fairCrowd(ctx context.Context, base, boxes string, d time.Duration) error {
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c", strconv.Itoa(fairClients), "--timeout", "30s", "-d", fmt.Sprintf("%ds", int(d.Seconds())), "-s", boxes, base).CombinedOutput()
	if err != nil {
		return fmt.Errorf("wrk: %w\n%s", err, out)
	}
	var asked, refused int
	if m := wrkAsked.FindSubmatch(out); m != nil {
		asked, _ = strconv.Atoi(string(m[1])) // digits
	}
	if m := wrkRefused.FindSubmatch(out); m != nil {
		refused, _ = strconv.Atoi(string(m[1])) // digits
	}
	if asked < fairClients || refused > asked/10 {
		return fmt.Errorf("of %d boxes %d were refused", asked, refused)
	}
	return nil
}

var (
	wrkAsked   = regexp.MustCompile(`(?m)^\s*([0-9]+) requests in`)
	wrkRefused = regexp.MustCompile(`Non-2xx or 3xx responses: ([0-9]+)`)
)

var wrkTail = regexp.MustCompile(`(?m)^\s*99%\s+([0-9.]+(?:us|ms|s))$`)

// wrkP99 is how long the slowest of a hundred requests takes one client, in
// microseconds.
func wrkP99(ctx context.Context, base, script string, d time.Duration) (float64, error) {
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c1", "--latency", "--timeout", "30s", "-d", fmt.Sprintf("%ds", int(d.Seconds())), "-s", script, base).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	if m := wrkFailures.Find(out); m != nil {
		return 0, fmt.Errorf("requests for points failed: %s", m)
	}
	m := wrkTail.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk said no p99:\n%s", out)
	}
	p99, err := time.ParseDuration(string(m[1]))
	return float64(p99.Microseconds()), err
}
