package projector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cairn/event"
	"cairn/schema"

	"github.com/jackc/pgx/v5"
)

const (
	// maintainEvery is how often the segments are looked at while there is nothing
	// to do; a full head is told at once.
	maintainEvery = time.Second
	// countHeadRounds: the head's rows are counted every so many looks, in case the
	// writer's own count was lost with it.
	countHeadRounds = 30
	// maintainPause is the pause after a failure.
	maintainPause = 5 * time.Second
	// maintenanceName is that of the connection, in Postgres' own views. One
	// projector at a time maintains, by segmentsLock.
	maintenanceName = "cairn-maintenance"
	// catalogueWait bounds the wait for what stands in the way of a change of the
	// catalogue: a batch, or somebody with psql who holds the view.
	catalogueWait = time.Second
	// dropWait bounds the wait for a table that is dropped. Whoever reads it by then is
	// a person, behind whom nobody should have to wait.
	dropWait = 200 * time.Millisecond
	// sortMemory is what one sort or index build may take.
	sortMemory = "128MB"
)

// maintenance seals, merges and drops segments, on a connection of its own, one
// step at a time. Every step is a transaction, or leaves a segment in the state
// filling that nobody reads and that the next start clears away: it may be killed
// at any point.
type maintenance struct {
	source  source
	keep    time.Duration // 0: forever
	sizes   segmentSizes
	log     *slog.Logger
	metrics *segmentMetrics
	wake    chan struct{} // holds one: there is a segment to seal
	conn    *pgx.Conn
	part    part
	// status is the segments' part of /status, of all parts of the work.
	status *atomic.Pointer[SegmentsStatus]
	// behind says that the projection has a backlog: what can wait does.
	behind func() bool
	// skipHead: nobody says that the head is full, and it was counted a moment ago.
	skipHead bool
	// swept is the floor below which the table latest has nothing any more.
	swept int64
	// steps is when the session's last step began.
	steps     *stepClock
	hungAfter time.Duration
	copyIdle  time.Duration
}

func newMaintenance(cfg Config, from source, m *segmentMetrics) *maintenance {
	return &maintenance{source: from, keep: cfg.Keep, sizes: cmp.Or(cfg.sizes, sizes), log: cfg.Log, metrics: m,
		wake: make(chan struct{}, 1), status: new(atomic.Pointer[SegmentsStatus]), behind: func() bool { return false },
		steps: &stepClock{}, hungAfter: cmp.Or(cfg.hungAfter, hungAfter), copyIdle: cmp.Or(cfg.hungAfter, copyIdle)}
}

// A part of the work: sealing has a connection of its own, because a merge may take
// minutes, and full heads come one after another meanwhile.
type part int

const (
	allWork part = iota
	sealing
	shaping // everything else
)

// only is a maintenance that does a part of the work.
func (m *maintenance) only(p part) *maintenance {
	other := *m
	other.part, other.steps = p, &stepClock{}
	return &other
}

// rotated says that the head was full, and is to be sealed.
func (m *maintenance) rotated() {
	m.metrics.rotations.Inc()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run maintains until ctx ends.
func (m *maintenance) run(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		err := m.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			m.log.Warn("maintenance of the segments interrupted; trying again", "error", err)
		}
		said = err.Error()
		select {
		case <-ctx.Done():
		case <-time.After(maintainPause):
		}
	}
}

