//go:build faults

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"cairn/event"

	"github.com/google/uuid"
)

const (
	// pageLimit is the largest page there is.
	pageLimit = 10_000
	// maxDifferences is how many differences of a kind a failure tells.
	maxDifferences = 10
)

// A check compares what was acknowledged with what there is.
type check struct {
	s           *system
	differences []string
	more        int
}

func (c *check) differs(format string, args ...any) {
	if len(c.differences) >= maxDifferences {
		c.more++
		return
	}
	c.differences = append(c.differences, fmt.Sprintf(format, args...))
}

// compare looks at all points since the last comparison, or at all there are,
// in PostGIS and by GET.
func (s *system) compare(ctx context.Context, all bool) error {
	after := s.checked
	if all {
		after = 0
	}
	rows, err := s.rows(ctx, after)
	if err != nil {
		return fmt.Errorf("read the points: %w", err)
	}
	served, err := s.served(ctx, after)
	if err != nil {
		return fmt.Errorf("GET /points: %w", err)
	}
	c := &check{s: s}
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	there := c.values("PostGIS", rows)
	c.values("GET /points", served)
	c.sameOrder(rows, served)
	c.turns(there, all)
	if err := c.totals(ctx, all); err != nil {
		return err
	}
	if len(rows) > 0 {
		s.checked = rows[len(rows)-1].position
	}
	if c.more > 0 {
		c.differences = append(c.differences, fmt.Sprintf("and %d more", c.more))
	}
	for _, d := range c.differences {
		s.find("%s", d)
	}
	return nil
}

// values compares each point with what was sent under its name.
func (c *check) values(where string, points []*got) map[string]*got {
	there := make(map[string]*got, len(points))
	for _, g := range points {
		name := g.name()
		e, ok := c.s.ledger.points[name]
		switch {
		case !ok:
			c.differs("%s: nobody sent %q (id %s, position %d)", where, name, g.id, g.position)
		case there[name] != nil:
			c.differs("%s: %s is there twice, at %d and %d", where, name, there[name].position, g.position)
		default:
			if d := e.same(g); d != "" {
				c.differs("%s: %s: %s", where, name, d)
			}
		}
		there[name] = g
	}
	return there
}

// sameOrder compares what is in the database with what is served.
func (c *check) sameOrder(rows, served []*got) {
	if len(rows) != len(served) {
		c.differs("PostGIS has %d points and GET /points %d", len(rows), len(served))
	}
	for i := range min(len(rows), len(served)) {
		if r, g := rows[i], served[i]; r.position != g.position || r.name() != g.name() {
			c.differs("number %d is %s at %d in PostGIS and %s at %d by GET", i, r.name(), r.position, g.name(), g.position)
			return
		}
		if i > 0 && rows[i].position <= rows[i-1].position {
			c.differs("position %d follows %d", rows[i].position, rows[i-1].position)
		}
	}
}

// turns goes through what every writer sent, in its order: all that was
// acknowledged is there, not before what it had had acknowledged earlier and
// not behind where the answer said.
func (c *check) turns(there map[string]*got, all bool) {
	earlier := map[string]int64{} // by writer: the position acknowledged last
	lost, acked := 0, 0
	for _, t := range c.s.ledger.byTurn {
		if t.acked && (all || !t.seen) {
			acked += len(t.request.points)
			lost += c.turn(t, there, earlier[t.writer])
		}
		t.seen = true
		if t.acked {
			earlier[t.writer] = t.position
		}
	}
	if lost > 0 {
		c.differences = append(c.differences, fmt.Sprintf("LOST: %d of %d acknowledged points", lost, acked))
	}
}

// turn returns how many points of an acknowledged request are lost.
func (c *check) turn(t *turn, there map[string]*got, after int64) (lost int) {
	last := int64(0)
	for _, p := range t.request.points {
		g := there[p.name]
		if g == nil {
			lost++
			c.differs("%s, acknowledged at %d after %d attempts, is lost", p.name, t.position, t.attempts)
			continue
		}
		if g.position > t.position || g.position <= after {
			c.differs("%s is at %d; its writer was told %d, and %d for the one before", p.name, g.position, t.position, after)
		}
		if t.attempts == 1 && g.position <= last {
			c.differs("%s is at %d, behind the next row of its body at %d", p.name, g.position, last)
		}
		last = g.position
	}
	if lost == 0 && t.attempts == 1 && last != t.position {
		c.differs("the request that ends with %s was acknowledged at %d and is at %d",
			t.request.points[len(t.request.points)-1].name, t.position, last)
	}
	return lost
}

