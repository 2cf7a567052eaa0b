package projector

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"cairn/event"
	"cairn/internal/testkit"
	"cairn/schema"
)

// An old table, larger than a segment, becomes several in the order of place, while
// its points change and the projector is ended repeatedly.
func TestAnOldTableIsSplit(t *testing.T) {
	const headRows, old = 50, 4000
	b := newBench(t)
	b.exec(fmt.Sprintf(`
		update segments set id = 2, low = %[1]d where id = 1;
		insert into segments (id, low, high, state) values (1, 0, %[1]d, 'sealed');
		alter table points_1 rename to points_2;
		create table points_1 (like points_2);
		alter table points_1 add constraint points_1_old primary key (id), add unique (position);
		create or replace view points as %[2]s;
		update checkpoint set sequence = 99;
		insert into points_1 (id, external_id, position, geom, received_at, properties)
			select md5('p' || i)::uuid, 'p' || i, 4096 * (1 + i / 50) + i %% 50, ST_SetSRID(ST_MakePoint(i %% 180, i %% 90), 4326), now(), '{"v": "0"}' from generate_series(0, %[3]d) i`,
		event.At(100, 0), viewOf(2, 1), old-1))
	var ids []string
	for i := range old {
		ids = append(ids, fmt.Sprintf("p%d", i))
	}
	small := func(c *Config) { c.sizes = smallSizes(headRows) }
	stop := b.start(small)
	changed := 0
	var last event.Position
	for round := range 4 {
		for i := round; i < old; i += 37 {
			last = b.publish(lineOf(event.Event{ID: b.idOf(ids[i]), Type: event.Deleted, Received: time.Now().UTC()}))
			changed++
			if i%7 == 0 {
				break
			}
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		stop = b.start(small)
	}
	b.waitFor(last)
	b.settle(headRows)
	b.checkCatalogue()
	deleted := b.count(`select count(distinct position) from (` + deletedOf(b) + `) d`)
	if points := b.count("select count(*) from points"); points+deleted != old || deleted == 0 {
		t.Errorf("%d points and %d deleted of %d", points, deleted, old)
	}
	if n := b.count("select count(*) from segments where state = 'sealed'"); n < 2 {
		t.Errorf("%d sealed segments", n)
	}
}

// The table from before segments, as the migration leaves it, becomes one in which
// points that lie together on earth lie together, though points change meanwhile and
// the projector is ended repeatedly.
func TestAMigratedTableIsPutInOrder(t *testing.T) {
	const headRows, old = 1000, 1500
	b := newBench(t)
	b.exec(fmt.Sprintf(`
		update segments set id = 2, low = %[1]d where id = 1;
		insert into segments (id, low, high, state) values (1, 0, %[1]d, 'sealed');
		alter table points_1 rename to points_2;
		create table points_1 (like points_2);
		alter table points_1 drop column author, drop column revision;
		alter table points_1 add column revision bigint, add column author text;
		alter table points_1 add constraint points_1_old primary key (id), add unique (position);
		create or replace view points as %[2]s;
		update checkpoint set sequence = 99;
		insert into points_1 (id, external_id, position, geom, received_at, properties)
			select md5('p' || i)::uuid, 'p' || i, 4096 * (1 + i / 50) + i %% 50, ST_SetSRID(ST_MakePoint(i * 7919 %% 180, i * 104729 %% 90), 4326), now(), '{"v": "0"}' from generate_series(0, %[3]d) i`,
		event.At(100, 0), viewOf(2, 1), old-1))
	small := func(c *Config) { c.sizes = smallSizes(headRows) }
	stop := b.start(small)
	deleted := 0
	for round := range 4 {
		b.waitFor(b.publish(lineOf(event.Event{ID: b.idOf(fmt.Sprint("p", round)), Type: event.Deleted, Received: time.Now().UTC()})))
		deleted++
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		stop = b.start(small)
	}
	testkit.Eventually(t, 2*patience, "the old table to be replaced", func() bool {
		return b.count("select count(*) from segments where id = 1 and state <> 'dropped'") == 0
	})
	b.settle(headRows)
	b.checkCatalogue()
	if points := b.count("select count(*) from points"); points != old-deleted {
		t.Errorf("%d points, want %d", points, old-deleted)
	}
	table := schema.Table(b.count("select id from segments where state = 'sealed'"))
	outOfOrder := b.count(`select count(*) from (select geom, lag(geom) over (order by ctid) before from ` + table + ` where revision is null) o where before > geom`)
	if outOfOrder > 0 {
		t.Errorf("%d rows of %s follow one that comes behind them", outOfOrder, table)
	}
}

func viewOf(ids ...int) string {
	const begin = "create or replace view points as "
	return schema.View(ids)[len(begin):]
}

// idOf is the key of a point that the test made by hand.
func (b *bench) idOf(external string) (id [16]byte) {
	b.t.Helper()
	if err := b.pool.QueryRow(b.t.Context(), `select md5($1)::uuid`, external).Scan(&id); err != nil {
		b.t.Fatal(err)
	}
	return id
}

func deletedOf(b *bench) (sql string) {
	all, err := schema.Segments(b.t.Context(), b.pool)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range all {
		if s.State == schema.Sealed || s.State == schema.Head {
			if sql != "" {
				sql += " union all "
			}
			sql += "select position from " + schema.Table(s.ID) + " where geom is null"
		}
	}
	return sql
}

// What is older than --keep goes with its segment, at once; what is not stays, and
// neither reads nor writes fail meanwhile.
func TestKeepBesideReadsAndWrites(t *testing.T) {
	const headRows = 100
	b := newBench(t)
	stop := b.start(func(c *Config) { c.sizes = smallSizes(headRows) })
	var first event.Position
	for i := range 5 {
		var lines []string
		for j := range headRows {
			lines = append(lines, line(fmt.Sprintf("old-%d-%d", i, j), `{}`))
		}
		p := b.publish(lines...)
		if b.waitFor(p); i == 0 {
			first = p
		}
	}
	last := b.publish(line("new", `{}`))
	b.waitFor(last)
	b.settle(headRows)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.exec(`update segments set received_to = now() - interval '2 h' where state = 'sealed'`)

	done := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			var n int
			if err := b.pool.QueryRow(context.Background(), "select count(*) from points").Scan(&n); err != nil || n < 1 {
				t.Errorf("a read meanwhile: %d points, %v", n, err)
				return
			}
		}
	})
	b.start(func(c *Config) { c.sizes, c.Keep = smallSizes(headRows), time.Hour })
	testkit.Eventually(t, patience, "the old points to go", func() bool {
		b.waitFor(b.publish(line("new", `{}`)))
		return b.count("select count(*) from points") == 1
	})
	testkit.Eventually(t, 2*patience, "their tables to go", func() bool {
		return b.count(`select count(*) from pg_class where relkind = 'r' and relname ~ '^points_[0-9]+$'`) == 1
	})
	close(done)
	readers.Wait()
	if floor := event.Position(b.count("select floor from checkpoint")); floor <= first || floor > last {
		t.Errorf("the floor is %d, want above %d and at most %d", floor, first, last)
	}
	b.checkCatalogue()
	// What was dropped was never there.
	b.waitFor(b.publish(line("old-0-0", `{"again":true}`)))
	if points, parked := b.count("select count(*) from points"), b.count("select count(*) from parked"); points != 2 || parked != 0 {
		t.Errorf("%d points and %d parked", points, parked)
	}
}

func TestExpired(t *testing.T) {
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	const keep = 24 * time.Hour
	at := func(hours int) *time.Time { u := now.Add(time.Duration(hours) * time.Hour); return &u }
	segment := func(received *time.Time) schema.Segment {
		none := int64(0)
		return schema.Segment{State: schema.Sealed, OtherIDs: &none, ReceivedTo: received}
	}
	unknown := schema.Segment{State: schema.Sealed}
	tests := []struct {
		name string
		all  []schema.Segment
		want int
	}{
		{"none", nil, 0},
		{"all young", []schema.Segment{segment(at(-23))}, 0},
		{"the oldest", []schema.Segment{segment(at(-30)), segment(at(-25)), segment(at(-1))}, 2},
		{"nothing above one that is young", []schema.Segment{segment(at(-1)), segment(at(-30))}, 0},
		{"a clock that was ahead", []schema.Segment{segment(at(24 * 365 * 20)), segment(at(-25)), segment(at(-1))}, 2},
		{"a clock that was ahead, and nothing old above", []schema.Segment{segment(at(24 * 365 * 20)), segment(at(-1))}, 0},
		{"not known yet", []schema.Segment{unknown, segment(at(-25))}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := len(expired(tt.all, keep, now)); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