// session maintains over one connection, until that fails or hangs.
func (m *maintenance) session(ctx context.Context) error {
	conn, err := m.source.connect(ctx, maintenanceName)
	if err != nil {
		return err
	}
	m.conn = conn
	m.steps.tick()
	within, cancel := context.WithCancelCause(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel(nil)
	group.Go(func() { m.monitor(within, conn.PgConn().PID(), m.steps, cancel) })
	if err = m.work(within); errors.Is(context.Cause(within), errHung) {
		return errHung
	}
	return err
}

// work maintains over the session's connection, which it closes at its end.
func (m *maintenance) work(ctx context.Context) error {
	conn := m.conn
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if err := checkSchema(ctx, conn); err != nil {
		return err
	}
	// None of it is a promise to anybody: what a crash undoes is done again.
	_, err := conn.Exec(ctx, `set synchronous_commit = off; set work_mem = '`+sortMemory+`'; set maintenance_work_mem = '`+sortMemory+`'; set max_parallel_maintenance_workers = 0; set max_parallel_workers_per_gather = 0`)
	if err != nil {
		return fmt.Errorf("set up the connection: %w", err)
	}
	for rounds := 0; ; rounds++ {
		more, err := m.round(ctx)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		wake := m.wake
		if m.part == shaping {
			wake = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake:
		case <-time.After(maintainEvery):
			m.skipHead = rounds%countHeadRounds != 0
		}
	}
}

// roundSteps bounds the steps of a round: where points change all the time there is
// always something to do.
const roundSteps = 4

// round does what is due, while it holds the lock, and reports whether there is more: a
// rebuild has its turn between two rounds.
func (m *maintenance) round(ctx context.Context) (more bool, err error) {
	lock := segmentsLock
	if m.part == sealing {
		lock = sealLock
	}
	if err := lockSegments(ctx, m.conn, lock); err != nil {
		return false, err
	}
	if m.part != sealing {
		if err := endStalledCopies(ctx, m.conn, m.copyIdle); err != nil {
			return false, err
		}
		if err := m.clearUnfinished(ctx); err != nil {
			return false, err
		}
	}
	for range roundSteps {
		more, err = m.step(ctx)
		if err != nil && !isLockTimeout(err) {
			return false, err // and the connection ends, the lock with it
		}
		if !more || err != nil {
			more = false
			break
		}
	}
	if _, err := m.conn.Exec(ctx, `select pg_advisory_unlock(hashtext($1))`, lock); err != nil {
		return false, fmt.Errorf("unlock the segments: %w", err)
	}
	return more, nil
}

// isLockTimeout says that something was in the way, which is tried again later.
func isLockTimeout(err error) bool { return hasCode(err, lockNotAvailable) }

// step does the first thing that is due, and reports whether there was one.
func (m *maintenance) step(ctx context.Context) (worked bool, err error) {
	m.steps.tick()
	all, err := schema.Segments(ctx, m.conn)
	if err != nil {
		return false, err
	}
	var works []func(context.Context, []schema.Segment) (bool, error)
	if m.part != sealing {
		m.metrics.observe(all)
		if err := m.recordStatus(ctx, all); err != nil {
			return false, err
		}
		works = append(works, m.rotate, m.expire)
	}
	works = append(works, m.refreshView) // in each part: a merge may take minutes
	if m.part != sealing {
		works = append(works, m.dropTables)
	}
	if m.part != shaping {
		works = append(works, m.seal)
	}
	if m.part != sealing {
		works = append(works, m.gather, m.sweep, m.split, m.order, m.merge, m.indexChanged, m.fold, m.countCells)
	}
	for _, do := range works {
		if worked, err = do(ctx, all); worked || err != nil {
			return worked, err
		}
	}
	return false, nil
}

// clearUnfinished removes what was being made when maintenance ended last.
func (m *maintenance) clearUnfinished(ctx context.Context) error {
	all, err := schema.Segments(ctx, m.conn)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.State != schema.Filling {
			continue
		}
		if err := m.dropTable(ctx, s.ID); err != nil {
			return err
		}
		m.log.Info("cleared an unfinished segment away", "segment", s.ID)
	}
	return dropStrays(ctx, m.conn)
}

