package plan

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"cairn/query/filter"
)

const (
	// maxCounts bounds the counts that are kept, 100 bytes and a filter's text
	// each.
	maxCounts = 20_000
	// maxCachedText bounds the text of a filter whose counts are kept.
	maxCachedText = 2 << 10
)

// counts are how many rows of a segment pass a filter. They hold as long as nothing
// in the segment changes, which its revision tells; the head's are not kept.
type counts struct {
	mu     sync.Mutex
	cached map[countKey]int64
}

type countKey struct {
	segment  int
	revision int64
	filter   string
}

func newCounts() counts { return counts{cached: map[countKey]int64{}} }

func (c *counts) get(k countKey) (n int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok = c.cached[k]
	return n, ok
}

// put keeps a count. Where there are too many, all go: they are made again.
func (c *counts) put(k countKey, n int64) {
	if len(k.filter) > maxCachedText {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cached) >= maxCounts {
		clear(c.cached)
	}
	c.cached[k] = n
}

// Count returns how many points pass the filter, exactly, and the sequence of the
// snapshot in which they do. Of segments that have not changed since they were
// counted, nothing is read.
func (r *Reader) Count(ctx context.Context, e filter.Expr) (n int64, sequence uint64, err error) {
	release, conn, err := r.acquire(ctx, heavy)
	if err != nil {
		return 0, 0, err
	}
	defer release()
	var old *catalogue
	for range maxPlans {
		c, err := r.catalogue.get(ctx, conn.Conn(), old)
		if err != nil {
			return 0, 0, noRow(err)
		}
		n, sequence, err = r.count(ctx, conn, c, e)
		if !again(err) {
			return n, sequence, err
		}
		old = c
	}
	return 0, 0, errStale
}

// count asks first for what is not kept, and sees in the same snapshot whether what
// is kept still holds; what does not is asked for again.
func (r *Reader) count(ctx context.Context, conn *pgxpool.Conn, c *catalogue, e filter.Expr) (n int64, sequence uint64, err error) {
	defer r.observe("count", time.Now())
	text, x := filter.Canonical(e), filter.Bound(e)
	revisions, err := r.revisions(ctx, conn)
	if err != nil {
		return 0, 0, err
	}
	for range maxPlans {
		asked, sum := []step(nil), int64(0)
		for _, s := range c.reaching(x.Low, x.High, false) {
			st, ok := s.choose(&goal{extent: &x, need: s.rows, gather: s})
			if !ok {
				continue
			}
			if n, ok := r.counts.get(countKey{s.id, revisions[s.id], text}); ok && s.known {
				sum += n
			} else {
				asked = append(asked, st)
			}
		}
		seen, counted, err := r.ask(ctx, conn, c, e, &x, asked)
		if err != nil {
			return 0, 0, err
		}
		same := true
		for _, s := range c.segments {
			same = same && (!s.known || seen.revisions[s.id] == revisions[s.id])
		}
		for i, st := range asked {
			sum += counted[i]
			if st.segment.known {
				r.counts.put(countKey{st.segment.id, seen.revisions[st.segment.id], text}, counted[i])
			}
		}
		if same {
			return sum, seen.sequence, nil
		}
		revisions = seen.revisions
	}
	return 0, 0, errStale
}

type snapshot struct {
	sequence  uint64
	revisions map[int]int64 // by segment
}

// revisions are those of the segments, as they are now.
func (r *Reader) revisions(ctx context.Context, conn *pgxpool.Conn) (map[int]int64, error) {
	out := map[int]int64{}
	err := r.query(ctx, conn, "select id::bigint, coalesce(revision, 0) from segments", nil, func(row Row) (bool, error) {
		id, _ := row.Int64(0)
		out[int(id)], _ = row.Int64(1)
		return true, nil
	})
	return out, err
}

// ask counts in some segments, and tells the sequence and the revisions of all in the
// same snapshot.
func (r *Reader) ask(ctx context.Context, conn *pgxpool.Conn, c *catalogue, e filter.Expr, x *filter.Extent, list []step) (seen snapshot, counted []int64, err error) {
	if len(list) == 0 {
		e = nil // whose parameters would be of nothing
	}
	s := newStatement(&Query{Filter: e}, 0)
	s.after = "true"
	// What each row says: -1 and the catalogue with the sequence; -2 and a segment
	// with its revision; else which step, with its count.
	parts := []string{
		"select -1::bigint, catalogue, sequence from checkpoint where id and " + s.limit + " = 0",
		"select -2::bigint, id::bigint, coalesce(revision, 0) from segments",
	}
	for i, st := range list {
		from := st.segment.table
		if st.way != along && st.way != bounded {
			from = s.gathered(st, x) + " s"
		}
		parts = append(parts, "select "+strconv.Itoa(i)+"::bigint, count(*), 0::bigint from "+from+" where "+s.passing(s.after))
	}
	s.WriteString(strings.Join(parts, " union all "))
	seen.revisions, counted = map[int]int64{}, make([]int64, len(list))
	err = r.query(ctx, conn, s.String(), s.Args, func(row Row) (bool, error) {
		kind, _ := row.Int64(0)
		a, ok := row.Int64(1)
		b, ok2 := row.Int64(2)
		switch {
		case !ok || !ok2:
			return false, ErrRow
		case kind == -1 && a != c.version:
			return false, errStale
		case kind == -1:
			seen.sequence = uint64(b) //nolint:gosec // not negative
		case kind == -2:
			seen.revisions[int(a)] = b
		default:
			counted[kind] = a
		}
		return true, nil
	})
	return seen, counted, err
}
