package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// besideSteps is how often the catalogue changes while reads continue: each is a segment
// that was begun, sealed, merged or dropped.
const besideSteps = 40

// lookPause comes after each look at who waits.
const lookPause = 10 * time.Millisecond

// besideReads are requests that go to the segments in each way that there is. Each
// is another one each time, so that it is asked of the database.
var besideReads = []func(n int) string{
	func(n int) string { return fmt.Sprintf("/points?limit=%d", 50+n%500) },
	func(n int) string { return fmt.Sprintf("/points?limit=200&bbox=%d,-60,%d,60", n%170-180, n%170-10) },
	func(n int) string { return fmt.Sprintf("/points?limit=100&sortby=-time&bbox=-180,%d,180,90", n%80-90) },
	func(n int) string { return fmt.Sprintf("/points?limit=50&near=%d,10,400000", n%360-180) },
	func(n int) string {
		return fmt.Sprintf("/points?limit=1&numberMatched=true&bbox=-180,-90,%d.5,90", n%360-180)
	},
	func(n int) string { return fmt.Sprintf("/points?limit=100&name=none-%d", n) },
}

// While segments are begun, sealed, merged and dropped, and what is too old goes, no
// read fails, and none waits for a lock: of the primary, and of a standby that
// follows it.
func TestReadsBesideSegments(t *testing.T) {
	s := newSystem(t, "beside", t.TempDir(), newFigures())
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	standby := testkit.Standby(t, s.cluster, "second")
	args := slices.Clone(s.roles["query"].args)
	args[slices.Index(args, "--database-url")+1] = standby.URL()
	s.roles["standby"] = &role{s: s, name: "standby", args: args}
	must(s.become(ctx, apart))
	must(s.roles["standby"].start(ctx))
	must(testrig.Until(ctx, settleBound, "the replica on the standby is ready", func(ctx context.Context) error {
		return testrig.GetJSON(ctx, s.roles["standby"].base()+"/readyz", nil)
	}))
	writes, endWrites := context.WithCancel(ctx)
	defer endWrites()
	finishWriting, finishChanging := s.writing(writes, 0, 1), s.changing(writes, 100)
	reads, endReads := context.WithCancel(ctx)
	var readers sync.WaitGroup
	var answered [2]atomic.Int64
	for i, name := range []string{"query", "standby"} {
		for kind := range besideReads {
			readers.Go(func() { s.readBeside(reads, s.roles[name].base(), kind, &answered[i]) })
		}
	}
	s.watchLocks(reads, &readers, s.cluster.URL(), standby.URL())
	must(testrig.Until(ctx, settleBound, "segments come and go", s.comeAndGo))
	endReads()
	readers.Wait()
	finishWriting()
	finishChanging()
	must(s.settle(ctx))
	must(s.roles["standby"].stop())
	must(s.halt(ctx))
	for _, text := range s.found() {
		t.Error(text)
	}
	if answered[0].Load() == 0 || answered[1].Load() == 0 {
		t.Error("nothing was read")
	}
	t.Logf("%d answers from the primary, %d from the standby", answered[0].Load(), answered[1].Load())
}

// readBeside asks until ctx ends. Whatever is not 200 is a finding.
func (s *system) readBeside(ctx context.Context, base string, kind int, answered *atomic.Int64) {
	r := rand.New(rand.NewPCG(uint64(kind), 3)) //nolint:gosec // small
	for ctx.Err() == nil {
		path := besideReads[kind](r.IntN(100_000))
		a, err := testrig.Get(ctx, base+path)
		if ctx.Err() != nil {
			return
		}
		if err != nil || a.Status != http.StatusOK {
			s.find("GET %s: %d %v %.300s", path, a.Status, err, a.Body)
			return
		}
		answered.Add(1)
		_ = testrig.Pause(ctx, readPause)
	}
}

// whoWaits says which reader waits for which table, and for whom.
const whoWaits = `select coalesce(string_agg(format('%s of %s, for %s', l.mode, coalesce(c.relname, l.relation::text),
		(select string_agg(left(b.query, 100), '; ') from pg_stat_activity b where b.pid = any (pg_blocking_pids(a.pid)))), '; '), '')
	from pg_locks l join pg_stat_activity a using (pid) left join pg_class c on c.oid = l.relation
	where not l.granted and l.locktype = 'relation' and a.application_name = 'cairn-query'`

// watchLocks looks repeatedly whether a statement of a reader waits for a lock.
func (s *system) watchLocks(ctx context.Context, group *sync.WaitGroup, urls ...string) {
	for _, url := range urls {
		group.Go(func() {
			cfg, err := pgx.ParseConfig(url)
			if err != nil {
				s.find("%v", err)
				return
			}
			cfg.RuntimeParams["application_name"] = "faults"
			conn, err := pgx.ConnectConfig(ctx, cfg)
			if err != nil {
				s.find("%v", err)
				return
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for ctx.Err() == nil {
				var waiting string
				err := conn.QueryRow(ctx, whoWaits).Scan(&waiting)
				if err != nil && ctx.Err() == nil {
					s.find("look at the readers' locks: %v", err)
					return
				}
				if waiting != "" {
					s.find("a read waits for a lock: %s", waiting)
				}
				_ = testrig.Pause(ctx, lookPause)
			}
		})
	}
}

// comeAndGo returns nil when enough has happened. Meanwhile it makes the oldest
// segment too old, once there are some.
func (s *system) comeAndGo(ctx context.Context) error {
	ctx, conn, end, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer end()
	var changes, floor, sealed, gone int64
	err = conn.QueryRow(ctx, `select catalogue, floor, (select count(*) from segments where state = 'sealed' and rows is not null),
		(select max(id) from segments) - (select count(*) from segments) from checkpoint`).Scan(&changes, &floor, &sealed, &gone)
	switch {
	case err != nil:
		return err
	case floor == 0 && sealed >= 3:
		_, err := conn.Exec(ctx, `update segments set received_to = received_to - `+aging+`
			where id = (select id from segments where state = 'sealed' and received_to is not null order by low limit 1)`)
		return fmt.Errorf("the oldest of %d segments is too old: %w", sealed, err)
	case changes < besideSteps || floor == 0 || gone == 0:
		return fmt.Errorf("the catalogue has changed %d times, the floor is %d, %d tables are gone", changes, floor, gone)
	}
	return nil
}
