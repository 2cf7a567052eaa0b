package plan

import (
	"context"
	"errors"
	"math"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/query/filter"
)

// Queries wait for connections in lanes, by what they cost, so that who asks for
// little never waits behind callers that ask for much.
//
//	points   by id: any connection, and one is left to them
//	pages    all but a few connections
//	heavy    pages of thousands of rows, or for which as many are looked at:
//	         half the cores, one at least
const (
	// acquireTimeout bounds the wait for a turn and for a connection, so that
	// an overload becomes refusals and not an ever longer queue.
	acquireTimeout = 5 * time.Second
	// heavyRows: a query that reads more is heavy. It takes about 5 ms of the
	// database's time, and as much to encode.
	heavyRows = 5_000
	// leftToPoints is how many connections are neither for pages nor heavy:
	// for points, the checkpoint and streams.
	leftToPoints = 2
)

// ErrBusy says that no turn, or no connection, came in time.
var ErrBusy = errors.New("no database connection became free in time")

// A lane is what a query waits in.
type lane uint8

const (
	points lane = iota
	pages
	heavy
)

type lanes struct{ turns [heavy + 1]chan struct{} }

func newLanes(connections int) *lanes {
	l := &lanes{}
	large := max(1, runtime.GOMAXPROCS(0)/2)
	l.turns[heavy] = make(chan struct{}, large)
	l.turns[pages] = make(chan struct{}, max(1, connections-large-leftToPoints))
	return l
}

// enter waits for a turn in the lane; leave gives it back.
func (l *lanes) enter(ctx context.Context, in lane) (leave func(), err error) {
	turns := l.turns[in]
	if turns == nil {
		return func() {}, nil
	}
	select {
	case turns <- struct{}{}:
		return func() { <-turns }, nil
	case <-ctx.Done():
		return nil, errors.Join(ErrBusy, ctx.Err())
	}
}

// acquire waits for a turn and a connection.
func (r *Reader) acquire(ctx context.Context, in lane) (release func(), conn *pgxpool.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	leave, err := r.lanes.enter(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	conn, err = r.pool.Acquire(ctx)
	if err != nil {
		leave()
		if ctx.Err() != nil {
			err = errors.Join(ErrBusy, err)
		}
		return nil, nil, err
	}
	if r.isCold(conn) {
		r.tellCold()
	}
	return func() { conn.Release(); leave() }, conn, nil
}

// weigh says which lane a page belongs into, by the rows that it is to return and
// those that are looked at for them, as far as the catalogue can tell.
func (r *Reader) weigh(q *Query) lane {
	rows := float64(q.Limit)
	if c := r.catalogue.last(); c != nil && rows <= heavyRows {
		rows += c.visits(q)
	}
	if rows > heavyRows {
		return heavy
	}
	return pages
}

// visits is about how many rows are looked at for a page.
func (c *catalogue) visits(q *Query) (sum float64) {
	x := filter.Bound(q.Filter)
	high := int64(math.MaxInt64)
	if q.After != nil && q.Sort == ByPosition && !q.Ascending {
		high = int64(q.After.Position)
	}
	list, _ := steps(c.reaching(x.Low, min(high, x.High), q.Ascending), goal{extent: &x, need: float64(q.Limit), ascending: q.Ascending}, len(c.segments))
	for _, st := range list {
		sum += st.visit
	}
	return sum
}
