package plan

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/query/filter"
)

// A connection's first page takes 12 ms of a core more than the next: Postgres loads PostGIS
// and its libraries, and reads what it keeps of each segment and its indexes (0.4 ms each).
// So some connections are made and warmed before anybody asks, and warmed again when new
// segments are announced.
const (
	// maxAhead is how many connections are made ahead: at 5 million points each takes 3.5 MB
	// of the database's memory, and 7 MB with plans, until it was idle for as long as the
	// pool allows.
	maxAhead = 8
	// warmSegments bounds the segments that a connection is warmed for, the newest:
	// 0.2 MB each.
	warmSegments = 40
	// warmTimeout bounds what is asked over one connection, which may carry nothing any
	// more.
	warmTimeout = acquireTimeout
	// firstRetry and lastRetry are between tries to reach the database for it.
	firstRetry, lastRetry = 100 * time.Millisecond, 30 * time.Second
)

// A warmth is what a connection has been warmed for.
type warmth struct {
	version  int64        // of the catalogue
	segments map[int]bool // by id; a table that still gets its indexes is to be read again
}

// warmthKey is where a connection has its warmth; who holds the connection may look.
const warmthKey = "cairn.warmth"

// isCold reports whether the connection lacks what the present catalogue has.
func (r *Reader) isCold(conn *pgxpool.Conn) bool {
	w, ok := conn.Conn().PgConn().CustomData()[warmthKey].(warmth)
	now := r.catalogue.last()
	return !ok || now != nil && w.version != now.version
}

// tellCold wakes KeepWarm.
func (r *Reader) tellCold() {
	wake(r.cold)
}

// Announced takes the number of the projector's catalogue; 0: it is not known.
func (r *Reader) Announced(number int64) {
	if number == 0 || number == r.warmed.Load() {
		return
	}
	r.announced.Store(number)
	wake(r.news)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will look
	}
}

// Reset closes the connections once they are free: they may lead to the wrong server.
func (r *Reader) Reset() {
	r.pool.Reset()
	r.long.Reset()
	r.tellCold()
}

// KeepWarm makes connections ahead, and warms those that are idle, until ctx ends.
// It rests until a request is given a cold connection or a catalogue is announced:
// nothing is done for a service that nobody asks and nobody writes to.
func (r *Reader) KeepWarm(ctx context.Context) {
	for retry := firstRetry; ctx.Err() == nil; {
		if err := r.warmAll(ctx); err == nil {
			retry = firstRetry
			r.rest(ctx)
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, lastRetry)
	}
}

// rest returns when a request was given a cold connection. Meanwhile it follows what is
// announced.
func (r *Reader) rest(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.cold:
			return
		case <-r.news:
			_ = r.follow(ctx) // another announcement comes in a second
		}
	}
}

// follow warms the idle connections for the catalogue that was announced, as far as this
// database has it. It makes none: perhaps nobody asks any more. If most are in use, it is
// done after another announcement, or when a request is given a cold one.
func (r *Reader) follow(ctx context.Context) error {
	if r.pool.Stat().IdleConns() < 2 {
		return nil
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if err := r.warmIdle(ctx); err != nil {
		return err
	}
	if c := r.catalogue.last(); c != nil {
		r.warmed.Store(c.version)
	}
	return nil
}

// look reads the catalogue if its number has changed.
func (r *Reader) look(ctx context.Context) error {
	c := r.catalogue.last()
	if c != nil && c.version == r.announced.Load() {
		return nil // a request was first
	}
	conn := r.idle(ctx, func(*pgxpool.Conn) bool { return true })
	if conn == nil {
		return nil
	}
	defer conn.Release()
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	var version int64
	err := conn.QueryRow(ctx, `select catalogue from checkpoint where id`).Scan(&version)
	if err == nil && (c == nil || c.version != version) {
		_, err = r.catalogue.read(ctx, conn.Conn())
	}
	return err
}

// warmAll makes the connections that are missing, and warms those that are idle.
func (r *Reader) warmAll(ctx context.Context) error {
	// While requests come and go, they would miss the idle ones that openAhead holds.
	if now := r.pool.Stat(); now.IdleConns() == 0 || now.IdleConns() == now.TotalConns() {
		if err := r.openAhead(ctx); err != nil {
			return err
		}
	}
	return r.warmIdle(ctx)
}

func (r *Reader) warmIdle(ctx context.Context) error {
	for ctx.Err() == nil {
		conn := r.idle(ctx, r.isCold)
		if conn == nil {
			return nil
		}
		err := r.warm(ctx, conn)
		conn.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// openAhead makes as many connections as pages can use, up to maxAhead, and warms
// them. It waits for one before it makes the others: the database may be away.
func (r *Reader) openAhead(ctx context.Context) error {
	more := min(cap(r.lanes.turns[pages]), maxAhead) - int(r.pool.Stat().TotalConns())
	if more <= 0 {
		return nil
	}
	held := r.pool.AcquireAllIdle(ctx) // or these would be acquired
	defer func() {
		for _, conn := range held {
			conn.Release()
		}
	}()
	conn, err := r.openWarm(ctx)
	if err != nil {
		return err
	}
	held = append(held, conn)
	others := make(chan *pgxpool.Conn, more)
	var group sync.WaitGroup
	for range more - 1 {
		group.Go(func() {
			if conn, err := r.openWarm(ctx); err == nil { // else it is made when it is needed
				others <- conn
			}
		})
	}
	group.Wait()
	close(others)
	for conn := range others {
		held = append(held, conn)
	}
	return nil
}

func (r *Reader) openWarm(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.warm(ctx, conn); err != nil {
		conn.Release()
		return nil, err
	}
	return conn, nil
}

// idle takes an idle connection of which cond is true. Another idle one is left to
// requests, which would wait for a new one otherwise.
func (r *Reader) idle(ctx context.Context, cond func(*pgxpool.Conn) bool) (found *pgxpool.Conn) {
	if r.pool.Stat().IdleConns() < 2 {
		return nil
	}
	for _, conn := range r.pool.AcquireAllIdle(ctx) {
		if found == nil && cond(conn) {
			found = conn
		} else {
			conn.Release()
		}
	}
	return found
}

// warm makes Postgres read what pages need of the segments that the connection has
// not seen: it plans and opens a page of all of them, and stops before the first row.
func (r *Reader) warm(ctx context.Context, conn *pgxpool.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	data := conn.Conn().PgConn().CustomData()
	seen, warmed := data[warmthKey].(warmth)
	c := r.catalogue.last()
	if !warmed || c == nil { // reading the catalogue is a statement that it may need, too
		var err error
		if c, err = r.catalogue.read(ctx, conn.Conn()); err != nil {
			return err
		}
	}
	now := warmth{version: c.version, segments: map[int]bool{}}
	q := &Query{Filter: filter.Box{West: -180, South: -90, East: 180, North: 90}}
	x := filter.Bound(q.Filter)
	var list []step
	for _, s := range slices.Backward(c.segments) {
		if !seen.segments[s.id] && len(list) < warmSegments {
			list = append(list, step{segment: s, way: byBox})
		}
		now.segments[s.id] = s.known
	}
	s := pageByPosition(q, &x, list, int64(Newest), 0)
	// Nobody asks for it again: it takes no place among the prepared statements.
	if _, err := conn.Exec(ctx, s.String(), append([]any{pgx.QueryExecModeDescribeExec}, s.Args...)...); err != nil && !again(err) {
		return err
	}
	data[warmthKey] = now
	return nil
}
