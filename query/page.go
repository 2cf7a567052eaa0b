package query

import (
	"bytes"
	"context"
	"math"
	"strconv"

	"cairn/event"
	"cairn/query/answer"
	"cairn/query/plan"
	"cairn/query/recent"

	"github.com/google/uuid"
)

const (
	// tailBytes is kept free of answer.MaxBytes, where a page ends before its
	// limit does, for what follows the last Feature, the
	// link with its longest query included: a name of 255 characters, escaped.
	tailBytes = 4 << 10
)

// page makes a page of GET /points. Newest first, the newest rows come from memory,
// if that is as new as the database is known to be, and the rest from the database:
// the position is the lower of both. Its link begins with base: many clients, Python's
// requests among them, follow nothing that is relative.
func (s *service) page(base string, q *itemsQuery) (answer.Answer, error) {
	return s.inTurn(q.Limit, func(bound int, buf *[]byte) (answer.Answer, error) { return s.pageWithin(base, q, bound, buf) })
}

func (s *service) pageWithin(base string, q *itemsQuery, bound int, buf *[]byte) (answer.Answer, error) {
	ctx, cancel := s.bounded()
	defer cancel()
	w := pageWriter{body: append((*buf)[:0], pageHead...), bound: bound, query: &q.Query, authors: q.view.authors}
	a := answer.Answer{Found: true}
	err := s.fill(ctx, &w, &a)
	*buf = w.body
	if err != nil {
		return answer.Answer{}, err
	}
	matched := int64(-1)
	if q.counted {
		if matched, err = s.matched(ctx, q, &w, &a); err != nil {
			return answer.Answer{}, err
		}
	}
	if w.more {
		a.Next = base + "/points?" + q.text(&w.last)
	}
	*buf = w.finish(matched, a.Next, !q.limited)
	a.Body = bytes.Clone(*buf)
	return a, nil
}

// fill writes the page's rows.
func (s *service) fill(ctx context.Context, w *pageWriter, a *answer.Answer) error {
	rest := *w.query
	rest.Wide = w.authors
	rest.Limit++ // one more than the page holds, to know whether there is another page
	if rest.Sort == plan.ByPosition && !rest.Ascending {
		before := newest
		if rest.After != nil {
			before = rest.After.Position
		}
		q := recent.Query{Filter: rest.Filter, Before: before, Limit: rest.Limit}
		from, sequence, ok := s.walk(ctx, &q, w.addFeature)
		if !ok {
			w.body, w.features, w.more, w.large = append(w.body[:0], pageHead...), 0, false, false
		} else if w.large {
			return errLarge
		} else {
			a.Sequence, a.Remembered = sequence, true
			if w.more || from <= 0 {
				s.memory.pagesWhole.Inc()
				return nil
			}
			if w.features > 0 {
				s.memory.pagesBegun.Inc()
			}
			rest.After, rest.Joined = &plan.Key{Position: min(from, before)}, true
			rest.Limit -= w.features
		}
	}
	remembered := w.features
	sequence, err := s.reader.Page(ctx, rest, w.add)
	if err != nil {
		return err
	}
	if w.large {
		return errLarge
	}
	s.metrics.rows.Add(float64(w.features - remembered))
	if !a.Remembered || sequence < a.Sequence {
		a.Sequence = sequence
	}
	a.Remembered = false
	return nil
}

// matched is how many points there are in all pages together: what is known where
// this one is all, else counted.
func (s *service) matched(ctx context.Context, q *itemsQuery, w *pageWriter, a *answer.Answer) (int64, error) {
	if q.After == nil && !w.more {
		return int64(w.features), nil
	}
	n, sequence, err := s.reader.Count(ctx, q.Filter)
	a.Sequence = min(a.Sequence, sequence)
	return n, err
}

const pageHead = `{"type":"FeatureCollection","features":[`

// A pageWriter encodes Features until the page is full.
type pageWriter struct {
	body     []byte
	query    *plan.Query
	authors  bool // each Feature says who wrote it
	row      row
	features int
	last     plan.Key // of the last Feature written
	more     bool     // there is another row than those written
	bound    int      // bytes
	large    bool     // the bound is smallPage's, and too low
}

