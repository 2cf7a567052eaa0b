package query

import (
	"fmt"
	"testing"

	"cairn/event"
	"cairn/schema"
)

// seal ends the head at a sequence, and begins another, as the projector does.
func (f *fixture) seal(id int, sequence uint64) {
	f.t.Helper()
	f.exec("begin")
	f.exec(`update segments set state = 'sealed', high = $1, revision = 0 where state = 'head'`, int64(event.At(sequence, 0)))
	f.exec(schema.CreateTable(id))
	for _, sql := range schema.HeadIndexes(id) {
		f.exec(sql)
	}
	f.exec(schema.GrantLike(id))
	f.exec(`insert into segments (id, low, high, state) values ($1, $2, $3, 'head')`, id, int64(event.At(sequence, 0)), int64(schema.HeadEnd))
	f.exec("update checkpoint set catalogue = catalogue + 1")
	f.exec("commit")
}

// created adds one point of an envelope to a segment.
func (f *fixture) created(segment int, sequence uint64) {
	f.t.Helper()
	id := fmt.Sprintf("p%d.0", sequence)
	f.exec(`insert into `+schema.Table(segment)+` (id, external_id, position, geom, received_at)
		values ($1, $2, $3, ST_SetSRID(ST_MakePoint(1, 1), 4326), now())`, event.Key(id), id, int64(event.At(sequence, 0)))
	f.exec("update checkpoint set sequence = $1", int64(sequence))
	f.tracker.Saw(sequence)
}

// The feed goes over segments as over one table: what is new in the head, and what
// changed in those that are sealed.
func TestFeedOverSegments(t *testing.T) {
	f := newFixture(t)
	f.created(1, 1)
	f.created(1, 2)
	f.seal(2, 3)
	f.created(2, 3)
	live := f.listen("/stream")
	f.joined(1)
	f.exec("update segments set revision = $1 where id = 1", int64(event.At(4, 0)))
	f.replace(4, "p2.0", 5, 5)
	live.expect("updated", "p2.0", 4)
	f.created(2, 5)
	live.expect("created", "p5.0", 5)
	f.seal(3, 6)
	f.created(3, 6)
	live.expect("created", "p6.0", 6)

	// A reading ends with a segment: what was changed later than that is told where
	// it was created, as it is, and again where it was changed.
	replay := func(again bool) {
		t.Helper()
		l := f.listen("/stream?since=0")
		for _, n := range []uint64{1, 2, 3} {
			l.expect("created", fmt.Sprintf("p%d.0", n), n)
		}
		if again {
			l.expect("updated", "p2.0", 4)
		}
		for _, n := range []uint64{5, 6} {
			l.expect("created", fmt.Sprintf("p%d.0", n), n)
		}
	}
	replay(true)
	again := f.listen("/stream?bbox=4,4,6,6", headerLastEventID, fmt.Sprint(int64(event.EndOf(2))))
	again.expect("updated", "p2.0", 4)

	// Two segments are merged while somebody reads: their tables stay a while, and
	// go then.
	c, err := f.catalogue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.exec("begin")
	f.exec(schema.CreateTable(4))
	f.exec(`insert into points_4 select * from points_1 union all select * from points_2`)
	for _, sql := range schema.HeadIndexes(4) {
		f.exec(sql)
	}
	f.exec(schema.GrantLike(4))
	f.exec(`update segments set state = 'dropped' where id in (1, 2)`)
	f.exec(`insert into segments (id, low, high, state, revision) select 4, 0, low, 'sealed', $1 from segments where id = 3`, int64(event.At(4, 0)))
	f.exec("update checkpoint set catalogue = catalogue + 1")
	f.exec("commit")
	read := feedRead{service: f.service, upTo: event.EndOf(c.sequence)}
	if err := read.read(c); err != nil || len(read.changes) != 2 {
		t.Errorf("with the segments of before: %v, %d rows", err, len(read.changes))
	}
	f.exec("drop view points")
	f.exec("drop table points_1, points_2")
	read = feedRead{service: f.service, upTo: event.EndOf(c.sequence)}
	if err := read.read(c); !isGone(err) {
		t.Errorf("with segments that are gone: %v", err)
	}
	replay(false)
	rows, from, _, err := f.older(event.At(6, 0), 10)
	if err != nil || len(rows) != 4 || from != 0 {
		t.Errorf("older: %d rows from %d, %v", len(rows), from, err)
	}
}
