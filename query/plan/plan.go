// Package plan reads pages of points from the segments: which of them to look into,
// in which order, and by which way into each.
//
// A page newest first is a walk over segments from the newest until it is full. The
// catalogue says what each holds (its range of positions, its box, its cells, its
// times), so most that cannot match are left out of the statement. In each, the
// walk goes along the positions where much matches, and through an index where
// little does: the cost is bounded in every segment, and that of a page where much
// matches does not grow with the table.
//
// Every statement tells, in its own snapshot, the checkpoint's sequence and the
// number of the catalogue. Where that is not the one it was planned with, or a
// segment is gone, the catalogue is read again and the rest of the page replanned:
// no read fails by a seal, a merge or a drop.
package plan

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/event"
	"cairn/query/filter"
)

// A Sort is an order of rows.
type Sort uint8

// The orders. Rows that are equal in the last two come by position, the newest first.
const (
	ByPosition Sort = iota
	ByTime
	ByDistance // from Query.Near, the nearest first
	ByName     // of [Reader.Latest] only
)

// A Key is where a row stands in an order; what the order does not depend on is 0.
type Key struct {
	Position event.Position
	Time     int64   // microseconds since 2000-01-01 UTC
	Distance float64 // metres
	Name     string
}

// A Query is what a page is made of.
type Query struct {
	Filter    filter.Expr
	Sort      Sort
	Ascending bool // by position or time: the oldest first
	Limit     int  // rows at most
	After     *Key // only what comes behind it in the order; nil: from the beginning
	Joined    bool // After is where other rows end that were handed out, not a client's
	Wide      bool // the columns ColName and ColAuthor too
	// Near is what distances are from. The filter has it too.
	Near filter.Near

	radius float64
}

// filter is what is left to be asked of a row; the distance is asked of it anyhow.
func (q *Query) filter() filter.Expr {
	if q.Sort != ByDistance {
		return q.Filter
	}
	return filter.Without(q.Filter, q.Near)
}

// Newest is before every position.
const Newest = event.Position(math.MaxInt64)

// errStale says that a statement was planned with an old catalogue.
var errStale = errors.New("the catalogue of segments has changed")

// ErrNoCheckpoint says that the schema is there, but its one row is not.
var ErrNoCheckpoint = errors.New("the checkpoint's row is missing")

// BeforeFloor says that a page begins where points were dropped by retention.
type BeforeFloor struct{ Floor event.Position }

func (BeforeFloor) Error() string {
	return "the points there were dropped, since they are older than this service keeps them"
}

// maxPlans bounds how often one page is replanned: segments change every few
// minutes at most.
const maxPlans = 8

// A Reader reads segments.
type Reader struct {
	pool      *pgxpool.Pool // for requests
	long      *pgxpool.Pool // for what reads in one snapshot for as long as it takes
	lanes     *lanes
	catalogue cached
	counts    counts
	observe   func(kind string, start time.Time)
	cold      chan struct{} // holds one: a request was given a connection that [Reader.KeepWarm] did not warm
	news      chan struct{} // holds one: a catalogue was announced that connections are not warm for
	announced atomic.Int64  // its number
	warmed    atomic.Int64  // the number of the one that all that were idle are warm for
}

// New makes a reader. Each statement is told to observe when it is done. long is as
// [LongPool] makes it.
func New(pool, long *pgxpool.Pool, observe func(kind string, start time.Time)) *Reader {
	return &Reader{pool: pool, long: long, lanes: newLanes(int(pool.Config().MaxConns)), counts: newCounts(), observe: observe, cold: make(chan struct{}, 1), news: make(chan struct{}, 1)}
}

// Page hands the rows of a page to f, in their order, until f wants no more. The
// sequence is the checkpoint's at which the page is true: rows may have seen more,
// but none less.
func (r *Reader) Page(ctx context.Context, q Query, f func(Row) (more bool, err error)) (sequence uint64, err error) {
	release, conn, err := r.acquire(ctx, r.weigh(&q))
	if err != nil {
		return 0, err
	}
	defer release()
	p := &page{reader: r, conn: conn, q: q, extent: filter.Bound(q.Filter), f: f, left: q.Limit}
	return p.read(ctx)
}

// A page is one under way.
type page struct {
	reader    *Reader
	conn      *pgxpool.Conn
	q         Query
	extent    filter.Extent
	f         func(Row) (bool, error)
	left      int // rows that are still wanted
	full      bool
	catalogue *catalogue
	sequence  uint64
	any       bool // a statement has told its sequence
	last      Key  // of the last row that was handed out
	handed    bool
	gather    *segment // where a walk has reached its bound
	edge      int64    // where it has
}

