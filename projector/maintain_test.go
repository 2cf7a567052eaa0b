package projector

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"cairn/event"
	"cairn/internal/hosts"
	"cairn/internal/testkit"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// A store is a database whose rows a test writes as a projector would: each batch
// moves the checkpoint in its transaction.
type store struct {
	t     *testing.T
	url   string
	pool  *pgxpool.Pool
	mu    sync.Mutex
	model map[event.Position]string // id by position, of the points that are not deleted, with the revision
	r     *rand.Rand
}

func newStore(t *testing.T) *store {
	s := &store{t: t, url: testkit.Postgres(t), model: map[event.Position]string{}, r: rand.New(rand.NewPCG(1, 2))}
	pool, err := pgxpool.New(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s.pool = pool
	return s
}

// maintenance is one with small segments, stepped by the test.
func (s *store) maintenance(ctx context.Context, keep time.Duration) *maintenance {
	s.t.Helper()
	m := newMaintenance(Config{DatabaseURL: s.url, Keep: keep, Log: testkit.Log(s.t)}, source{url: s.url, seen: &hosts.Seen{}}, newSegmentMetrics(prometheus.NewRegistry()))
	m.sizes = segmentSizes{head: 100, fan: 3, most: 2000, lazy: 6, grace: 0}
	conn, err := m.source.connect(ctx, maintenanceName)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	m.conn = conn
	return m
}

// batch runs do in a transaction that moves the checkpoint, with the next sequence.
func (s *store) batch(do func(tx pgx.Tx, sequence uint64) error) {
	s.t.Helper()
	err := pgx.BeginFunc(s.t.Context(), s.pool, func(tx pgx.Tx) error {
		var sequence int64
		if err := tx.QueryRow(s.t.Context(), `update checkpoint set sequence = sequence + 1 returning sequence`).Scan(&sequence); err != nil {
			return err
		}
		return do(tx, uint64(sequence))
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// create adds n points, of which every third has an id that is not of version 7.
func (s *store) create(n int, received time.Time) {
	s.t.Helper()
	s.batch(func(tx pgx.Tx, sequence uint64) error {
		var id int
		if err := tx.QueryRow(s.t.Context(), `select id from segments where state = 'head'`).Scan(&id); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range n {
			key := event.NewKey()
			if i%3 == 0 {
				key = event.Key(fmt.Sprint(sequence, i))
			}
			at := event.At(sequence, i)
			batch.Queue(`insert into `+schema.Table(id)+` (id, position, geom, received_at, name) values ($1, $2, st_setsrid(st_makepoint($3, $4), 4326), $5, $6)`,
				key, int64(at), s.r.Float64()*360-180, s.r.Float64()*180-90, received, fmt.Sprint("n", i))
			s.model[at] = fmt.Sprintf("%s %d", key, 0)
		}
		return tx.SendBatch(s.t.Context(), batch).Close()
	})
}

// change replaces or deletes one point, wherever it lies.
func (s *store) change() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var at event.Position
	n := s.r.IntN(len(s.model))
	for at = range s.model {
		if n--; n < 0 {
			break
		}
	}
	s.batch(func(tx pgx.Tx, sequence uint64) error {
		revision := int64(event.At(sequence, 0))
		var id int
		var known bool
		err := tx.QueryRow(s.t.Context(), `select id, other_ids is not null from segments where low <= $1 and $1 < high and state in ('head', 'sealed')`, int64(at)).Scan(&id, &known)
		if err != nil {
			return fmt.Errorf("position %d: %w", at, err)
		}
		var key string
		if s.r.IntN(3) == 0 {
			err = tx.QueryRow(s.t.Context(), `update `+schema.Table(id)+` set geom = null, name = null, revision = $2 where position = $1 returning id::text`, int64(at), revision).Scan(&key)
			delete(s.model, at)
			if err == nil && known {
				_, err = tx.Exec(s.t.Context(), `update segments set rows = rows - 1, revision = $2 where id = $1`, id, revision)
			}
			return err
		}
		err = tx.QueryRow(s.t.Context(), `update `+schema.Table(id)+` set geom = st_setsrid(st_makepoint(180, 90), 4326), observed_at = 'epoch', revision = $2 where position = $1 returning id::text`,
			int64(at), revision).Scan(&key)
		s.model[at] = fmt.Sprintf("%s %d", key, revision)
		if err == nil && known { // as the projector widens it
			_, err = tx.Exec(s.t.Context(), `update segments set revision = $2, east = 180, north = 90, time_from = 'epoch', cells = set_byte(cells, 72*36-1, greatest(1, get_byte(cells, 72*36-1))) where id = $1`, id, revision)
			if err == nil {
				err = widenZone(s.t.Context(), tx, id, int64(at), time.Unix(0, 0))
			}
		}
		return err
	})
}

func widenZone(ctx context.Context, tx pgx.Tx, id int, position int64, at time.Time) error {
	seg := schema.Segment{ID: id}
	err := tx.QueryRow(ctx, `select low, high, zones from segments where id = $1`, id).Scan(&seg.Low, &seg.High, &seg.Zones)
	if err != nil || seg.Zones == nil {
		return err
	}
	schema.WidenZone(seg.Zones, seg.ZoneAt(position), at)
	_, err = tx.Exec(ctx, `update segments set zones = $2 where id = $1`, id, seg.Zones)
	return err
}

// settle steps until there is nothing to do.
func (s *store) settle(m *maintenance) {
	s.t.Helper()
	for {
		worked, err := m.step(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		if !worked {
			return
		}
	}
}

// check compares the segments with the model, and the catalogue with the segments.
func (s *store) check() []schema.Segment {
	s.t.Helper()
	got := map[event.Position]string{}
	rows, err := s.pool.Query(s.t.Context(), `select position, id::text || ' ' || coalesce(revision, 0) from points`)
	if err != nil {
		s.t.Fatal(err)
	}
	var at event.Position
	var what string
	if _, err := pgx.ForEachRow(rows, []any{(*int64)(&at), &what}, func() error {
		if got[at] != "" {
			s.t.Errorf("position %d is there twice", at)
		}
		got[at] = what
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	for at, want := range s.model {
		if got[at] != want {
			s.t.Errorf("position %d is %q, want %q", at, got[at], want)
		}
	}
	if len(got) != len(s.model) {
		s.t.Errorf("%d points, want %d", len(got), len(s.model))
	}
	return s.checkCatalogue()
}

func (s *store) checkCatalogue() (live []schema.Segment) {
	s.t.Helper()
	all, err := schema.Segments(s.t.Context(), s.pool)
	if err != nil {
		s.t.Fatal(err)
	}
	var floor int64
	if err := s.pool.QueryRow(s.t.Context(), `select floor from checkpoint`).Scan(&floor); err != nil {
		s.t.Fatal(err)
	}
	edge := floor
	for _, seg := range all {
		if seg.State != schema.Head && seg.State != schema.Sealed {
			continue
		}
		live = append(live, seg)
		if seg.Low != edge {
			s.t.Errorf("segment %d begins at %d, but what is before it ends at %d", seg.ID, seg.Low, edge)
		}
		edge = seg.High
		if !seg.Known() {
			continue
		}
		var wrong string
		err := s.pool.QueryRow(s.t.Context(), `select coalesce(string_agg(what, ', '), '') from (
			select 'rows' as what from `+schema.Table(seg.ID)+` where geom is not null having count(*) <> (select rows from segments where id = $1)
			union all select 'revision' from `+schema.Table(seg.ID)+` having coalesce(max(revision), 0) > (select revision from segments where id = $1)
			union all select 'other ids' from `+schema.Table(seg.ID)+` where substr(id::text, 15, 1) <> '7' having count(*) <> (select other_ids from segments where id = $1)
			union all select distinct 'box, time, cells or ids' from `+schema.Table(seg.ID)+` p, segments g where g.id = $1 and (
				p.geom is not null and (not (st_x(p.geom) between west and east and st_y(p.geom) between south and north)
					or not coalesce(observed_at, received_at) between time_from and time_to or get_byte(cells, `+cellSQL+`) = 0)
				or p.revision is null and p.received_at > received_to or substr(p.id::text, 15, 1) = '7' and not p.id between v7_from and v7_to
				or p.position < low or p.position >= high)) w`, seg.ID).Scan(&wrong)
		if err != nil {
			s.t.Fatal(err)
		}
		if wrong != "" {
			s.t.Errorf("the catalogue is wrong of segment %d: %s", seg.ID, wrong)
		}
		checkZones(s.t, s.pool, &seg)
	}
	if edge != schema.HeadEnd {
		s.t.Errorf("the last segment ends at %d", edge)
	}
	return live
}

func states(all []schema.Segment) (list []string) {
	for _, s := range all {
		list = append(list, s.State)
	}
	return list
}

// Heads become segments, segments are merged, and few are left.
func TestSegmentsAreSealedAndMerged(t *testing.T) {
	s := newStore(t)
	m := s.maintenance(t.Context(), 0)
	for range 40 {
		s.create(60, time.Now())
		s.settle(m)
	}
	live := s.check()
	if len(live) > 9 || len(live) < 3 {
		t.Errorf("%d segments: %v", len(live), states(live))
	}
	for _, seg := range live[:len(live)-1] {
		if !seg.Known() || seg.Rows == nil {
			t.Errorf("segment %d is not described", seg.ID)
		}
	}
	tables := 0
	if err := s.pool.QueryRow(t.Context(), `select count(*) from pg_class where relkind = 'r' and relname ~ '^points_\d+$'`).Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if tables != len(live) {
		t.Errorf("%d tables for %d segments", tables, len(live))
	}
	// What is merged lies together by place.
	var ordered bool
	if err := s.pool.QueryRow(t.Context(), `select bool_and(a <= b) from (select geom as b, lag(geom) over (order by ctid) as a from `+schema.Table(live[0].ID)+` where geom is not null) o where a is not null`).Scan(&ordered); err != nil {
		t.Fatal(err)
	}
	if !ordered {
		t.Error("the rows of a merged segment are not in the order of their places")
	}
}

// Whatever is changed while segments are sealed, merged and dropped is there
// afterwards; and so it is where maintenance is ended at any point and begun again.
func TestChangesDuringMaintenance(t *testing.T) {
	s := newStore(t)
	for range 3 {
		s.create(100, time.Now())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for round := 0; ctx.Err() == nil; round++ {
			m := s.maintenance(t.Context(), 0)
			// As when the process is killed: its connection is gone, and the server
			// finds out when it has done what it was told.
			cut := time.AfterFunc(time.Duration(20+37*(round%9))*time.Millisecond, func() { _ = m.conn.PgConn().Conn().Close() })
			var err error
			for err == nil {
				_, err = m.round(t.Context())
			}
			cut.Stop()
			_ = m.conn.Close(t.Context())
		}
	})
	for i := range 600 {
		if i%12 == 0 {
			s.create(50, time.Now())
		}
		s.change()
	}
	cancel()
	group.Wait()
	m := s.maintenance(t.Context(), 0)
	if _, err := m.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.settle(m)
	live := s.check()
	if len(live) > 12 {
		t.Errorf("%d segments", len(live))
	}
}

// The oldest segments go, whole, when all in them is older than what is kept.
func TestKeep(t *testing.T) {
	s := newStore(t)
	old := time.Now().Add(-2 * time.Hour)
	for range 10 {
		s.create(100, old)
	}
	m := s.maintenance(t.Context(), time.Hour)
	s.settle(m)
	s.create(10, time.Now())
	gone := 0
	for at := range s.model {
		if at < event.At(11, 0) {
			delete(s.model, at)
			gone++
		}
	}
	s.settle(m)
	live := s.check()
	if gone != 1000 || len(live) != 1 || live[0].Low != int64(event.At(11, 0)) {
		t.Errorf("%d gone; left: %v from %d", gone, states(live), live[0].Low)
	}
	// A head that nothing is added to ages too.
	s.batch(func(tx pgx.Tx, _ uint64) error {
		_, err := tx.Exec(t.Context(), `update `+schema.Table(live[0].ID)+` set received_at = $1`, old)
		return err
	})
	clear(s.model)
	s.settle(m)
	s.check()
}

// A point is as old as its creation: one that was changed yesterday holds no segment.
func TestChangesDoNotKeepASegment(t *testing.T) {
	s := newStore(t)
	m := s.maintenance(t.Context(), time.Hour)
	old := time.Now().Add(-59 * time.Minute)
	for range 3 {
		s.create(100, old)
		s.settle(m)
	}
	merged := s.check()[0].ID
	s.batch(func(tx pgx.Tx, sequence uint64) error {
		var at int64
		var key string
		revision := int64(event.At(sequence, 0))
		err := tx.QueryRow(t.Context(), `update `+schema.Table(merged)+` set received_at = now(), revision = $1
			where position = (select max(position) from `+schema.Table(merged)+`) returning position, id::text`, revision).Scan(&at, &key)
		if err == nil {
			s.model[event.Position(at)] = fmt.Sprintf("%s %d", key, revision)
			_, err = tx.Exec(t.Context(), `update segments set revision = $2 where id = $1`, merged, revision)
		}
		return err
	})
	for range 6 { // and they are merged
		s.create(100, old)
		s.settle(m)
	}
	live := s.check()
	if len(live) > 5 {
		t.Fatalf("%d segments: %v", len(live), states(live))
	}
	for _, seg := range live[:len(live)-1] {
		if seg.ReceivedTo == nil || seg.ReceivedTo.After(old.Add(time.Second)) {
			t.Errorf("segment %d is as new as %v", seg.ID, seg.ReceivedTo)
		}
	}
	if gone := expired(live, 30*time.Minute, time.Now()); len(gone) != len(live)-1 {
		t.Errorf("%d of %d segments are older than half an hour", len(gone), len(live)-1)
	}
}

// A table that is far too large, as an earlier version's, is cut into some.
func TestSplit(t *testing.T) {
	s := newStore(t)
	m := s.maintenance(t.Context(), 0)
	m.sizes.head = 5000
	for range 5 {
		s.create(1000, time.Now())
	}
	if _, err := m.step(t.Context()); err != nil { // rotates
		t.Fatal(err)
	}
	m.sizes.most = 600
	s.settle(m)
	live := s.check()
	if len(live) != 6 || slices.ContainsFunc(live, func(g schema.Segment) bool { return g.Rows != nil && *g.Rows > 1200 }) {
		t.Errorf("%d segments: %v", len(live), states(live))
	}
}

// What searches and tiles go by is there before a merged segment is read at all: its
// indexes in Postgres' memory, and its points counted.
func TestMergedSegmentsAreReady(t *testing.T) {
	s := newStore(t)
	if _, err := s.pool.Exec(t.Context(), `create extension pg_buffercache`); err != nil {
		t.Fatal(err)
	}
	m := s.maintenance(t.Context(), 0)
	m.sizes.most = 10_000
	var merged int
	for i := 0; merged == 0; i++ {
		if i%10 == 0 {
			s.create(1000, time.Now())
		}
		if _, err := m.step(t.Context()); err != nil || i == 100 {
			t.Fatalf("nothing is merged after %d steps: %v", i, err)
		}
		all, err := schema.Segments(t.Context(), s.pool)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range all {
			if g.State == schema.Sealed && g.Rows != nil && *g.Rows >= 2000 {
				merged = g.ID
			}
		}
	}
	number := func(sql string) (n int) {
		if err := s.pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, index := range []string{"_geom", "_position_key", "_time"} {
		name := schema.Table(merged) + index
		pages := number(`select pg_relation_size('` + name + `') / current_setting('block_size')::int`)
		held := number(`select count(*) from pg_buffercache where relfilenode = pg_relation_filenode('` + name + `') and relforknumber = 0
			and reldatabase = (select oid from pg_database where datname = current_database())`)
		if pages < 5 || held < pages-1 { // a B-tree's first page is read once a connection
			t.Errorf("%s: %d of %d pages are in memory", name, held, pages)
		}
	}
	if n := number(fmt.Sprintf(`select count(*) from segment_cells where segment = %d`, merged)); n != 1 {
		t.Error("the points of the merged segment are not counted")
	}
}

// Somebody with psql who holds the view, or a table, delays what needs it, and
// nothing else.
func TestReadersDelayMaintenanceOnly(t *testing.T) {
	s := newStore(t)
	m := s.maintenance(t.Context(), 0)
	s.create(100, time.Now())
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select count(*) from points`); err != nil {
		t.Fatal(err)
	}
	if worked, err := m.step(t.Context()); err != nil || !worked {
		t.Errorf("a step while the view is read: %v, %v", worked, err)
	}
	s.create(1, time.Now()) // batches continue, into the next segment
	if old, err := viewIsOld(t.Context(), m.conn); err != nil || !old {
		t.Errorf("the view changed while it was read: %v, %v", old, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.settle(m)
	s.check()
}