// change runs do in a transaction that changes the catalogue: the checkpoint's row
// is locked, so no batch is under way, and readers learn by its number that what
// they know of the segments is old. The view follows.
func (m *maintenance) change(ctx context.Context, do func(tx pgx.Tx, sequence uint64) error) error {
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		var sequence int64
		_, err := tx.Exec(ctx, fmt.Sprintf(`set local lock_timeout = %d`, catalogueWait.Milliseconds()))
		if err == nil {
			err = tx.QueryRow(ctx, `select sequence from checkpoint for update`).Scan(&sequence)
		}
		if err != nil {
			return fmt.Errorf("lock the checkpoint: %w", err)
		}
		if err := do(tx, uint64(sequence)); err != nil { //nolint:gosec // a sequence
			return err
		}
		if _, err := tx.Exec(ctx, `update checkpoint set catalogue = catalogue + 1`); err != nil {
			return fmt.Errorf("raise the catalogue's number: %w", err)
		}
		return tryReplaceView(ctx, tx, viewPatience)
	})
}

// refreshView makes the view points show what the catalogue has, where somebody was
// reading it when the catalogue changed.
func (m *maintenance) refreshView(ctx context.Context, _ []schema.Segment) (bool, error) {
	old, err := viewIsOld(ctx, m.conn)
	if err != nil || !old {
		return false, err
	}
	err = pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf(`set local lock_timeout = %d`, dropWait.Milliseconds())); err != nil {
			return err
		}
		return replaceView(ctx, tx)
	})
	if isLockTimeout(err) {
		return false, nil // there is other work meanwhile
	}
	return err == nil, err
}

// newSegment notes a segment and makes its table.
func newSegment(ctx context.Context, tx pgx.Tx, low, high int64, state string) (id int, err error) {
	err = tx.QueryRow(ctx, `insert into segments (id, low, high, state) values (nextval('segment_ids'), $1, $2, $3) returning id`,
		low, high, state).Scan(&id)
	if err == nil {
		_, err = tx.Exec(ctx, schema.CreateTable(id))
	}
	if err == nil {
		_, err = tx.Exec(ctx, schema.GrantLike(id))
	}
	if err != nil {
		return 0, fmt.Errorf("make a segment: %w", err)
	}
	return id, nil
}

// rotate seals the head where it is old, and puts an empty one in its place. One
// that is full the writer has sealed itself, unless it was ended just then.
func (m *maintenance) rotate(ctx context.Context, all []schema.Segment) (bool, error) {
	head, err := find(all, schema.Head)
	if err != nil {
		return false, err
	}
	if m.skipHead && head.LatestDone {
		return false, nil
	}
	due, err := m.headIsDue(ctx, head)
	if err != nil || !due {
		return false, err
	}
	var id int
	err = m.change(ctx, func(tx pgx.Tx, sequence uint64) error {
		edge := int64(event.At(sequence+1, 0))
		tag, err := tx.Exec(ctx, `update segments set state = $1, high = $2 where id = $3 and state = $4 and low < $2`, schema.Sealed, edge, head.ID, schema.Head)
		if err != nil {
			return fmt.Errorf("close the head: %w", err)
		}
		if tag.RowsAffected() != 1 {
			return errRotated
		}
		if id, err = newSegment(ctx, tx, edge, schema.HeadEnd, schema.Head); err != nil {
			return err
		}
		for _, ddl := range schema.HeadIndexes(id) {
			if _, err := tx.Exec(ctx, ddl); err != nil {
				return fmt.Errorf("index the new head: %w", err)
			}
		}
		return nil
	})
	if errors.Is(err, errRotated) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("rotate the head: %w", err)
	}
	m.rotated()
	m.log.Debug("a segment is full", "segment", head.ID, "head", id)
	return true, nil
}

// errRotated says that another was faster: the writer, or maintenance.
var errRotated = errors.New("the head was sealed by another")

func find(all []schema.Segment, state string) (schema.Segment, error) {
	for _, s := range all {
		if s.State == state {
			return s, nil
		}
	}
	return schema.Segment{}, errors.New("there is no segment in the state " + state)
}

// headAges: with a bound on age, a segment spans at most this part of it, so that
// what is kept beyond the bound is little.
const headAges = 8

