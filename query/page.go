package query

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"cairn/event"
	"cairn/query/answer"
	"cairn/query/recent"
	"cairn/schema"

	"github.com/google/uuid"
)

const (
	// tailBytes is kept free of answer.MaxBytes, where a page ends before its
	// limit does, for what follows the last Feature, the
	// link with its longest query included: a name of 255 characters, escaped.
	tailBytes = 4 << 10
)

// buffers are what pages are encoded into. The body is then copied to its exact
// size, so that whoever keeps an answer keeps no more than it.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// page answers a filter: nearly always one statement, and always one snapshot.
// The newest rows come from memory, if that is as new as the database is known to
// be, and the rest from the database: the position is the lower of both.
func (s *service) page(f filter) (answer.Answer, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	w := pageWriter{body: append((*buf)[:0], pageHead...), limit: f.limit}
	q := recent.Query{Filter: f.expr(), Before: f.before, Limit: f.limit + 1}
	from, sequence, ok := s.walk(&q, func(r *recent.Row) bool { return w.addFeature(r.Position, r.Feature) })
	a := answer.Answer{Sequence: sequence, Found: true, Remembered: true}
	if !ok {
		w.body, w.features, w.more, w.last = append(w.body[:0], pageHead...), 0, false, 0
		from = f.before
	}
	if !w.more && (!ok || from > 0) {
		rest := f
		rest.before, rest.limit = min(from, f.before), f.limit-w.features
		n := w.features
		read, err := s.readPage(&w, rest)
		*buf = w.body
		if err != nil {
			return answer.Answer{}, err
		}
		s.metrics.rows.Add(float64(w.features - n))
		if a.Remembered = false; !ok || read < sequence {
			a.Sequence = read
		}
		if n > 0 {
			s.memory.pagesBegun.Inc()
		}
	} else {
		s.memory.pagesWhole.Inc()
	}
	if w.more {
		f.before = w.last
		a.Next = f.href()
	}
	*buf = w.finish(a.Next)
	a.Body = bytes.Clone(*buf)
	return a, nil
}

const pageHead = `{"type":"FeatureCollection","features":[`

// readPage reads from the database what the filter lets through.
func (s *service) readPage(w *pageWriter, f filter) (sequence uint64, err error) {
	ways, args := f.ways(), f.args()
	sequence, err = s.rows(ways.first, args, w.add)
	if !errors.Is(err, errUndecided) {
		return sequence, err
	}
	way, err := s.choose(ways, args)
	if err != nil {
		return 0, err
	}
	return s.rows(way, args, w.add)
}

// A pageWriter encodes Features until the page is full.
type pageWriter struct {
	body     []byte
	limit    int
	features int
	last     event.Position // of the last Feature written
	more     bool           // there is another row than those written
}

// add writes one row, and says whether it wants another.
func (w *pageWriter) add(r row) (bool, error) {
	position, err := r.position()
	if err != nil || w.features == w.limit {
		w.more = err == nil
		return false, err
	}
	if w.features > 0 && position >= w.last {
		return false, errOrder
	}
	begin := w.begin()
	if w.body, err = appendFeature(w.body, r); err != nil {
		return false, err
	}
	return w.end(begin, position), nil
}

// addFeature writes a row that is encoded already, and says whether it wants another.
func (w *pageWriter) addFeature(position event.Position, feature []byte) bool {
	if w.features == w.limit {
		w.more = true
		return false
	}
	begin := w.begin()
	w.body = append(w.body, feature...)
	return w.end(begin, position)
}

func (w *pageWriter) begin() (begin int) {
	begin = len(w.body)
	if w.features > 0 {
		w.body = append(w.body, ',')
	}
	return begin
}

// end takes back what began there if the page is too large with it.
func (w *pageWriter) end(begin int, position event.Position) bool {
	if len(w.body) > answer.MaxBytes-tailBytes && w.features > 0 {
		w.body = w.body[:begin]
		w.more = true
		return false
	}
	w.features++
	w.last = position
	return true
}

// finish writes what follows the Features. The members are those of OGC API
// Features, part 1, section 7.16.
func (w *pageWriter) finish(next string) []byte {
	w.body = append(w.body, `],"numberReturned":`...)
	w.body = strconv.AppendInt(w.body, int64(w.features), 10)
	w.body = append(w.body, `,"links":[`...)
	if next != "" {
		w.body = append(w.body, `{"rel":"next","type":"`+mediaGeoJSON+`","href":"`...)
		w.body = append(w.body, next...) // ours, with nothing in it to escape
		w.body = append(w.body, `"}`...)
	}
	return append(w.body, ']', '}')
}

// one answers with the point that has this key, if there is one.
func (s *service) one(key uuid.UUID) (answer.Answer, error) {
	var a answer.Answer
	var err error
	a.Sequence, err = s.rows(oneStatement, []any{key}, func(r row) (bool, error) {
		position, err := r.position()
		if err != nil {
			return false, err
		}
		a.Found = true
		a.Tag = append(strconv.AppendInt([]byte{'"'}, int64(r.revision(int64(position))), 10), '"')
		a.Body, err = appendFeature(nil, r)
		return err == nil, err
	})
	if a.Found {
		s.metrics.rows.Inc()
	} else if err == nil {
		a.Gone, err = s.gone(key)
	}
	return a, err
}

// gone tells whether a point that there is not was deleted.
func (s *service) gone(key uuid.UUID) (gone bool, err error) {
	ctx, cancel := s.bounded()
	defer cancel()
	for range catalogueTries {
		c, err := s.catalogue(ctx)
		if err != nil {
			return false, err
		}
		parts := []string{"select false as gone"}
		for _, g := range c.segments {
			parts = append(parts, "select geom is null from "+schema.Table(g.id)+" where id = $1")
		}
		defer s.metrics.observe("gone", time.Now())
		err = s.pool.QueryRow(ctx, "select bool_or(gone) from ("+strings.Join(parts, " union all ")+") g", key).Scan(&gone)
		if !isGone(err) {
			return gone, err
		}
	}
	return false, errBusy
}

// newest is before every position.
const newest = event.Position(math.MaxInt64)

// args are what the filter's statements take: one row more than the page holds,
// to know whether there is another page.
func (f *filter) args() []any {
	args := append(make([]any, 0, 9), int64(f.before), int64(f.limit)+1)
	if b := f.bbox; b != nil {
		args = append(args, b.west, b.south, b.east, b.north)
	}
	if f.when != nil {
		args = append(args, timestamp(f.when.from), timestamp(f.when.to))
	}
	if f.name != "" {
		args = append(args, f.name)
	}
	return args
}