// read runs until the page is full, planning again where the catalogue has changed.
func (p *page) read(ctx context.Context) (uint64, error) {
	var old *catalogue
	for range maxPlans {
		var err error
		if p.catalogue, err = p.reader.catalogue.get(ctx, p.conn.Conn(), old); err != nil {
			return 0, noRow(err)
		}
		switch p.q.Sort {
		case ByPosition:
			err = p.byPosition(ctx)
		case ByTime:
			err = p.byTime(ctx)
		default:
			err = p.byDistance(ctx)
		}
		if !again(err) {
			return p.sequence, err
		}
		old = p.catalogue
		if p.handed {
			p.q.After = &p.last
		}
	}
	return 0, errStale
}

// again reports whether to replan: the catalogue has changed, a segment is gone, or
// a standby has replayed its end.
func again(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code == "42P01" || refused.Code == "40001" // undefined_table, serialization_failure
	}
	return errors.Is(err, errStale)
}

func noRow(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoCheckpoint
	}
	return err
}

// byPosition walks over the segments, the newest first (or the oldest).
func (p *page) byPosition(ctx context.Context) error {
	from := int64(math.MaxInt64)
	if p.q.Ascending {
		from = math.MinInt64
	}
	if p.q.After != nil {
		from = int64(p.q.After.Position)
	}
	low, high := p.extent.Low, p.extent.High
	if p.q.Ascending {
		low = max(low, min(from, math.MaxInt64-1)+1)
	} else {
		high = min(high, max(from, math.MinInt64+1)-1)
	}
	rest := p.catalogue.reaching(low, high, p.q.Ascending)
	most := firstSegments
	for first := true; first || len(rest) > 0; first = false {
		list, behind := steps(rest, goal{&p.extent, float64(p.left), p.q.Ascending, p.gather}, most)
		p.edge = 0
		if err := p.run(ctx, "page", pageByPosition(&p.q, &p.extent, list, from, p.left)); err != nil || p.full {
			return err
		}
		if p.handed {
			from = int64(p.last.Position)
		}
		if rest, most = behind, maxSegments; p.edge != 0 { // the walk came to its bound
			p.gather, from = list[len(list)-1].segment, p.edge
			rest = append([]*segment{p.gather}, behind...)
		}
	}
	return nil
}

// run runs one statement and hands out its rows.
func (p *page) run(ctx context.Context, kind string, s *statement) error {
	defer p.reader.observe(kind, time.Now())
	header := true
	err := p.reader.query(ctx, p.conn, s.String(), s.Args, func(r Row) (bool, error) {
		if header && r[ColID] != nil {
			return false, ErrNoCheckpoint
		}
		if header {
			header = false
			return true, p.begin(r)
		}
		if r[ColID] == nil {
			p.edge, _ = r.Int64(ColPosition)
			return false, nil
		}
		key, err := p.key(r)
		if err != nil {
			return false, err
		}
		if p.handed && !p.q.ordered(p.last, key) {
			return false, ErrOrder
		}
		p.last, p.handed = key, true
		more, err := p.f(r)
		p.left--
		p.full = !more || p.left == 0
		return !p.full, err
	})
	if err == nil && header {
		return ErrNoCheckpoint
	}
	return err
}

// begin reads a statement's header.
func (p *page) begin(r Row) error {
	sequence, ok := r.Int64(ColPosition)
	version, ok2 := r.Int64(ColRevision)
	if !ok || !ok2 {
		return ErrRow
	}
	if version != p.catalogue.version {
		return errStale
	}
	if !p.any || uint64(sequence) < p.sequence {
		p.sequence, p.any = uint64(sequence), true //nolint:gosec // not negative
	}
	if k := p.q.After; k != nil && !p.q.Joined && !p.handed && p.q.before(k.Position, p.catalogue.floor) {
		return BeforeFloor{p.catalogue.floor}
	}
	return nil
}

// before reports whether the page begins among points that were dropped, or behind
// one.
func (q *Query) before(at, floor event.Position) bool {
	switch {
	case q.Sort == ByTime:
		return at < floor
	case q.Sort != ByPosition:
		return false // what is further away is there, whatever went
	case q.Ascending:
		return at+1 < floor
	}
	return at <= floor && floor > 0
}

func (p *page) key(r Row) (k Key, err error) {
	if k.Position, err = r.Position(); err != nil {
		return k, err
	}
	switch p.q.Sort {
	case ByTime:
		k.Time, err = r.Time()
	case ByDistance:
		var ok bool
		if k.Distance, ok = r.Float64(ColDistance); !ok {
			err = ErrRow
		}
	}
	return k, err
}

// ordered reports whether b comes behind a.
func (q *Query) ordered(a, b Key) bool {
	switch q.Sort {
	case ByTime:
		if a.Time != b.Time {
			return a.Time < b.Time == q.Ascending
		}
	case ByDistance:
		if a.Distance != b.Distance {
			return a.Distance < b.Distance
		}
	default:
		return a.Position < b.Position == q.Ascending
	}
	return a.Position > b.Position
}
