package faults

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/event"
	"cairn/internal/testrig"
)

// All systems run with --keep, longer than any step of a clock. A strike makes the
// oldest segment older than that, whereupon the projector drops it; what is above is
// to stay.
const (
	keepFor = "36500d" // a century
	aging   = "interval '250 years'"
)

// retentionHold holds the steps at which retention drops a segment, and notes up to
// where it did, and which batch was applied last by then.
const retentionHold = `
create table if not exists faults.floors (floor bigint, sequence bigint);
create or replace function faults.on_floor() returns trigger language plpgsql as $$
begin
	insert into faults.floors values (new.floor, new.sequence);
	perform faults.wait('FLOOR');
	return null;
end $$;
create or replace trigger faults_floor after update of floor on checkpoint for each row
	when (new.floor <> old.floor) execute function faults.on_floor();
create or replace function faults.on_drop() returns event_trigger language plpgsql as $$
begin
	if exists (select from pg_event_trigger_dropped_objects() o join segments s on o.object_type = 'table' and o.object_name = 'points_' || s.id
		where s.state = 'dropped' and s.received_to < faults.long_ago()) then
		perform faults.wait('TABLE of the expired');
	end if;
end $$;
drop event trigger if exists faults_drop;
create event trigger faults_drop on sql_drop when tag in ('DROP TABLE') execute function faults.on_drop();`

// dropSteps are those of dropping what is older than --keep, in their order.
var dropSteps = []string{"SEGMENT expired", "FLOOR", "VIEW without the expired", lastDrop}

// lastDrop comes when no reader can be in the table any more.
const lastDrop = "TABLE of the expired"

// strikeRetention makes the oldest segment older than what is kept, and kills the
// process with the projector at each step of dropping it.
func (s *system) strikeRetention(ctx context.Context, f fault) error {
	return s.killDropping(ctx, f, holdBound)
}

func (s *system) killDropping(ctx context.Context, f fault, bound time.Duration) error {
	for i, step := range dropSteps {
		// The hold is there before there is something to drop.
		_ = s.exec(ctx, "insert into faults.hold values ($1)", step) // Postgres may be unreachable
		switch {
		case i == 0:
			if err := testrig.Until(ctx, bound, "the oldest segment is old", s.age); err != nil {
				s.figures.count("retention had nothing to drop")
				_ = s.exec(ctx, "delete from faults.hold where step = $1", step) // heal does it again
				return nil
			}
		case step == lastDrop:
			_ = testrig.Until(ctx, bound, "the grace is over", s.endGrace) // or it does not come to the step
		}
		if killed, err := s.killAt(ctx, f, step, bound); err != nil || !killed {
			return err
		}
	}
	return nil
}

// age makes the oldest segment older than what is kept. All that it holds was there
// at the last comparison, so it is known what goes.
func (s *system) age(ctx context.Context) error {
	ctx, conn, end, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	var id int
	var high int64
	err = conn.QueryRow(ctx, `select id, high from segments where state = 'sealed' order by low limit 1`).Scan(&id, &high)
	if err != nil {
		return err
	}
	if high > s.through+1 {
		return fmt.Errorf("it has what came since the last comparison")
	}
	s.aged.Store(max(s.aged.Load(), high)) // before it may go: see [system.mayBeGone]
	tag, err := conn.Exec(ctx, `update segments set received_to = received_to - `+aging+`
		where id = $1 and state = 'sealed' and received_to is not null`, id)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("it is not known what it holds")
	}
	return err
}

// endGrace lets the table go at once of what was dropped for its age.
func (s *system) endGrace(ctx context.Context) error {
	ctx, conn, end, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	tag, err := conn.Exec(ctx, `update segments set dropped_at = dropped_at - interval '1 hour' where id = faults.expired()`)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("nothing was dropped yet")
	}
	return err
}

// mayBeGone reports whether what was created at a position may have been dropped.
func (s *system) mayBeGone(position int64) bool { return position > 0 && position < s.aged.Load() }

// staysDeleted reports whether a deleted point's tombstone stays for this round: while it
// is there, what created the point brings it back no more.
func (s *system) staysDeleted(id string) bool {
	position := s.created[id] // those of this round have none, and stay
	return position == 0 || !s.drops && !s.mayBeGone(position)
}

