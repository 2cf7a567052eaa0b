package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/event"
	"cairn/internal/testrig"
)

// mostFound bounds what is told again at the end.
const mostFound = 20

// TestFaults is the campaign: see the package's doc.
func TestFaults(t *testing.T) {
	logs, err := os.MkdirTemp("", "cairn-faults-logs-")
	if err != nil {
		t.Fatal(err)
	}
	figures := newFigures()
	var kinds []string
	if *only != "" {
		kinds = strings.Split(*only, ",")
	}
	plan := schedule(*seed, *first+*rounds, kinds)[*first:]
	if n := len(plan); n > 0 && len(kinds) == 0 {
		plan = append(plan, theRest(plan[n-1]))
	}
	var found []string
	for len(plan) > 0 && !t.Failed() {
		n := 1
		for n < len(plan) && plan[n].system == plan[0].system {
			n++
		}
		t.Run(fmt.Sprintf("system%d", plan[0].system), func(t *testing.T) { found = live(t, logs, plan[:n], figures) })
		plan = plan[n:]
	}
	t.Logf("seed %d\n%s", *seed, figures)
	if t.Failed() {
		// The first of it again, at the end: what comes between is long.
		t.Logf("%s\nall that the processes said is in %s", strings.Join(found[:min(len(found), mostFound)], "\n"), logs)
		return
	}
	if err := os.RemoveAll(logs); err != nil {
		t.Error(err)
	}
}

// live leads one system through its rounds, and returns what was found wrong.
func live(t *testing.T, logs string, plan []*round, f *figures) []string {
	s := newSystem(t, fmt.Sprintf("s%d", plan[0].system), logs, f)
	s.smallDisk(t)
	following, endFollowing := context.WithCancel(t.Context())
	var follower sync.WaitGroup
	follower.Go(func() { s.follower.follow(following) })
	defer follower.Wait()
	defer endFollowing()
	for i, r := range plan {
		began := time.Now()
		err := s.round(t.Context(), r, i == len(plan)-1)
		if err != nil {
			s.find("%v", err)
		}
		if found := s.found(); len(found) > 0 {
			t.Errorf("seed %d, %s\nTo strike the same again: -seed %d -first %d -rounds %d", *seed, r, *seed, plan[0].number, r.number-plan[0].number+1)
			for _, text := range found {
				t.Error(text)
			}
			s.keep(t)
			return found
		}
		t.Logf("%s: %d points and %d changes in all, %v", r, s.ledger.Sent(), s.changes.Done(), time.Since(began).Round(10*time.Millisecond))
	}
	if err := s.halt(t.Context()); err != nil {
		t.Error(err)
	}
	return nil
}

// round lets the faults strike while writers write and readers read, heals,
// waits until all has settled, and compares.
func (s *system) round(ctx context.Context, r *round, last bool) error {
	if err := s.become(ctx, r.shape); err != nil {
		return fmt.Errorf("at the beginning: %w", err)
	}
	s.figures.round(r)
	s.putFence(ctx, *seed)
	s.drops = slices.ContainsFunc(r.faults, func(f fault) bool { return f.kind == "kill-in-retention" || f.kind == "kill-at-the-rest" })
	writes, end := context.WithCancel(ctx)
	defer end()
	seed := *seed<<32 + uint64(r.number)<<8 //nolint:gosec // a small number
	finishWriting := s.writing(writes, r.number, seed)
	finishChanging := s.changing(writes, seed+uint64(len(writers)))
	finishSending := s.sending(writes, seed+uint64(len(writers)+len(changers)+1))
	reads, endReads := context.WithCancel(ctx)
	var readers sync.WaitGroup
	readers.Go(func() { s.crossings.hook.dieAndComeBack(reads, s, seed) })
	readers.Go(func() { s.reading(reads, seed+uint64(len(writers)+len(changers))) })
	s.strike(ctx, r)
	began := time.Now()
	err := s.heal(ctx)
	// Whoever is not answered by then never will be.
	patience := time.AfterFunc(settleBound, func() {
		s.find("%v after the end of the faults a writer has no answer", settleBound)
		end()
	})
	finishWriting()
	finishChanging()
	finishSending()
	patience.Stop()
	if err == nil {
		err = s.settle(ctx)
	}
	s.figures.settled(time.Since(began))
	endReads()
	readers.Wait()
	if err != nil {
		return err
	}
	floor, err := s.dropped(ctx)
	if err != nil {
		return err
	}
	if err := s.forget(ctx, floor); err != nil {
		return err
	}
	changing, err := s.compareChanges(ctx)
	if err != nil {
		return err
	}
	if err := s.compare(ctx, last, changing); err != nil {
		return err
	}
	if err := s.compareCrossings(ctx, r); err != nil {
		return err
	}
	if last {
		if err := s.hasTold(ctx); err != nil {
			return err
		}
	}
	at, err := s.checkpoint(ctx)
	if err != nil {
		return err
	}
	s.through = int64(event.EndOf(uint64(at))) //nolint:gosec // a sequence
	if err := s.comesBack(ctx); err != nil {
		return err
	}
	return s.leave(ctx)
}

// settle waits until every role is ready, the checkpoint has reached the end of the
// stream, and the view points shows all segments. A segment that began while somebody
// read the view is in it a moment later.
func (s *system) settle(ctx context.Context) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return testrig.Until(ctx, settleBound, "all of the stream is in the database", func(ctx context.Context) error {
		end, err := s.lastSequence(ctx)
		if err != nil {
			return err
		}
		at, err := s.checkpoint(ctx)
		if err == nil && at != int64(end) { //nolint:gosec // below 2⁵¹
			err = fmt.Errorf("the checkpoint is at %d of %d", at, end)
		}
		if err != nil {
			return err
		}
		return s.viewShowsAll(ctx)
	})
}

// viewShowsAll returns an error where the view points lacks a segment.
func (s *system) viewShowsAll(ctx context.Context) error {
	ctx, conn, end, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	var lacks *string
	err = conn.QueryRow(ctx, `select string_agg(id::text, ', ') from segments s where state in ('sealed', 'head') and not exists (
		select from pg_rewrite r join pg_depend d on d.objid = r.oid and d.classid = 'pg_rewrite'::regclass
		where r.ev_class = 'points'::regclass and d.refobjid = to_regclass('points_' || s.id))`).Scan(&lacks)
	if err == nil && lacks != nil {
		s.figures.count("waits for the view points")
		err = fmt.Errorf("the view points lacks the segments %s", *lacks)
	}
	return err
}

// keep makes the state of a system that failed outlive it.
func (s *system) keep(t *testing.T) {
	s.stacks()
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	conn, err := s.admin(ctx, "")
	if err != nil {
		t.Logf("look at the database: %v", err)
		return
	}
	defer conn.Close(ctx)
	for _, q := range []string{
		`select row_to_json(c)::text from checkpoint c`,
		`select format('%s %s %s %s %s', pid, application_name, state, wait_event, left(query, 100)) from pg_stat_activity where datname = current_database()`,
		`select format('%s %s %s', position, reason, detail) from parked limit 10`,
	} {
		rows, err := conn.Query(ctx, q)
		if err != nil {
			t.Log(err)
			continue
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		t.Log(q, lines, err)
	}
	if err := os.CopyFS(filepath.Join(s.logs, s.name+"-store"), os.DirFS(filepath.Join(s.data, "jetstream"))); err != nil {
		t.Logf("keep the store: %v", err)
	}
}
