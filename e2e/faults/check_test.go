package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"cairn/event"

	"github.com/google/uuid"

	"cairn/internal/testrig"
)

const (
	// pageLimit is the largest page there is.
	pageLimit = 10_000
)

// compare looks at all points since the last comparison, or at all there are,
// in PostGIS, by GET, and as the stream told them, with those that change.
func (s *system) compare(ctx context.Context, all bool, changing map[string]testrig.Found) error {
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
	rows, served = withoutChanging(rows), withoutChanging(served)
	if err := s.follower.hasSeen(ctx, rows, after, changing); err != nil {
		s.find("stream: %v", err)
	}
	checked := s.checked
	if len(rows) > 0 {
		checked = rows[len(rows)-1].Position
	}
	rows, fixes := withoutDevices(rows)
	served, _ = withoutDevices(served)
	if err := s.compareDevices(ctx, fixes, all); err != nil {
		return err
	}
	c := s.ledger.Check()
	c.Floor = s.floor
	there := c.Values("PostGIS", rows)
	c.Values("GET /points", served)
	c.SameOrder(rows, served)
	c.Turns(there, all)
	if err := s.totals(ctx, c, all); err != nil {
		return err
	}
	s.checked = checked
	for _, d := range c.Differences() {
		s.find("%s", d)
	}
	return nil
}

// totals looks at the whole table: what was right once must stay.
func (s *system) totals(ctx context.Context, c *testrig.Check, all bool) error {
	conn, err := s.admin(ctx, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var rows, names, parked, backwards int
	err = conn.QueryRow(ctx, `select count(*), count(distinct name), (select count(*) from parked), (select count(*) from faults.backwards) from points where name not like $1 and name not like $2`, changePrefix+"%", devicePrefix+"%").
		Scan(&rows, &names, &parked, &backwards)
	if err != nil {
		return err
	}
	least, most := s.ledger.Above(s.floor)
	if rows != names || rows < least || rows > most {
		c.Differ("the table has %d rows of %d points; %d were acknowledged and %d sent", rows, names, least, most)
	}
	if all {
		s.figures.stored(rows - least)
	}
	if backwards > 0 {
		c.Differ("the checkpoint was moved %d times to where it was before, or further back", backwards)
	}
	if parked > 0 {
		var reason, detail string
		err := conn.QueryRow(ctx, `select reason, detail from parked order by position limit 1`).Scan(&reason, &detail)
		c.Differ("%d events are parked: %s: %s %v", parked, reason, detail, err)
	}
	return nil
}

// rows are the points after a position as PostGIS has them, in order.
func (s *system) rows(ctx context.Context, after int64) ([]*testrig.Got, error) {
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
	var all []*testrig.Got
	for rows.Next() {
		g := &testrig.Got{}
		var key [16]byte
		var properties []byte
		if err := rows.Scan(&key, &g.ID, &g.Position, &g.Longitude, &g.Latitude, &g.Altitude, &properties); err != nil {
			return nil, err
		}
		g.Key = uuid.UUID(key)
		if err := json.Unmarshal(properties, &g.Properties); err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, rows.Err()
}

// served are the points after a position as pages of GET /points have them, in
// order.
func (s *system) served(ctx context.Context, after int64) ([]*testrig.Got, error) {
	at, err := s.checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	// Without a position an older answer may come, with its Age, where query
	// has lost its way to the database.
	var all []*testrig.Got
	next := fmt.Sprintf("http://%s/points?limit=%d&min_position=%d", s.proxies["client-query"].address, pageLimit, event.EndOf(uint64(at))) //nolint:gosec // a sequence
	for next != "" {
		var page testrig.Page
		// A connection of query's that froze is found out by the request that
		// it fails.
		err := testrig.Until(ctx, settleBound, "a page is answered", func(ctx context.Context) error {
			page = testrig.Page{}
			return testrig.GetJSON(ctx, next, &page)
		})
		if err != nil {
			return nil, err
		}
		next = page.Next()
		for i := range page.Features {
			f := &page.Features[i]
			if f.Position <= after {
				next = ""
				break
			}
			if n := len(all); n > 0 && f.Position >= all[n-1].Position {
				return nil, fmt.Errorf("position %d follows %d", f.Position, all[n-1].Position)
			}
			all = append(all, f.Got())
		}
	}
	slices.Reverse(all)
	return all, nil
}
