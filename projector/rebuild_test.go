package projector

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/hosts"
	"cairn/internal/testkit"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

func (b *bench) purgeBelow(sequence uint64) {
	b.t.Helper()
	s, err := b.js.Stream(b.t.Context(), bus.Stream)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := s.Purge(b.t.Context(), jetstream.WithPurgeSequence(sequence)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) rebuild() (Rebuilt, error) {
	return Rebuild(b.t.Context(), b.bus.Endpoint(bus.UserProjector), b.url, testkit.Log(b.t))
}

func TestRebuildReplacesDamagedRowsWhileWritesGoOn(t *testing.T) {
	b := newBench(t)
	reader := "reader_" + b.database()
	b.exec("create role " + reader + "; grant select on points to " + reader)
	t.Cleanup(func() { b.exec("drop owned by " + reader + "; drop role " + reader) })
	before := b.indexes()
	b.start()
	for i := range 50 {
		b.publish(line(fmt.Sprint("a", i), `{"v":1}`), line(fmt.Sprint("b", i), `{"v":1}`))
	}
	last := b.publish(line("a1", `{"v":2}`)) // parked
	b.waitFor(last)
	b.purgeBelow(21)
	// Damage: within the replay window it is mended, before it stays.
	b.exec(fmt.Sprintf("update points_1 set name = 'wrong' where position >= %d", event.At(21, 0)))
	b.exec(fmt.Sprintf("update points_1 set name = 'old' where position < %d", event.At(21, 0)))
	b.exec(fmt.Sprintf("delete from points_1 where position = %d", event.At(30, 0)))

	stop := make(chan struct{})
	var writers, readers sync.WaitGroup
	var mu sync.Mutex
	written := 0
	writers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			p := b.publish(line(fmt.Sprint("c", i), `{}`))
			mu.Lock()
			written, last = written+1, p
			mu.Unlock()
		}
	})
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			var n int
			if err := b.pool.QueryRow(t.Context(), "select count(*) from points").Scan(&n); err != nil || n < 99 {
				t.Errorf("a read during the rebuild: %d points, %v", n, err)
				return
			}
		}
	})
	done, err := b.rebuild()
	close(stop)
	writers.Wait()
	readers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	b.waitFor(last)
	if done.Kept != 40 || done.From != 21 || done.Replayed < 61 {
		t.Errorf("rebuilt %+v", done)
	}
	if n := b.count("select count(*) from points"); n != 100+written {
		t.Errorf("%d points, want %d", n, 100+written)
	}
	if wrong, old := b.count("select count(*) from points where name = 'wrong'"), b.count("select count(*) from points where name = 'old'"); wrong != 0 || old != 40 {
		t.Errorf("%d damaged rows of the replay window left, %d rows of before it", wrong, old)
	}
	if n := b.count("select count(*) from parked"); n != 1 {
		t.Errorf("%d parked, want the one of before", n)
	}
	if after := b.indexes(); after != before {
		t.Errorf("indexes\n were %s\n are  %s", before, after)
	}
	if n := b.count("select count(*) from information_schema.role_table_grants where table_name = 'points' and grantee = '" + reader + "'"); n != 1 {
		t.Error("the reader lost its grant")
	}
	if n := b.count("select count(*) from trim_hold"); n != 0 {
		t.Error("the hold stayed")
	}
	if _, err := b.rebuild(); err != nil { // and again, as it is now
		t.Error(err)
	}
}

func TestRebuildRefusesWhatDoesNotMeet(t *testing.T) {
	b := newBench(t)
	stop := b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.publish(line("b", `{}`))
	b.publish(line("c", `{}`))
	b.purgeBelow(3) // b was never projected
	_, err := b.rebuild()
	if err == nil || !strings.Contains(err.Error(), "begins at sequence 3") {
		t.Errorf("got %v", err)
	}
	if n := b.count("select count(*) from pg_class where relkind = 'r' and relname ~ '^points_[0-9]+$' and relname <> 'points_1'"); n != 0 {
		t.Error("the new table was left behind")
	}
	if n := b.count("select count(*) from points"); n != 1 {
		t.Errorf("%d points, want 1", n)
	}
}

func TestTrimmingRespectsHolds(t *testing.T) {
	b := newBench(t)
	b.start()
	b.waitFor(b.publish(line("a", `{}`)))
	p := &projector{source: source{url: b.url, seen: &hosts.Seen{}}}
	b.exec("insert into trim_hold values ('mine', 7, now() + interval '1 hour'), ('stale', 3, now() - interval '1 second')")
	if got, err := p.held(t.Context()); err != nil || got != 7 {
		t.Errorf("held from %d, %v; want 7", got, err)
	}
}

func (b *bench) indexes() (s string) {
	b.t.Helper()
	rows, err := b.pool.Query(b.t.Context(), "select regexp_replace(indexdef, 'points_[0-9]+', 'points_N', 'g') from pg_indexes where tablename = (select 'points_' || id from segments where state = 'head') order by 1")
	if err != nil {
		b.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Join(list, "\n")
}

func (b *bench) database() (s string) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), "select current_database()").Scan(&s); err != nil {
		b.t.Fatal(err)
	}
	return s
}
