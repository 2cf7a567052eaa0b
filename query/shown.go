package query

import (
	"context"
	"errors"
	"hash/maphash"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"cairn/event"
	"cairn/query/filter"
)

// Who may see an area only is told that a name has left it, and must not be told that a
// name which was not in it is somewhere else. What the table latest had of a name before
// is not in it any more, so each such reader has the names that its client may show: those
// that were in the area when it began, and those that it was sent since. A client that
// comes again is reset, because nobody knows what it has.

// maxShown bounds the names of all such readers of a replica: less than 100 MB.
const maxShown = 2_000_000

var (
	errShown = errors.New("the streams that are limited to areas show too many names")
	errAgain = errors.New("a stream that is limited to an area begins anew by connecting again")
)

// shown are the keys of the names that a client may show.
type shown struct {
	names map[uint64]struct{}
	held  *atomic.Int64 // by all
	full  bool          // there was no room for one
}

func newShown(held *atomic.Int64) *shown { return &shown{names: map[uint64]struct{}{}, held: held} }

func (s *shown) add(name string) {
	if s == nil {
		return
	}
	key := maphash.String(nameSeed, name)
	if _, ok := s.names[key]; ok {
		return
	}
	if s.held.Load() >= maxShown {
		s.full = true
		return
	}
	s.names[key] = struct{}{}
	s.held.Add(1)
}

// remove reports whether the name was there.
func (s *shown) remove(name string) bool {
	key := maphash.String(nameSeed, name)
	if _, ok := s.names[key]; !ok {
		return false
	}
	delete(s.names, key)
	s.held.Add(-1)
	return true
}

func (s *shown) isFull() bool { return s != nil && s.full }

func (s *shown) release() {
	if s != nil {
		s.held.Add(-int64(len(s.names)))
		s.names = nil
	}
}

// beginShown finds where the stream of a reader begins who may see an area only, and what
// its client may show by then.
func (s *service) beginShown(w *eventWriter, r *reader) error {
	if r.at == 0 {
		r.shown = newShown(&s.shown)
		return w.beat(0)
	}
	names, at, err := s.namesFor(r.filter)
	if err != nil {
		names.release()
		s.log.Warn("a stream that is limited to an area cannot begin", "error", err)
		return err
	}
	if r.at == fromNow {
		r.at, r.shown = at, names
		return w.beat(at)
	}
	err = w.reset(r, at)
	r.shown = names
	return err
}

// namesFor reads the names whose newest points pass, and up to where that is so.
func (s *service) namesFor(e filter.Expr) (names *shown, at event.Position, err error) {
	names = newShown(&s.shown)
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-s.draining.Done():
		return names, 0, s.draining.Err()
	}
	ctx, cancel := s.bounded()
	defer cancel()
	at, err = s.readNames(ctx, names, e)
	return names, at, err
}

func (s *service) readNames(ctx context.Context, names *shown, e filter.Expr) (at event.Position, err error) {
	var b filter.Builder
	sql := `select c.latest, l.name from checkpoint c left join lateral (
		select name from latest where geom is not null and position >= c.floor and (` + b.Where(e) + `)) l on true where c.id`
	rows, err := s.feed.Query(ctx, sql, b.Args...)
	if err != nil {
		return 0, err
	}
	var sequence int64
	var name *string
	found := false
	_, err = pgx.ForEachRow(rows, []any{&sequence, &name}, func() error {
		found, at = true, event.EndOf(uint64(sequence)) //nolint:gosec // not negative
		if name != nil {
			names.add(*name)
		}
		if names.full {
			return errShown
		}
		return nil
	})
	if err == nil && !found {
		err = errNoCheckpoint
	}
	return at, err
}

// leave is what a reader is told who may see an area only of a name that is not there.
func (s *shown) leave(c *change) []byte {
	if !s.remove(c.Name) {
		return nil
	}
	return c.byName()
}

// byName takes a name away without a word about the point that is its newest now, or was
// its last.
func (c *change) byName() []byte {
	if c.withoutID == nil {
		name, _ := jsontext.AppendQuote(nil, c.Name) // which newLatest has quoted, too
		wire := c.appendHead(nil)
		wire = append(append(wire, `"name":`...), name...)
		if c.kind != deleted {
			wire = append(wire, `,"left":true`...)
		}
		c.withoutID = append(wire, "}\n\n"...)
	}
	return c.withoutID
}