// dropped waits until what is too old is gone, and tells below which position.
func (s *system) dropped(ctx context.Context) (floor int64, err error) {
	err = testrig.Until(ctx, settleBound, "what is older than --keep is dropped", func(ctx context.Context) error {
		ctx, conn, end, err := s.connect(ctx)
		if err != nil {
			return err
		}
		defer end()
		var old int
		var least *int64
		err = conn.QueryRow(ctx, `select (select count(*) from segments where state = 'sealed' and received_to < faults.long_ago()),
			(select min(position) from points), (select floor from checkpoint)`).Scan(&old, &least, &floor)
		switch {
		case err != nil:
			return err
		case old > 0:
			return fmt.Errorf("%d segments are too old", old)
		case least != nil && *least < floor: // somebody reads the view: it is recreated later
			return fmt.Errorf("the view has position %d, below the floor %d", *least, floor)
		}
		return nil
	})
	if err == nil && floor > s.aged.Load() {
		s.find("DROPPED: all below %d, but only what is below %d is older than --keep", floor, s.aged.Load())
	}
	return floor, err
}

// forget tells the models what was dropped.
func (s *system) forget(ctx context.Context, floor int64) error {
	if floor == s.floor {
		return nil
	}
	conn, err := s.admin(ctx, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `select floor, sequence from faults.floors where floor > $1 order by floor`, s.floor)
	if err != nil {
		return err
	}
	type drop struct{ Floor, Sequence int64 }
	drops, err := pgx.CollectRows(rows, pgx.RowToStructByPos[drop])
	if err != nil {
		return err
	}
	for id, position := range s.created {
		for _, d := range drops {
			if position < d.Floor {
				s.changes.Dropped(id, int64(event.EndOf(uint64(d.Sequence))))
				delete(s.created, id)
				s.figures.count("changing points that were dropped")
				break
			}
		}
	}
	s.floor = floor
	return nil
}

// A comeback is a client of long ago, with a page's link to the next one and the
// position that it had seen.
type comeback struct {
	next     string
	position int64
}

// leave remembers where a client is now that will come back later.
func (s *system) leave(ctx context.Context) error {
	if s.comeback.position > 0 {
		return nil
	}
	var page testrig.Page
	a, err := s.answered(ctx, "http://"+s.proxies["client-query"].address+"/points?limit=1")
	if err != nil {
		return err
	}
	if err := testrig.Decode(a.Body, &page); err != nil {
		return err
	}
	if len(page.Features) == 1 && page.Next() != "" {
		s.comeback = comeback{page.Next(), page.Features[0].Position}
	}
	return nil
}

// comesBack asks for what follows that which was dropped meanwhile: a page says
// where to begin, a stream from where on it is whole.
func (s *system) comesBack(ctx context.Context) error {
	if s.comeback.position == 0 || s.comeback.position >= s.floor-1 {
		return nil
	}
	_, path, _ := strings.Cut(strings.TrimPrefix(s.comeback.next, "http://"), "/")
	a, err := s.answered(ctx, "http://"+s.proxies["client-query"].address+"/"+path)
	if err != nil {
		return err
	}
	if a.Status != http.StatusGone || !strings.Contains(a.Header.Get("Link"), `rel="first"`) {
		s.find("a page behind position %d, with all below %d dropped: %d %.200s", s.comeback.position, s.floor, a.Status, a.Body)
	}
	ctx, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	var first *told
	f := newFollower(s)
	f.last = s.comeback.position
	err = f.once(ctx, func(e told) bool { first = &e; return false })
	if first == nil {
		return fmt.Errorf("a stream from position %d: %w", s.comeback.position, err)
	}
	if first.name != "reset" || first.id < s.floor-1 {
		s.find("a stream behind position %d, with all below %d dropped, begins with %q at %d", s.comeback.position, s.floor, first.name, first.id)
	}
	s.figures.count("clients that came back to what was dropped")
	return nil
}

// answered is the answer to a GET, once there is one.
func (s *system) answered(ctx context.Context, url string) (a testrig.Answer, err error) {
	err = testrig.Until(ctx, settleBound, "a question is answered", func(ctx context.Context) (err error) {
		a, err = testrig.Get(ctx, url)
		if err == nil && a.Status >= http.StatusInternalServerError {
			err = fmt.Errorf("GET %s: %d", url, a.Status)
		}
		return err
	})
	return a, err
}
