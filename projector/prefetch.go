package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cairn/internal/hosts"
	"cairn/schema"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Where full batches of changes follow one another, a third of the time of each goes
// into finding its points and comparing them with what comes. That of the next batch is
// done while one is applied, over another connection: the database uses two cores then.
// What was read counts only if nothing can have changed since: the writer has the same
// catalogue, and the previous batch has none of the ids. Else the writer reads again. The
// statements that change rows check where they lie, and of which point they are, on their
// own.

const (
	// prefetchWait bounds how long a batch waits for its prefetch, which is there to save time.
	prefetchWait = time.Second
	// prefetchPause is how long nothing is prefetched after a failure.
	prefetchPause = 10 * time.Second
	// prefetchIdle is how long the connection is kept while there are no such batches.
	prefetchIdle = 30 * time.Second
	// prefetchName is that of the connection, in Postgres' own views.
	prefetchName = applicationName + "-prefetch"
)

// storedPoints are what the database had of a batch's ids while the previous batch was
// applied.
type storedPoints struct {
	batch *batch
	by    *catalogue // the writer's at that time
	rows  []compared
}

var errOtherServer = errors.New("the connection is to another server than that of the projection")

// A prefetcher reads what the next batch of a writer needs.
type prefetcher struct {
	source  source
	lineage hosts.Lineage // of the server that the writer writes to
	log     *slog.Logger
	conn    *pgx.Conn // nil: none
	used    time.Time
	rest    time.Time // nothing is read before
}

// A prefetch is what a prefetcher does while a batch is applied.
type prefetch struct {
	before *batch        // the batch that is applied
	by     *catalogue    // the writer's
	stop   chan struct{} // closed when it is applied
	cancel context.CancelFunc
	ended  chan struct{}
	next   *batch        // that was taken meanwhile, or nil
	found  *storedPoints // of next, or nil
}

// begin takes the next batch, should it come full while the previous one is applied, and
// reads what it needs. The writer is busy meanwhile, so what it has of the catalogue is copied first.
func (s *prefetcher) begin(ctx context.Context, w *writer, before *batch, full <-chan *batch) *prefetch {
	if !before.full() || !before.changes && !w.staging || w.catalogue == nil || w.catalogue.number == 0 || time.Now().Before(s.rest) {
		if s.unused() == 0 {
			s.close()
		}
		return nil
	}
	within, cancel := context.WithCancel(ctx)
	m := &prefetch{before: before, by: w.catalogue, stop: make(chan struct{}), cancel: cancel, ended: make(chan struct{})}
	from := w.catalogue.clone()
	go func() {
		defer close(m.ended)
		select {
		case <-ctx.Done():
			return
		case <-m.stop:
			return
		case m.next = <-full:
		}
		found, err := s.read(within, m.next, from)
		if err == nil {
			m.found = &storedPoints{batch: m.next, by: m.by, rows: found}
			return
		}
		s.close() // what failed is left to the writer, which meets it too, or does not
		if ctx.Err() == nil && !isContent(err) {
			s.rest = time.Now().Add(prefetchPause)
			s.log.Warn("could not prefetch the points of a batch; the projection continues without", "error", err, "pause", prefetchPause)
		}
	}()
	return m
}

// end returns the batch that was taken, if any, and gives the writer what was read for it.
func (m *prefetch) end(w *writer) *batch {
	w.prefetched = nil
	if m == nil {
		return nil
	}
	close(m.stop)
	late := time.AfterFunc(prefetchWait, m.cancel)
	<-m.ended
	late.Stop()
	m.cancel()
	if m.found != nil && !m.next.shares(m.before) {
		w.prefetched = m.found
	}
	return m.next
}

// shares reports whether the batches have an id in common.
func (b *batch) shares(other *batch) bool {
	ids := make(map[uuid.UUID]struct{}, len(other.rows))
	for i := range other.rows {
		ids[other.rows[i].id] = struct{}{}
	}
	for i := range b.rows {
		if _, ok := ids[b.rows[i].id]; ok {
			return true
		}
	}
	return false
}

// read compares a batch with what the database has.
func (s *prefetcher) read(ctx context.Context, b *batch, by *catalogue) (found []compared, err error) {
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	w := writer{conn: s.conn} // which only stages
	ids := b.ids()
	found = make([]compared, 0, len(b.rows))
	// Before the transaction, which would hold the view points for as long as it takes: who
	// changes that would wait where the connection carries nothing any more.
	if _, err := s.conn.Exec(ctx, createStaged); err != nil {
		return nil, fmt.Errorf("create the table for staging: %w", err)
	}
	err = pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, endIdle); err != nil {
			return fmt.Errorf("bound the transaction: %w", err)
		}
		if err := w.copyRange(ctx, "staged", b, 0, len(b.rows)); err != nil {
			return err
		}
		return by.compare(ctx, s.conn, ids, len(ids) < len(b.rows), func(c *compared) { found = append(found, *c) })
	})
	s.used = time.Now()
	return found, err
}

// connect connects to the server that the writer writes to.
func (s *prefetcher) connect(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	conn, err := s.source.connect(ctx, prefetchName)
	if err != nil {
		return err
	}
	s.conn = conn
	lineage, err := hosts.Of(ctx, conn.PgConn())
	if err == nil && lineage != s.lineage {
		err = errOtherServer
	}
	return err
}

// unused is how long the connection is to be kept if nobody needs it; 0: no longer.
func (s *prefetcher) unused() time.Duration { return max(0, prefetchIdle-time.Since(s.used)) }

func (s *prefetcher) close() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	_ = s.conn.Close(ctx)
	s.conn = nil
}

// clone is a copy that stays as it is while the writer goes on.
func (c *catalogue) clone() *catalogue {
	other := *c
	other.sealed = make([]*schema.Segment, len(c.sealed))
	for i, s := range c.sealed {
		segment := *s
		other.sealed[i] = &segment
	}
	return &other
}

// compare compares what is staged with what is there, or takes what was prefetched.
func (w *writer) compare(ctx context.Context, b *batch, ids []uuid.UUID, v *verdict, take func(*compared)) error {
	found := w.prefetched
	w.prefetched = nil
	if found == nil || found.batch != b || found.by != w.catalogue || len(v.parked) > len(b.parked) {
		return w.catalogue.compare(ctx, w.conn, ids, len(ids) < len(b.rows), take)
	}
	rows, err := w.conn.Query(ctx, `select position, ctid::text from staged`)
	if err != nil {
		return fmt.Errorf("read what is staged: %w", err)
	}
	tids := make(map[int64]string, len(b.rows))
	var position int64
	var tid string
	if _, err := pgx.ForEachRow(rows, []any{&position, &tid}, func() error { tids[position] = tid; return nil }); err != nil {
		return fmt.Errorf("read what is staged: %w", err)
	}
	for i := range found.rows {
		c := &found.rows[i]
		if c.position != nil {
			tid := tids[*c.position]
			c.staged = &tid
		}
		take(c)
	}
	w.served++
	return nil
}