// add writes one row, and says whether it wants another.
func (w *pageWriter) add(r plan.Row) (bool, error) {
	if w.features == w.query.Limit {
		w.more = true
		return false, nil
	}
	key, err := keyOf(w.query.Sort, r)
	if err != nil {
		return false, err
	}
	if w.features > 0 && w.query.Sort == plan.ByPosition && !w.query.Ascending && key.Position >= w.last.Position {
		return false, errOrder // memory and database do not meet
	}
	begin := w.begin()
	w.row = rowOf(w.row, r)
	if w.body, err = appendFeature(w.body, w.row); err != nil {
		return false, err
	}
	if w.query.Sort == plan.ByDistance {
		w.body = appendDistance(w.body, w.row, key.Distance)
	}
	if w.authors {
		w.body = appendAuthor(w.body, begin, string(r[plan.ColAuthor]))
	}
	return w.end(begin, key), nil
}

// appendDistance adds the distance in metres to the Feature that was just written,
// unless the user's has a member of that name.
func appendDistance(dst []byte, r row, metres float64) []byte {
	if members, err := jsonb(r[colMembers]); err != nil || hasMember(members, `"distance": `) {
		return dst
	}
	dst = append(dst[:len(dst)-1], `,"distance":`...)
	return append(event.AppendFloat(dst, math.Round(metres*1000)/1000), '}')
}

// addFeature writes a row that is encoded already, and says whether it wants another.
func (w *pageWriter) addFeature(r *recent.Row) bool {
	if w.features == w.query.Limit {
		w.more = true
		return false
	}
	begin := w.begin()
	w.body = append(w.body, r.Feature...)
	if w.authors {
		w.body = appendAuthor(w.body, begin, r.Author)
	}
	return w.end(begin, plan.Key{Position: r.Position})
}

func (w *pageWriter) begin() (begin int) {
	begin = len(w.body)
	if w.features > 0 {
		w.body = append(w.body, ',')
	}
	return begin
}

// end takes back what began there if the page is too large with it.
func (w *pageWriter) end(begin int, key plan.Key) bool {
	if len(w.body) > w.bound && w.features > 0 {
		w.body = w.body[:begin]
		w.more, w.large = true, w.bound < largePage
		return false
	}
	w.features++
	w.last = key
	return true
}

// finish writes what follows the Features. The members are those of OGC API
// Features, part 1, section 7.16. A
// number that is not known is negative.
//
// Who did not ask for a page may take it for the whole, as GDAL's GeoJSON driver does,
// which follows no links. It knows one word for "there is more", from Esri's services:
// it then asks for what is behind in a way that is refused, and fails, where it would
// have written 1,000 points and said nothing.
func (w *pageWriter) finish(matched int64, next string, unaware bool) []byte {
	w.body = append(w.body, `],"numberReturned":`...)
	w.body = strconv.AppendInt(w.body, int64(w.features), 10)
	if matched >= 0 {
		w.body = append(w.body, `,"numberMatched":`...)
		w.body = strconv.AppendInt(w.body, matched, 10)
	}
	if next != "" && unaware {
		w.body = append(w.body, `,"exceededTransferLimit":true`...)
	}
	w.body = append(w.body, `,"links":[`...)
	if next != "" {
		w.body = append(w.body, `{"rel":"next","type":"`+mediaGeoJSON+`","href":"`...)
		w.body = append(w.body, next...) // ours, with nothing in it to escape
		w.body = append(w.body, `"}`...)
	}
	return append(w.body, ']', '}')
}

// one answers with the point that has this key, or says that it was deleted.
// Where a deleted point was is not known any more, so to those who do not see
// everything it never was.
func (s *service) one(key uuid.UUID, v view) (answer.Answer, error) {
	ctx, cancel := s.bounded()
	defer cancel()
	var a answer.Answer
	var err error
	a.Sequence, err = s.reader.One(ctx, key, func(r plan.Row) error {
		if r.Deleted() {
			a.Gone = v.area == nil
			return nil
		}
		if x, y := r.Place(); !v.sees(x, y) {
			return nil
		}
		revision, err := r.Revision()
		if err != nil {
			return err
		}
		s.metrics.rows.Inc()
		a.Found = true
		a.Tag = append(strconv.AppendInt([]byte{'"'}, int64(revision), 10), '"')
		a.Body, err = appendFeature(nil, rowOf(nil, r))
		if err == nil && v.authors {
			a.Body = appendAuthor(a.Body, 0, string(r[plan.ColAuthor]))
		}
		return err
	})
	return a, err
}

// newest is before every position.
const newest = plan.Newest
