//go:build e2ecluster

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"cairn/internal/testrig"
)

// A gauge measures a round: how long nothing was acknowledged, how long nothing new
// became visible, how long a refusal took.
type gauge struct {
	mu       sync.Mutex
	acked    time.Time // when the last write was acknowledged
	seen     time.Time // when the projection last moved on
	sequence uint64
	figures  figures
}

type figures struct {
	writes, visible, refusal time.Duration // the longest of each
	refusals                 int
	why                      map[string]int // what refusals said
}

// looks is how often the projection is looked at.
const looks = 25 * time.Millisecond

// watch looks at the projection until the result is called.
func (g *gauge) watch(query string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		for testrig.Pause(ctx, looks) == nil {
			var s testrig.Status
			if testrig.GetJSON(ctx, query+"/status", &s) == nil {
				g.saw(s.Query.Sequence)
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

func (g *gauge) heard(began time.Time, a testrig.Answer, acked bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	switch {
	case acked:
		if !g.acked.IsZero() {
			g.figures.writes = max(g.figures.writes, now.Sub(g.acked))
		}
		g.acked = now
	case a.Status != 0:
		g.figures.refusal = max(g.figures.refusal, now.Sub(began))
		g.figures.refusals++
		var problem struct{ Detail string }
		_ = json.Unmarshal(a.Body, &problem)
		if g.figures.why == nil {
			g.figures.why = map[string]int{}
		}
		g.figures.why[fmt.Sprintf("%d %.60s", a.Status, problem.Detail)]++
	}
}

func (g *gauge) saw(sequence uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if sequence <= g.sequence {
		return
	}
	now := time.Now()
	if !g.seen.IsZero() {
		g.figures.visible = max(g.figures.visible, now.Sub(g.seen))
	}
	g.sequence, g.seen = sequence, now
}

// take returns the figures since the last time.
func (g *gauge) take() figures {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.figures
	g.figures = figures{}
	return f
}

// What a strike should not exceed: how long nothing is acknowledged, and nothing new is
// visible. On a machine that does all of it and other work besides, that is told and not
// judged.
var bounds = map[string]struct{ writes, visible time.Duration }{
	"leader-killed":          {6 * time.Second, 8 * time.Second},
	"follower-killed":        {6 * time.Second, 8 * time.Second},
	"wiped":                  {6 * time.Second, 8 * time.Second},
	"leader-stopped":         {6 * time.Second, 8 * time.Second},
	"leader-without-power":   {6 * time.Second, 8 * time.Second},
	"follower-without-power": {6 * time.Second, 8 * time.Second},
	"rolling-restart":        {500 * time.Millisecond, 8 * time.Second},
}

// A tally is what was measured of each kind of strike.
type tally map[string][]figures

func (t tally) add(name string, f figures) { t[name] = append(t[name], f) }

// tell shows, of each kind, the shortest, the middle and the longest.
func (t tally) tell(log testing.TB) {
	log.Helper()
	for _, name := range slices.Sorted(maps.Keys(t)) {
		all := t[name]
		spread := func(of func(figures) time.Duration) string {
			var s []float64
			for _, f := range all {
				s = append(s, of(f).Seconds())
			}
			slices.Sort(s)
			return fmt.Sprintf("%4.1f %4.1f %4.1f", s[0], s[len(s)/2], s[len(s)-1])
		}
		log.Logf("%-28s %2d times, shortest, middle and longest in s: no ack %s, nothing new visible %s, refusal %s", name, len(all),
			spread(func(f figures) time.Duration { return f.writes }), spread(func(f figures) time.Duration { return f.visible }), spread(func(f figures) time.Duration { return f.refusal }))
		if b, there := bounds[name]; there {
			beyond := 0
			for _, f := range all {
				if f.writes > b.writes || f.visible > b.visible {
					beyond++
				}
			}
			log.Logf("%-28s %d times beyond %v without an ack or %v without anything new visible", name, beyond, b.writes, b.visible)
		}
	}
}
