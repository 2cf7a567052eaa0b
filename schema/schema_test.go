package schema_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const migratePatience = 20 * time.Second // on a busy machine

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, sql ...string) {
	t.Helper()
	for _, s := range sql {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func text(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(all, "\n")
}

// structure is a table's columns and indexes, its own name left out.
func structure(t *testing.T, conn *pgx.Conn, table string) string {
	t.Helper()
	s := text(t, conn, fmt.Sprintf(`select format('%%s %%s %%s', attname, format_type(atttypid, atttypmod), attnotnull)
		from pg_attribute where attrelid = '%s'::regclass and attnum > 0 and not attisdropped order by attname`, table)) + "\n" +
		text(t, conn, fmt.Sprintf(`select pg_get_indexdef(indexrelid) from pg_index where indrelid = '%s'::regclass order by 1`, table))
	return strings.ReplaceAll(s, table, "T")
}

func TestTheFirstHeadIsLikeTheNext(t *testing.T) {
	conn := connect(t, testkit.Postgres(t))
	exec(t, conn, schema.CreateTable(7))
	exec(t, conn, schema.HeadIndexes(7)...)
	if got, want := structure(t, conn, "points_1"), structure(t, conn, "points_7"); got != want {
		t.Errorf("the migration made\n%s\nand schema makes\n%s", got, want)
	}
	columns := strings.Split(text(t, conn, `select attname::text from pg_attribute where attrelid = 'points_7'::regclass and attnum > 0 order by attnum`), "\n")
	view := strings.Split(text(t, conn, `select attname::text from pg_attribute where attrelid = 'points'::regclass and attnum > 0 order by attnum`), "\n")
	if !slices.Equal(columns, schema.Columns) || !slices.Equal(view, schema.Columns) {
		t.Errorf("columns %v, of the view %v, want %v", columns, view, schema.Columns)
	}
}

// old is a database as version 2 left it.
func old(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := connect(t, testkit.Postgres(t))
	migrateTo(t, conn, 2)
	return conn
}

// migrateTo makes the database as a version left it.
func migrateTo(t *testing.T, conn *pgx.Conn, version int32) {
	t.Helper()
	exec(t, conn, `drop view points`, `drop sequence segment_ids, applied_messages_number`, `drop table points_1, applied_messages, segments, segment_cells, checkpoint, parked, trim_hold, latest, hook_retries, hook_secrets, hooks, fence_events, fences, cairn_schema_version`)
	m, err := migrate.NewMigrator(t.Context(), conn, "public.cairn_schema_version")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.LoadMigrations(schema.Files()); err != nil {
		t.Fatal(err)
	}
	if err := m.MigrateTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

// Where retention dropped points before that was noted, all that is projected counts as
// from before it.
func TestWhenPointsWereDropped(t *testing.T) {
	for floor, want := range map[int]string{0: "0", 4096: "105"} {
		conn := connect(t, testkit.Postgres(t))
		migrateTo(t, conn, 7)
		exec(t, conn, fmt.Sprintf(`update checkpoint set sequence = 105, floor = %d`, floor))
		if _, _, err := schema.Migrate(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		if got := text(t, conn, `select dropped::text from checkpoint`); got != want {
			t.Errorf("with a floor of %d, dropped is %s, want %s", floor, got, want)
		}
	}
}

func TestTheOldTableBecomesASegment(t *testing.T) {
	conn := old(t)
	exec(t, conn, `insert into points (id, position, geom, received_at)
		select gen_random_uuid(), 4096 * (1 + i / 100) + i % 100, ST_SetSRID(ST_MakePoint(i % 180, 1), 4326), now() from generate_series(0, 9999) i`,
		`update checkpoint set sequence = 105`)
	table := text(t, conn, `select 'points'::regclass::oid::text`)
	from, to, err := schema.Migrate(t.Context(), conn)
	if err != nil || from != 2 || to != schema.Version {
		t.Fatalf("from %d to %d: %v", from, to, err)
	}
	if got := text(t, conn, `select 'points_1'::regclass::oid::text`); got != table {
		t.Error("the old table was copied")
	}
	const edge = 106 << 12
	want := fmt.Sprintf("1 sealed 0 %d\n2 head %d %d", edge, edge, int64(schema.HeadEnd))
	if got := text(t, conn, `select format('%s %s %s %s', id, state, low, high) from segments order by id`); got != want {
		t.Errorf("segments\n%s\nwant\n%s", got, want)
	}
	exec(t, conn, `insert into points_2 (id, position, geom, received_at) values (gen_random_uuid(), 434176, ST_SetSRID(ST_MakePoint(1, 1), 4326), now())`)
	if got := text(t, conn, `select count(*)::text from points`); got != "10001" {
		t.Errorf("the view has %s points", got)
	}
	all, err := schema.Segments(t.Context(), conn)
	if err != nil || len(all) != 2 || all[0].Known() || all[0].LatestDone || !all[1].LatestDone {
		t.Errorf("catalogue %+v, %v", all, err)
	}
	readers := text(t, conn, `select coalesce(string_agg(c.relname, ' ' order by c.relname), '') from pg_class c
		where c.relname in ('points', 'points_1', 'points_2', 'segments', 'segment_cells', 'checkpoint', 'parked', 'latest',
			'fences', 'fence_events', 'hooks', 'hook_secrets', 'hook_retries') and has_table_privilege('cairn_reader', c.oid, 'select')`)
	if readers != "checkpoint fence_events fences hook_retries hooks latest parked points points_1 points_2 segment_cells segments" {
		t.Errorf("cairn_reader may read %s", readers)
	}
}

func TestAnEmptyOldTableGoes(t *testing.T) {
	conn := old(t)
	if _, _, err := schema.Migrate(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if got := text(t, conn, `select format('%s %s %s', id, state, low) from segments`); got != "1 head 0" {
		t.Errorf("segments %s", got)
	}
}

// Whoever is in the way of the migration is let through first.
func TestMigrationWaitsForReaders(t *testing.T) {
	conn := old(t)
	reader := connect(t, conn.Config().ConnString())
	exec(t, reader, `begin`, `select from points`)
	done := make(chan error, 1)
	go func() { _, _, err := schema.Migrate(context.WithoutCancel(t.Context()), conn); done <- err }()
	watcher := connect(t, conn.Config().ConnString())
	testkit.Eventually(t, migratePatience, "the migration to wait", func() bool {
		return text(t, watcher, `select count(*)::text from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == "1"
	})
	exec(t, reader, `commit`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestRefusesANewerSchema(t *testing.T) {
	conn := connect(t, testkit.Postgres(t))
	if err := schema.Check(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, fmt.Sprintf(`update cairn_schema_version set version = %d`, schema.Version+1))
	_, _, err := schema.Migrate(t.Context(), conn)
	var newer, checked *schema.NewerError
	if !errors.As(err, &newer) || !errors.As(schema.Check(t.Context(), conn), &checked) || !strings.Contains(newer.Error(), "upgrade Cairn") {
		t.Errorf("%v", err)
	}
}
