package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"cairn/event"
	"cairn/internal/testrig"
	"cairn/schema"
)

// compareChanges compares the points that change with what was done to them, in
// PostGIS and by GET.
func (s *system) compareChanges(ctx context.Context) (map[string]testrig.Found, error) {
	found, err := s.changedRows(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the points that change: %w", err)
	}
	at, err := s.checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	clear(s.created)
	for _, id := range s.changes.IDs() {
		f, there := found[id]
		f.Missing = !there
		if there {
			s.created[id] = f.Position
		}
		changes, _ := s.changes.Settled(id)
		if wrong := s.changes.Wrong(id, f, changes); wrong != "" {
			s.find("PostGIS: %s", wrong)
		}
		if err := s.compareChange(ctx, id, f, at); err != nil {
			return nil, err
		}
	}
	for id := range found {
		if s.created[id] == 0 {
			s.find("PostGIS: nobody sent %s", id)
		}
	}
	return found, nil
}

// compareChange compares a row with what GET says of it.
func (s *system) compareChange(ctx context.Context, id string, f testrig.Found, at int64) error {
	var a testrig.Answer
	path := fmt.Sprintf("/points/%s?min_position=%d", url.PathEscape(id), event.EndOf(uint64(at))) //nolint:gosec // a sequence
	err := testrig.Until(ctx, settleBound, "a point is answered", func(ctx context.Context) (err error) {
		a, err = testrig.Get(ctx, "http://"+s.proxies["client-query"].address+path)
		if err == nil && a.Status >= http.StatusInternalServerError {
			err = fmt.Errorf("GET %s: %d", path, a.Status)
		}
		return err
	})
	if err != nil {
		return err
	}
	want := http.StatusOK
	switch {
	case f.Missing:
		want = http.StatusNotFound
	case f.Deleted:
		want = http.StatusGone
	}
	if a.Status != want {
		s.find("GET %s: %d, but PostGIS has it as %d: %s", path, a.Status, want, a.Body)
		return nil
	}
	if want == http.StatusOK {
		var served testrig.Feature
		if err := testrig.Decode(a.Body, &served); err != nil {
			return err
		}
		g := served.Got()
		if g.Name() != f.Got.Name() || g.Revision != f.Revision || g.Position != f.Got.Position {
			s.find("GET %s: %q at %d, revision %d, but PostGIS has %q at %d, revision %d", path, g.Name(), g.Position, g.Revision,
				f.Got.Name(), f.Got.Position, f.Revision)
		}
	}
	return nil
}

// changedRows are the rows of points that change, by id, tombstones among them, from
// all segments that are read.
func (s *system) changedRows(ctx context.Context) (map[string]testrig.Found, error) {
	conn, err := s.admin(ctx, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// One snapshot: a merge may continue. Tables outlive their place in the catalogue.
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	segments, err := schema.Segments(ctx, tx)
	if err != nil {
		return nil, err
	}
	all := map[string]testrig.Found{}
	for _, segment := range segments {
		if segment.State != schema.Head && segment.State != schema.Sealed {
			continue
		}
		if err := s.changedIn(ctx, tx, segment.ID, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (s *system) changedIn(ctx context.Context, tx pgx.Tx, segment int, all map[string]testrig.Found) error {
	rows, err := tx.Query(ctx, `select external_id, position, coalesce(revision, position), geom is null,
		coalesce(st_x(geom), 0), coalesce(st_y(geom), 0), altitude, properties::text from `+schema.Table(segment)+` where external_id like $1`, changePrefix+"%")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		g, f := &testrig.Got{}, testrig.Found{}
		var properties *string
		if err := rows.Scan(&g.ID, &g.Position, &g.Revision, &f.Deleted, &g.Longitude, &g.Latitude, &g.Altitude, &properties); err != nil {
			return err
		}
		f.Position, f.Revision = g.Position, g.Revision
		if !f.Deleted {
			f.Got = g
			if err := json.Unmarshal([]byte(*properties), &g.Properties); err != nil {
				return err
			}
		}
		if _, twice := all[g.ID]; twice {
			s.find("PostGIS: DOUBLED: %s is in more than one segment, in %s too", g.ID, schema.Table(segment))
		}
		all[g.ID] = f
	}
	return rows.Err()
}

// lookAtChange reads a point that changes, and says what was wrong with it: what was
// acknowledged before must be seen, and nothing that was never sent.
func (c *client) lookAtChange(ctx context.Context) error {
	ids := c.s.changes.IDs()
	if len(ids) == 0 {
		return nil
	}
	id := ids[c.rng.IntN(len(ids))]
	changes, position := c.s.changes.Settled(id)
	path := fmt.Sprintf("/points/%s?min_position=%d", url.PathEscape(id), max(position, 1))
	status, body := c.get(ctx, path)
	var f testrig.Found
	switch status {
	case http.StatusOK:
		var served testrig.Feature
		if err := testrig.Decode(body, &served); err != nil {
			return fmt.Errorf("GET %s: %w", path, err)
		}
		f.Got = served.Got()
		f.Revision = f.Got.Revision
	case http.StatusGone:
		f.Deleted = true
	case http.StatusNotFound:
		f.Missing = true
	case 0, http.StatusServiceUnavailable:
		return nil
	default:
		return fmt.Errorf("GET %s: %d %s", path, status, body)
	}
	if wrong := c.s.changes.Wrong(id, f, changes); wrong != "" && !c.s.mayBeGone(c.s.created[id]) {
		return fmt.Errorf("GET %s: %s", path, wrong)
	}
	c.s.figures.read()
	return nil
}

// withoutChanging leaves out the points that change, which compareChanges looks at.
func withoutChanging(points []*testrig.Got) []*testrig.Got {
	return slices.DeleteFunc(points, func(g *testrig.Got) bool { return strings.HasPrefix(g.Name(), changePrefix) })
}
