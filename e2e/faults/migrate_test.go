package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cairn/internal/testrig"
)

const (
	// oldRows are in the table from before segments. Their positions are those of a
	// sequence before the first.
	oldRows = 4000
	// oldVersion is that table's schema.
	oldVersion = 2
)

// A table from before segments becomes a segment like the others, though the migration
// is killed at each of its steps and the projector at each of its own: every row stays.
func TestMigrationKilled(t *testing.T) {
	logs := t.TempDir()
	s := newSystem(t, "migration", logs, newFigures())
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.oldDatabase(ctx))
	must(s.exec(ctx, commandHold))
	before, err := s.digest(ctx)
	must(err)
	for _, step := range []string{"CREATE TABLE", "CREATE INDEX", "ALTER TABLE", "CREATE VIEW", "GRANT"} {
		must(s.exec(ctx, "insert into faults.hold values ($1)", step))
		p, err := launch(logs, "migrate", "migrate", "--data", s.data)
		must(err)
		must(testrig.Until(ctx, settleBound, "the migration is at "+step, s.held))
		p.Kill()
		must(s.release(ctx))
		must(testrig.Until(ctx, settleBound, "nothing waits any more", func(ctx context.Context) error {
			if s.held(ctx) == nil {
				return fmt.Errorf("a statement still waits")
			}
			return nil
		}))
	}
	must(s.prepareDatabase(ctx)) // migrates, and waits for the end
	// The projector looks what the old table holds, and puts its rows in the order of
	// their places: a new table, that one in its place, the old one gone. It is killed
	// where it notes each.
	for i, step := range []string{"SEGMENT sealed", "SEGMENT filling", "CREATE INDEX", "SEGMENT dropped", "DROP TABLE"} {
		must(s.release(ctx))
		must(s.exec(ctx, "insert into faults.hold values ($1)", step))
		if i == 0 {
			must(s.become(ctx, apart))
		} else {
			must(s.roles["projector"].start(ctx))
		}
		must(testrig.Until(ctx, settleBound, "the projector is at "+step, s.held))
		s.roles["projector"].kill()
	}
	must(s.release(ctx))
	must(s.roles["projector"].start(ctx))
	must(testrig.Until(ctx, settleBound, "the old table has become one in order", s.known))
	after, err := s.digest(ctx)
	must(err)
	if after != before {
		t.Errorf("the points were %s and are %s", before, after)
	}
	var page testrig.Page
	must(testrig.GetJSON(ctx, fmt.Sprintf("%s/points?limit=%d", s.roles["query"].base(), pageLimit), &page))
	if len(page.Features) != oldRows {
		t.Errorf("GET /points serves %d of %d", len(page.Features), oldRows)
	}
	must(s.halt(ctx))
	for _, text := range s.found() {
		t.Error(text)
	}
}

// oldDatabase is the schema from before segments, with points.
func (s *system) oldDatabase(ctx context.Context) error {
	statements := []string{"drop event trigger if exists faults_command", "drop schema faults cascade", "drop schema public cascade", "create schema public"}
	for _, name := range []string{"001_points.sql", "002_filters.sql"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "schema", name))
		if err != nil {
			return err
		}
		up, _, _ := strings.Cut(string(text), "---- create above") // what is below takes it back
		statements = append(statements, up)
	}
	statements = append(statements,
		"create table cairn_schema_version (version int4 not null)", fmt.Sprintf("insert into cairn_schema_version values (%d)", oldVersion),
		fmt.Sprintf(`insert into points (id, position, name, geom, received_at, properties)
			select gen_random_uuid(), i, 'old ' || i, st_setsrid(st_makepoint(i %% 360 - 180, i %% 180 - 90), 4326), now(), jsonb_build_object('name', 'old ' || i)
			from generate_series(1, %d) i`, oldRows))
	for _, sql := range statements {
		if err := s.exec(ctx, sql); err != nil {
			return fmt.Errorf("%.80s: %w", sql, err)
		}
	}
	return nil
}

// known returns nil where the old table is gone, and the catalogue knows what the one in
// its place holds.
func (s *system) known(ctx context.Context) error {
	ctx, conn, end, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	var rows *int64
	err = conn.QueryRow(ctx, `select sum(rows) from segments where state = 'sealed' and to_regclass('points_1') is null`).Scan(&rows)
	if err == nil && (rows == nil || *rows != oldRows) {
		err = fmt.Errorf("the catalogue does not have the %d rows of the old table, or it is still there", oldRows)
	}
	return err
}

// digest tells two tables of points apart.
func (s *system) digest(ctx context.Context) (text string, err error) {
	conn, err := s.admin(ctx, "")
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, `select format('%s points %s', count(*), md5(string_agg(concat_ws(' ', id, position, name, st_astext(geom), received_at, properties), ',' order by position)))
		from points`).Scan(&text)
	return text, err
}