// totals looks at the whole table: what was right once must stay.
func (c *check) totals(ctx context.Context, all bool) error {
	conn, err := c.s.admin(ctx, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var rows, names, parked, backwards, least int
	err = conn.QueryRow(ctx, `select count(*), count(distinct name), (select count(*) from parked), (select count(*) from faults.backwards) from points`).
		Scan(&rows, &names, &parked, &backwards)
	if err != nil {
		return err
	}
	for _, e := range c.s.ledger.points {
		if e.acked {
			least++
		}
	}
	if rows != names || rows < least || rows > len(c.s.ledger.points) {
		c.differs("the table has %d rows of %d points; %d were acknowledged and %d sent", rows, names, least, len(c.s.ledger.points))
	}
	if all {
		c.s.figures.stored(rows - least)
	}
	if backwards > 0 {
		c.differs("the checkpoint was moved %d times to where it was before, or further back", backwards)
	}
	if parked > 0 {
		var reason, detail string
		err := conn.QueryRow(ctx, `select reason, detail from parked order by position limit 1`).Scan(&reason, &detail)
		c.differs("%d events are parked: %s: %s %v", parked, reason, detail, err)
	}
	return nil
}

// rows are the points behind a position as PostGIS has them, in order.
func (s *system) rows(ctx context.Context, after int64) ([]*got, error) {
	conn, err := s.admin(ctx, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `select id, coalesce(external_id, id::text), position, st_x(geom), st_y(geom), altitude, properties::text
		from points where position > $1 order by position`, after)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []*got
	for rows.Next() {
		g := &got{}
		var key [16]byte
		var properties []byte
		if err := rows.Scan(&key, &g.id, &g.position, &g.longitude, &g.latitude, &g.altitude, &properties); err != nil {
			return nil, err
		}
		g.key = uuid.UUID(key)
		if err := json.Unmarshal(properties, &g.properties); err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, rows.Err()
}

// A feature is a point as GET has it.
type feature struct {
	ID         json.RawMessage
	Geometry   struct{ Coordinates []float64 }
	Properties map[string]any
	Position   int64
}

func (f *feature) got() *got {
	g := &got{id: string(bytes.Trim(f.ID, `"`)), position: f.Position, properties: f.Properties}
	if c := f.Geometry.Coordinates; len(c) >= 2 {
		g.longitude, g.latitude = c[0], c[1]
		if len(c) > 2 {
			g.altitude = &c[2]
		}
	}
	return g
}

// served are the points behind a position as pages of GET /points have them, in
// order.
func (s *system) served(ctx context.Context, after int64) ([]*got, error) {
	at, err := s.checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	// Without a position an older answer may come, with its Age, where query
	// has lost its way to the database.
	var all []*got
	next := fmt.Sprintf("/points?limit=%d&min_position=%d", pageLimit, event.EndOf(uint64(at))) //nolint:gosec // a sequence
	for next != "" {
		var page struct {
			Features []feature
			Links    []struct{ Rel, Href string }
		}
		// A connection of query's that froze is found out by the question that
		// it fails.
		err := until(ctx, settleBound, "a page is answered", func(ctx context.Context) error {
			page.Features, page.Links = nil, nil
			return getJSON(ctx, "http://"+s.proxies["client-query"].address+next, &page)
		})
		if err != nil {
			return nil, err
		}
		next = ""
		for _, l := range page.Links {
			if l.Rel == "next" {
				next = l.Href
			}
		}
		for i := range page.Features {
			f := &page.Features[i]
			if f.Position <= after {
				next = ""
				break
			}
			if n := len(all); n > 0 && f.Position >= all[n-1].position {
				return nil, fmt.Errorf("position %d follows %d", f.Position, all[n-1].position)
			}
			all = append(all, f.got())
		}
	}
	slices.Reverse(all)
	return all, nil
}

func getJSON(ctx context.Context, url string, out any) error {
	var body bytes.Buffer
	if err := get(ctx, url, &body); err != nil {
		return err
	}
	return json.Unmarshal(body.Bytes(), out)
}
