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

// latestSelect reads which names have another newest point since a position, up to
// another. A change is where the event is that made it: names that one event changed have
// the same, and the last of them says so.
const latestSelect = `select c.latest, p.*, c.floor from checkpoint c left join lateral (
	select ` + columns + `, name, author, since, lead(since) over (order by since, name) is distinct from since as last
	from (select * from latest where since > $1::bigint and since <= $2::bigint order by since, name limit $3::bigint) l order by since, name) p on true where c.id`

// Three columns more than the feed's.
const (
	colSince = colAuthor + 1 + iota
	colLast
	colFloor
)

// latestChanges reads the changes of the newest points after a position, up to another: of
// each name at most one, whatever came between. The filter is honoured by whoever hands
// them out.
func (s *service) latestChanges(after, most event.Position, _ filter.Expr) (batch, error) {
	s.rest.take(s.stopping)
	defer s.rest.after(time.Now())
	ctx, cancel := s.bounded()
	defer cancel()
	for limit := batchRows + 1; ; limit *= 4 {
		r := latestRead{after: after, most: most}
		err := s.readLatest(ctx, &r, limit)
		b := r.batch
		if err != nil || r.rows < limit {
			return b, err
		}
		// What shares the last one's event may continue after the limit. What retention has
		// done is read as a whole, with what comes before its event.
		end := min(r.last, b.upTo)
		b.changes = slices.DeleteFunc(b.changes, func(c *change) bool { return c.at >= end })
		b.upTo, b.more = end-1, true
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

// A latestRead is one reading of the changes of the newest points.
type latestRead struct {
	batch
	after, most event.Position
	rows        int
	last        event.Position // the last row's
}

func (s *service) readLatest(ctx context.Context, read *latestRead, limit int) error {
	begun := time.Now()
	defer s.metrics.observe("latest_changes", begun)
	rows, err := s.feed.Query(ctx, latestSelect, pgx.QueryResultFormats{pgx.BinaryFormatCode}, int64(read.after), int64(read.most), int64(limit))
	if err != nil {
		return err
	}
	defer rows.Close()
	any := false
	for rows.Next() {
		any = true
		if err := read.take(rows.RawValues()); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if !any {
		return errNoCheckpoint
	}
	s.metrics.rows.Add(float64(read.rows))
	return nil
}

// take takes a row, or nulls beside the checkpoint's columns where there is none.
func (read *latestRead) take(r row) error {
	if len(r) <= colFloor {
		return errRow
	}
	sequence, ok := r.int64(colSequence)
	floor, ok2 := r.int64(colFloor)
	if !ok || !ok2 {
		return errRow
	}
	read.sequence, read.floor = uint64(sequence), event.Position(floor) //nolint:gosec // not negative
	end := event.EndOf(read.sequence)
	read.upTo = max(min(end, read.most), read.after)
	read.more = read.upTo < end
	if r[colID] == nil {
		return nil
	}
	c, err := newLatest(r, read.upTo)
	if err != nil {
		return err
	}
	read.rows, read.last = read.rows+1, c.at
	if c.kind == deleted || c.Position >= read.floor { // else the projector will say what it is now
		read.changes = append(read.changes, c)
	}
	return nil
}

// newLatest is the newest point of a name as it is now. It takes the place of what a
// client has of that name. Only the last of those that one event changed has that event's
// position as its id: whoever is cut off between two of them is told the first again. What
// retention has done is noted under the event that comes next, and told as what was told
// up to a position, which is where the reading ends: it is told again with that event.
func newLatest(r row, upTo event.Position) (c *change, err error) {
	since, ok := r.int64(colSince)
	last := r[colLast]
	if !ok || len(last) != 1 {
		return nil, errRow
	}
	if c, err = newChange(r, math.MaxInt64); err != nil {
		return nil, err
	}
	c.latest, c.at = true, event.Position(since)
	if c.id = c.at; last[0] == 0 {
		c.id--
	}
	c.id = min(c.id, upTo)
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

// retentionSelect says whether what retention has dropped is out of the table latest, and
// whether that is noted under an event that is yet to come.
const retentionSelect = `select not exists (select from latest where geom is not null and position < c.floor),
	exists (select from latest where since > c.sequence << 12 | 4095) from checkpoint c where c.id`

// retained asks it.
func (s *service) retained() (swept, untold bool, err error) {
	s.rest.take(s.stopping)
	begun := time.Now()
	defer s.rest.after(begun)
	defer s.metrics.observe("latest_retention", begun)
	ctx, cancel := s.bounded()
	defer cancel()
	err = s.feed.QueryRow(ctx, retentionSelect).Scan(&swept, &untold)
	return swept, untold, err
}

// owe notes that retention has dropped points, which all readers are to be told.
func (t *tail) owe() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owed++
	for _, r := range t.readers {
		r.due = true
	}
}

// owing reports whether there may be readers who do not know what retention has done.
func (t *tail) owing() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.retained != nil && t.owed > t.paid
}

// settle has those readers begin anew who would not hear of what retention has done until
// there is an event. Where one came since, that tells them, and they need not.
func (t *tail) settle() {
	t.mu.Lock()
	owed := t.owed
	t.mu.Unlock()
	swept, untold, err := t.retained()
	if err != nil || !swept {
		return // later
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owed != owed {
		return // there are others
	}
	t.paid = owed
	for _, r := range t.readers {
		if r.due && untold {
			r.restart(t.at, t.epoch.Load(), &t.backlog)
		}
		r.due = false
	}
}

// outrun has readers begin anew whom retention has left behind: what was noted between
// where they are and the floor is not there any more.
func (t *tail) outrun(at, floor event.Position) event.Position {
	if t.retained == nil || at == 0 || at+1 >= floor {
		return at
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = floor - 1
	for _, r := range t.readers {
		r.mu.Lock()
		behind := r.at < t.at
		r.mu.Unlock()
		if behind {
			r.restart(t.at, t.epoch.Load(), &t.backlog)
		}
	}
	return t.at
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
