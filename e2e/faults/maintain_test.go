package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cairn/internal/testrig"
)

// Segments of the binary under test are small and go soon, so that they are sealed,
// merged and dropped all the time: "go build -overlay" gives these constants other
// values.
var smallSegments = []struct{ file, from, to string }{
	{"projector/sizes.go", "head: 128 << 10", "head: 700"},
	{"projector/sizes.go", "fan: 8", "fan: 3"},
	{"projector/sizes.go", "lazy: 256", "lazy: 4"},
	{"projector/batch.go", "maxBatchRows  = 5000", "maxBatchRows  = 100"}, // so that some are full, and the next is prefetched
	{"projector/sizes.go", "grace: 15 * time.Second", "grace: 12 * time.Second"},
	{"projector/maintain.go", "maintainEvery = time.Second", "maintainEvery = 100 * time.Millisecond"},
}

// shrinkSegments adds the changed files to an overlay's.
func shrinkSegments(repository string, files map[string]string) error {
	for _, x := range smallSegments {
		path := filepath.Join(repository, x.file)
		text, ok := files[path]
		if !ok {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(raw)
		}
		changed := strings.Replace(text, x.from, x.to, 1)
		if changed == text {
			return fmt.Errorf("%s has no %q any more", path, x.from)
		}
		files[path] = changed
	}
	return nil
}

// holdSchema lets a step of the work on segments take its time, on demand: what is
// in faults.hold waits for as long as it is there, in the middle of whatever
// transaction it is in. So that is a point at which the projector can be killed.
const holdSchema = commandHold + segmentHold + retentionHold

// commandHold holds what changes the schema.
const commandHold = `
create schema if not exists faults;
create table if not exists faults.hold (step text);
create or replace function faults.wait(what text) returns void language plpgsql as $$
begin
	for i in 1 .. 100 loop
		-- Another's deletion is seen by a fresh statement's snapshot.
		exit when not exists (select from faults.hold where step = what);
		perform pg_sleep(0.1);
	end loop;
end $$;
create or replace function faults.long_ago() returns timestamptz language sql as $$ select now() - interval '200 years' $$;
create or replace function faults.expired() returns int language plpgsql as $$
begin
	return (select id from segments where state = 'dropped' and received_to < faults.long_ago() limit 1);
end $$;
create or replace function faults.on_command() returns event_trigger language plpgsql as $$
begin
	perform faults.wait(tg_tag);
	if tg_tag = 'CREATE VIEW' and to_regclass('segments') is not null and faults.expired() is not null then
		perform faults.wait('VIEW without the expired');
	end if;
end $$;
drop event trigger if exists faults_command;
create event trigger faults_command on ddl_command_end
	when tag in ('CREATE TABLE', 'CREATE INDEX', 'ALTER TABLE', 'DROP TABLE', 'CREATE VIEW', 'GRANT') execute function faults.on_command();`

// segmentHold holds changes of the catalogue.
const segmentHold = `
create or replace function faults.on_segment() returns trigger language plpgsql as $$
begin
	if current_setting('application_name') <> 'faults' then
		perform faults.wait('SEGMENT ' || case when new.state = 'dropped' and new.received_to < faults.long_ago() then 'expired' else new.state end);
	end if;
	return null;
end $$;
create or replace trigger faults_segment after insert or update on segments for each row execute function faults.on_segment();`

// holds are the steps at which the projector is killed: the tables and indexes of a
// new segment, a merge or a split; its place in the catalogue, as made, as sealed
// and as dropped; the view; the end of a table. Those of retention are dropSteps.
var holds = []string{"CREATE TABLE", "CREATE INDEX", "ALTER TABLE", "CREATE VIEW", "DROP TABLE",
	"SEGMENT head", "SEGMENT sealed", "SEGMENT filling", "SEGMENT dropped"}

// holdBound is how long it may take until the projector comes to a step: the
// writers fill a segment in seconds.
const holdBound = 6 * time.Second

// strikeHold kills the process with the projector in the middle of work on segments,
// where that was done least often.
func (s *system) strikeHold(ctx context.Context, f fault) error {
	_, err := s.killAt(ctx, f, s.figures.rarest(holds), holdBound)
	return err
}

// strikeRest kills the projector at each step where no other strike did: a short
// campaign, too, has them all. Nothing else strikes, so it must come to each.
func (s *system) strikeRest(ctx context.Context, f fault) error {
	for _, step := range holds {
		if s.figures.killedAt(step) > 0 {
			continue
		}
		if _, err := s.killAt(ctx, f, step, settleBound); err != nil {
			return err
		}
	}
	for _, step := range dropSteps {
		if s.figures.killedAt(step) == 0 {
			if err := s.killDropping(ctx, f, settleBound); err != nil {
				return err
			}
		}
	}
	for _, step := range append(slices.Clone(holds), dropSteps...) {
		if s.figures.killedAt(step) == 0 {
			return fmt.Errorf("the projector was never killed at %s", step)
		}
	}
	return nil
}

// killAt kills the target in the middle of a step, and starts it again. Where another
// fault keeps the projector from it, that is counted.
func (s *system) killAt(ctx context.Context, f fault, step string, bound time.Duration) (killed bool, err error) {
	_ = s.exec(ctx, "insert into faults.hold values ($1)", step) // Postgres may be unreachable
	err = testrig.Until(ctx, bound, step+" is held", func(ctx context.Context) error {
		return s.held(ctx)
	})
	r := s.roles[f.target]
	if err == nil {
		s.figures.killing(step)
		r.kill()
	} else {
		s.figures.count("segments that did not come to " + step)
	}
	_ = s.exec(ctx, "delete from faults.hold where step = $1", step) // heal does it again
	if err != nil {
		return false, nil
	}
	_ = testrig.Pause(ctx, f.lasts)
	return true, r.start(ctx)
}

// held returns nil where a statement waits at a step.
func (s *system) held(ctx context.Context) error {
	ctx, conn, end, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	var waiting int
	err = conn.QueryRow(ctx, `select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`).Scan(&waiting)
	if err == nil && waiting == 0 {
		err = fmt.Errorf("nothing waits")
	}
	return err
}

// release ends every hold, whatever a fault has left.
func (s *system) release(ctx context.Context) error { return s.exec(ctx, "delete from faults.hold") }
