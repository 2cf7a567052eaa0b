package query

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"sync"

	"cairn/event"
	"cairn/query/answer"

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
func (s *service) page(f filter) (answer.Answer, error) {
	ways, args := f.ways(), f.args()
	a, err := s.pageBy(ways.first, f, args)
	if !errors.Is(err, errUndecided) {
		return a, err
	}
	way, err := s.choose(ways, args)
	if err != nil {
		return answer.Answer{}, err
	}
	return s.pageBy(way, f, args)
}

func (s *service) pageBy(way statement, f filter, args []any) (answer.Answer, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	w := pageWriter{body: append((*buf)[:0], `{"type":"FeatureCollection","features":[`...), limit: f.limit}
	sequence, err := s.rows(way, args, w.add)
	*buf = w.body
	if err != nil {
		return answer.Answer{}, err
	}
	s.metrics.rows.Add(float64(w.features))
	a := answer.Answer{Sequence: sequence, Found: true}
	if w.more {
		f.before = w.last
		a.Next = f.href()
	}
	*buf = w.finish(a.Next)
	a.Body = bytes.Clone(*buf)
	return a, nil
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
	if w.features == w.limit {
		w.more = true
		return false, nil
	}
	position, err := r.position()
	if err != nil {
		return false, err
	}
	if w.features > 0 && position >= w.last {
		return false, errOrder
	}
	begin := len(w.body)
	if w.features > 0 {
		w.body = append(w.body, ',')
	}
	if w.body, err = appendFeature(w.body, r); err != nil {
		return false, err
	}
	if len(w.body) > answer.MaxBytes-tailBytes && w.features > 0 {
		w.body = w.body[:begin]
		w.more = true
		return false, nil
	}
	w.features++
	w.last = position
	return true, nil
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
		a.Found = true
		var err error
		a.Body, err = appendFeature(nil, r)
		return err == nil, err
	})
	if a.Found {
		s.metrics.rows.Inc()
	}
	return a, err
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
