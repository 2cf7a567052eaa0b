package testrig

import (
	"fmt"
	"net/http"
	"testing"

	"cairn/internal/testkit"
)

// maxDifferences is how many differences a failure tells.
const maxDifferences = 10

// A Check compares what there is with a ledger.
type Check struct {
	l *Ledger
	// Floor is the position below which retention has dropped all.
	Floor       int64
	differences []string
	more        int
}

// Check begins a comparison.
func (l *Ledger) Check() *Check { return &Check{l: l} }

// Differ notes a difference.
func (c *Check) Differ(format string, args ...any) {
	if len(c.differences) >= maxDifferences {
		c.more++
		return
	}
	c.differences = append(c.differences, fmt.Sprintf(format, args...))
}

// Differences are those that were found.
func (c *Check) Differences() []string {
	if c.more > 0 {
		return append(c.differences, fmt.Sprintf("and %d more", c.more))
	}
	return c.differences
}

// Values compares each point with what was sent under its name, and returns the
// points by name. Other ledgers' points are left out.
func (c *Check) Values(where string, points []*Got) map[string]*Got {
	there := make(map[string]*Got, len(points))
	for _, g := range points {
		if c.l.others(g) {
			continue
		}
		name := g.Name()
		if twin := there[name]; twin != nil {
			c.Differ("%s: DOUBLED: %s is there twice, at %d and %d", where, name, twin.Position, g.Position)
		} else if d := c.l.Differs(g); d != "" {
			c.Differ("%s: %s", where, d)
		} else if d := c.moved(g); d != "" {
			c.Differ("%s: %s", where, d)
		}
		there[name] = g
	}
	return there
}

// moved notes where a point is, and says what is wrong with that; "" for nothing.
func (c *Check) moved(g *Got) string {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	e := c.l.points[g.Name()]
	before := e.found
	e.found = g.Position
	switch {
	case g.Position < c.Floor:
		return fmt.Sprintf("%s is at %d, below %d, where all was dropped", g.Name(), g.Position, c.Floor)
	case before == 0 || before == g.Position:
		return ""
	}
	return fmt.Sprintf("%s is at %d and was at %d", g.Name(), g.Position, before)
}

// SameOrder compares what is in the database with what is served.
func (c *Check) SameOrder(rows, served []*Got) {
	if len(rows) != len(served) {
		c.Differ("PostGIS has %d points and GET /points %d", len(rows), len(served))
	}
	for i := range min(len(rows), len(served)) {
		if r, g := rows[i], served[i]; r.Position != g.Position || r.Name() != g.Name() {
			c.Differ("number %d is %s at %d in PostGIS and %s at %d by GET", i, r.Name(), r.Position, g.Name(), g.Position)
			return
		}
		if i > 0 && rows[i].Position <= rows[i-1].Position {
			c.Differ("position %d follows %d", rows[i].Position, rows[i-1].Position)
		}
	}
}

// Turns goes through what every writer sent, in its order: all that was
// acknowledged is there, not before what it had had acknowledged earlier and
// not behind where the answer said. Without all, only what no Turns has seen.
func (c *Check) Turns(there map[string]*Got, all bool) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	earlier := map[string]int64{} // by writer: the position acknowledged last
	lost, acked := 0, 0
	for _, t := range c.l.turns {
		if t.Acked && (all || !t.seen) {
			acked += len(t.Request.Points)
			lost += c.turn(t, there, earlier[t.Writer])
		}
		t.seen = true
		if t.Acked {
			earlier[t.Writer] = t.Position
		}
	}
	if lost > 0 {
		c.differences = append(c.differences, fmt.Sprintf("LOST: %d of %d acknowledged points", lost, acked))
	}
}

// turn returns how many points of an acknowledged request are lost.
func (c *Check) turn(t *Turn, there map[string]*Got, after int64) (lost int) {
	last := int64(0)
	for _, p := range t.Request.Points {
		g := there[p.Name]
		if at := c.l.points[p.Name].found; g == nil && at > 0 && at < c.Floor {
			last = at // dropped since it was seen there
			continue
		}
		if g == nil {
			lost++
			c.Differ("%s, acknowledged at %d after %d attempts, is lost", p.Name, t.Position, t.Attempts)
			continue
		}
		if g.Position > t.Position || g.Position <= after {
			c.Differ("%s is at %d; its writer was told %d, and %d for the one before", p.Name, g.Position, t.Position, after)
		}
		if t.Attempts == 1 && g.Position <= last {
			c.Differ("%s is at %d, behind the next row of its body at %d", p.Name, g.Position, last)
		}
		last = g.Position
	}
	if lost == 0 && t.Attempts == 1 && last != t.Position {
		c.Differ("the request that ends with %s was acknowledged at %d and is at %d",
			t.Request.Points[len(t.Request.Points)-1].Name, t.Position, last)
	}
	return lost
}

// Verify compares what is served at base with what Write sent: every acknowledged
// point once, with its values, and nothing under its prefix that nobody sent.
func (l *Ledger) Verify(t testing.TB, base string) {
	t.Helper()
	last := l.Last()
	if last == 0 {
		t.Error("nothing was acknowledged")
		return
	}
	testkit.Eventually(t, Patience, fmt.Sprintf("position %d can be read", last), func() bool {
		a, err := Get(t.Context(), fmt.Sprintf("%s/points?limit=1&min_position=%d", base, last))
		return err == nil && a.Status == http.StatusOK
	})
	features := AllPoints(t, base)
	points := make([]*Got, 0, len(features))
	for i := range features {
		points = append(points, features[i].Got())
	}
	c := l.Check()
	there := c.Values("GET /points", points)
	c.Turns(there, true)
	for _, d := range c.Differences() {
		t.Error(d)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.refused {
		t.Errorf("refused: %s", r)
	}
	t.Logf("%d sent, %d acknowledged, %d there, %d attempts were refused or failed for now", len(l.points), l.acked, len(there), l.retries)
}