// headIsDue counts the head's rows, which is cheap because they are bounded, and
// looks how old its first is where points are kept for a time only.
func (m *maintenance) headIsDue(ctx context.Context, head schema.Segment) (bool, error) {
	var rows int64
	var first *time.Time
	err := m.conn.QueryRow(ctx, `select count(*), (select received_at from `+schema.Table(head.ID)+` where revision is null order by position limit 1)
		from (select from `+schema.Table(head.ID)+` limit $1) s`, m.sizes.head).Scan(&rows, &first)
	if err != nil {
		return false, fmt.Errorf("look at the head: %w", err)
	}
	old := m.keep > 0 && first != nil && time.Since(*first) > m.keep/headAges
	// What was in it before the projector kept the table latest is gathered when it
	// is sealed.
	return rows >= m.sizes.head || old || !head.LatestDone, nil
}

// expired are the segments whose points were all created longer ago than keep, from
// the oldest on. Changes count for nothing: a point that is changed every day would
// hold a whole segment forever. A clock that was wrong may have put a time in the future: such a
// segment goes with the one above it.
func expired(all []schema.Segment, keep time.Duration, now time.Time) (out []schema.Segment) {
	var sealed []schema.Segment
	for _, s := range all { // the oldest positions first
		if s.State != schema.Sealed {
			continue
		}
		if !s.Known() {
			break
		}
		sealed = append(sealed, s)
		switch {
		case s.ReceivedTo == nil || s.ReceivedTo.After(now):
		case now.Sub(*s.ReceivedTo) <= keep:
			return out
		default:
			out = sealed
		}
	}
	return out
}

// expire drops the oldest segments, whole, where all that they hold is older
// than what is kept: ids and tombstones go with them.
func (m *maintenance) expire(ctx context.Context, all []schema.Segment) (bool, error) {
	if m.keep <= 0 {
		return false, nil
	}
	var gone []int
	var floor int64
	for _, s := range expired(all, m.keep, time.Now()) {
		gone, floor = append(gone, s.ID), s.High
	}
	if len(gone) == 0 {
		return false, nil
	}
	err := m.change(ctx, func(tx pgx.Tx, _ uint64) error {
		_, err := tx.Exec(ctx, `update segments set state = $1, dropped_at = now() where id = any($2)`, schema.Dropped, gone)
		if err == nil {
			_, err = tx.Exec(ctx, `update checkpoint set floor = greatest(floor, $1), dropped = sequence`, floor)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("drop old segments: %w", err)
	}
	m.metrics.expired.Add(float64(len(gone)))
	m.log.Info("dropped segments that are older than what is kept", "segments", gone, "keep", m.keep, "below_position", floor)
	return true, nil
}

// dropTables drops the tables whose grace is over.
func (m *maintenance) dropTables(ctx context.Context, all []schema.Segment) (bool, error) {
	for _, s := range all {
		if s.State != schema.Dropped || s.DroppedAt != nil && time.Since(*s.DroppedAt) < m.sizes.grace {
			continue
		}
		err := m.dropTable(ctx, s.ID)
		if isLockTimeout(err) || hasCode(err, dependentObjects) {
			continue // somebody reads it; the next look is soon
		}
		if err != nil {
			return false, err
		}
		return true, nil
	}
	return false, nil
}

// dependentObjects is the SQLSTATE where the view still shows a dropped segment.
const dependentObjects = "2BP01"

func (m *maintenance) dropTable(ctx context.Context, id int) error {
	return pgx.BeginFunc(ctx, m.conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(`set local lock_timeout = %d; %s`, dropWait.Milliseconds(), schema.DropTable(id)))
		if err == nil {
			_, err = tx.Exec(ctx, `delete from segment_cells where segment = $1`, id)
		}
		if err == nil {
			_, err = tx.Exec(ctx, `delete from segments where id = $1`, id)
		}
		if err != nil {
			return fmt.Errorf("drop segment %d: %w", id, err)
		}
		return nil
	})
}
