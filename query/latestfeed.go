package query

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"cairn/event"
	"cairn/query/filter"
)

const (
	// latestPatience is how many times as long as the last reading took is waited
	// until the next: all of the table is looked through, a fifth of a core's time
	// at most.
	latestPatience = 4
	// latestMost bounds that wait.
	latestMost = 5 * time.Second
)

// latestSelect reads which names have another newest point since a position. A change
// is where the event is that made it; two of one event have the same.
const latestSelect = `select c.latest, p.* from checkpoint c left join lateral (
	select ` + columns + `, name, author, since from latest where since > $1::bigint order by since limit $2::bigint) p on true where c.id`

// latestChanges reads the changes of the newest points after a position: of each name
// at most one, whatever came between. The filter is honoured by whoever hands them out.
func (s *service) latestChanges(after, _ event.Position, _ filter.Expr) (batch, error) {
	s.rest.take(s.stopping)
	defer s.rest.after(time.Now())
	ctx, cancel := s.bounded()
	defer cancel()
	for limit := batchRows + 1; ; limit *= 4 {
		b, last, err := s.readLatest(ctx, after, limit)
		if err != nil || len(b.changes) < limit {
			return b, err
		}
		// What shares the last one's event may continue after the limit.
		b.changes = slices.DeleteFunc(b.changes, func(c *change) bool { return c.at >= last })
		b.upTo, b.more = last-1, true
		if len(b.changes) > 0 {
			return b, nil
		}
	}
}

// A rest is the time that is left to others between two readings.
type rest struct {
	mu    sync.Mutex
	until time.Time
}

func (r *rest) take(ctx context.Context) {
	r.mu.Lock()
	wait := time.Until(r.until)
	r.mu.Unlock()
	if wait <= 0 {
		return
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

func (r *rest) after(begun time.Time) {
	now := time.Now()
	r.mu.Lock()
	r.until = now.Add(min(latestPatience*now.Sub(begun), latestMost))
	r.mu.Unlock()
}

func (s *service) readLatest(ctx context.Context, after event.Position, limit int) (b batch, last event.Position, err error) {
	begun := time.Now()
	defer s.metrics.observe("latest_changes", begun)
	rows, err := s.feed.Query(ctx, latestSelect, pgx.QueryResultFormats{pgx.BinaryFormatCode}, int64(after), int64(limit))
	if err != nil {
		return b, 0, err
	}
	defer rows.Close()
	any := false
	for rows.Next() {
		r := row(rows.RawValues())
		sequence, ok := r.int64(colSequence)
		if !ok || len(r) <= colAuthor+1 {
			return b, 0, errRow
		}
		any, b.sequence = true, uint64(sequence) //nolint:gosec // not negative
		if r[colID] == nil {
			continue
		}
		c, err := newLatest(r)
		if err != nil {
			return b, 0, err
		}
		b.changes, last = append(b.changes, c), c.at
	}
	if err := rows.Err(); err != nil {
		return b, 0, err
	}
	if !any {
		return b, 0, errNoCheckpoint
	}
	b.upTo = max(event.EndOf(b.sequence), after)
	s.metrics.rows.Add(float64(len(b.changes)))
	return b, last, nil
}

// newLatest is the newest point of a name as it is now. It takes the place of what a
// client has of that name.
func newLatest(r row) (c *change, err error) {
	since, ok := r.int64(colAuthor + 1)
	if !ok {
		return nil, errRow
	}
	if c, err = newChange(r, math.MaxInt64); err != nil {
		return nil, err
	}
	c.latest, c.at = true, event.Position(since)
	c.Name = string(r[colName])
	if c.kind == deleted {
		c.wire, err = c.appendGone(r, "")
		return c, err
	}
	c.kind = created // as encode has it: an event without a name
	if err = c.encode(r); err == nil {
		c.kind = updated
		c.left, err = c.appendGone(r, `,"left":true`)
	}
	return c, err
}

// appendGone is the event that takes a name away.
func (c *change) appendGone(r row, member string) ([]byte, error) {
	name, err := jsontext.AppendQuote([]byte(`,"name":`), c.Name)
	if err != nil {
		return nil, fmt.Errorf("a change's name: %w", err)
	}
	return c.appendDeleted(nil, r, string(name)+member)
}

// nameSeed is of the keys under which names' points are remembered.
var nameSeed = maphash.MakeSeed()

// stateOf is how the newest point of the change's name was before, and notes how it is
// now. Names that share a key cause needless events of each other, at worst.
func (t *tail) stateOf(c *change) (before state) {
	key := event.Position(maphash.String(nameSeed, c.Name) >> 1) //nolint:gosec // below 2⁶³
	if row, ok := t.before[key]; ok && row.Name == c.Name {
		before = state{known: true, live: true, row: row}
	}
	if c.kind == deleted {
		delete(t.before, key)
		return before
	}
	if len(t.before) >= maxBefore {
		for k := range t.before { // any
			delete(t.before, k)
			break
		}
	}
	t.before[key] = c.Row.Row
	return before
}
