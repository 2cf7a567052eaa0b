package query

import (
	"context"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/paulmach/orb"

	"cairn/event"
	"cairn/query/answer"
	"cairn/query/filter"
	"cairn/query/plan"
	"cairn/query/tiles"
)

const (
	// exactRows is how many points a tile is made of one by one, about 0.1 s: all
	// of them are in its clusters.
	exactRows = 200_000
	// newestRows: of a tile that has more, the newest are shown. More could not be
	// told apart on a screen.
	newestRows = 20_000
	// partsBytes bounds what is kept of tiles, in bytes: some hundred views of a map.
	partsBytes = 32 << 20
)

// A tiler makes tiles. What each segment gives to one is kept for as long as nothing
// changes in the segment, so that what comes in costs no more than a look at the head.
type tiler struct {
	reader *plan.Reader
	counts *counter

	mu    sync.Mutex
	parts map[partKey]*tiles.Part
	bytes int
}

// A partKey is a segment as it was when it had that revision, and what of it.
type partKey struct {
	segment  int
	revision event.Position
	tile     tiles.Tile
	filter   string
}

func newTiler(ctx context.Context, r *plan.Reader) *tiler {
	return &tiler{reader: r, counts: newCounter(ctx, r), parts: map[partKey]*tiles.Part{}}
}

// clear drops all: the database is another, in which revisions come again.
func (t *tiler) clear() {
	t.mu.Lock()
	clear(t.parts)
	t.bytes = 0
	t.mu.Unlock()
	t.counts.clear()
}

// tile makes one: of counts where it shows much of the world and nothing is filtered,
// else of rows.
func (t *tiler) tile(ctx context.Context, at tiles.Tile, e filter.Expr) (answer.Answer, error) {
	layer := tiles.NewLayer(at)
	if e == nil && at.Z <= tiles.CountZoom {
		sequence, done, err := t.counts.add(ctx, layer, at)
		if err != nil || done {
			return answerOf(layer, sequence, err)
		}
	}
	sequence, done, err := t.fromParts(ctx, layer, at, e)
	if err == nil && !done {
		layer = tiles.NewLayer(at)
		sequence, err = t.fromNewest(ctx, layer, at, e)
	}
	return answerOf(layer, sequence, err)
}

func answerOf(layer *tiles.Layer, sequence uint64, err error) (answer.Answer, error) {
	if err != nil {
		return answer.Answer{}, err
	}
	body, err := layer.Encode()
	return answer.Answer{Body: body, Sequence: sequence, Found: true}, err
}

// inTile is the filter of what is in the tile.
func inTile(at tiles.Tile, e filter.Expr) filter.Expr {
	west, south, east, north := at.Bounds()
	return filter.All(filter.Box{West: west, South: south, East: east, North: north}, e)
}

// fromParts adds all points in the tile, segment by segment. done is false where there
// are too many.
func (t *tiler) fromParts(ctx context.Context, layer *tiles.Layer, at tiles.Tile, e filter.Expr) (sequence uint64, done bool, err error) {
	e2, text := inTile(at, e), filter.Canonical(e)
	err = t.reader.Snapshot(ctx, t.reader.Visits(e2), func(s *plan.Snapshot) error {
		sequence, done = s.Sequence, false
		var list []*tiles.Part
		left := exactRows
		for _, p := range s.Parts(e2) {
			part, err := t.part(ctx, s, p, partKey{p.ID, p.Revision, at, text}, e2, left)
			if err != nil {
				return err
			}
			if left -= int(part.Points()); left < 0 { //nolint:gosec // bounded by what was left
				return nil
			}
			list = append(list, part)
		}
		for _, part := range list {
			layer.AddPart(part)
		}
		done = true
		return nil
	})
	return sequence, done, err
}

// part is what a segment gives to a tile: kept, or read now. One of more than most
// points is cut off.
func (t *tiler) part(ctx context.Context, s *plan.Snapshot, p plan.Part, key partKey, e filter.Expr, most int) (*tiles.Part, error) {
	t.mu.Lock()
	kept := t.parts[key]
	t.mu.Unlock()
	if kept != nil && p.Fixed {
		return kept, nil
	}
	layer, rows := tiles.NewLayer(key.tile), 0
	err := s.Places(ctx, p, e, most+1, func(place *plan.Place) error {
		rows++
		layer.Add(orb.Point{place.Longitude, place.Latitude}, func() tiles.Point { return tilePoint(place) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	part := layer.Part()
	if p.Fixed && rows <= most {
		t.keep(key, part)
	}
	return part, nil
}

// keep keeps a part. Where there are too many, all go: they are made again.
func (t *tiler) keep(key partKey, part *tiles.Part) {
	const entry = 200
	size := part.Bytes() + len(key.filter) + entry
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bytes += size; t.bytes > partsBytes {
		clear(t.parts)
		t.bytes = size
	}
	t.parts[key] = part
}

func tilePoint(p *plan.Place) tiles.Point {
	out := tiles.Point{Name: string(p.Name), At: orb.Point{p.Longitude, p.Latitude}, Order: int64(p.Position), ID: pointID(p.ID, p.ExternalID)}
	if p.Timed {
		out.Time = string(appendTime(nil, p.Observed))
	}
	return out
}

// pointID is a point's id as text.
func pointID(key, external []byte) string {
	if external != nil {
		return string(external)
	}
	var text [36]byte
	hex.Encode(text[:8], key[:4])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	hex.Encode(text[9:13], key[4:6])
	hex.Encode(text[14:18], key[6:8])
	hex.Encode(text[19:23], key[8:10])
	hex.Encode(text[24:], key[10:])
	return string(text[:])
}

// fromNewest adds the newest points in the tile one by one.
func (t *tiler) fromNewest(ctx context.Context, layer *tiles.Layer, at tiles.Tile, e filter.Expr) (uint64, error) {
	q := plan.Query{Filter: inTile(at, e), Limit: newestRows, Wide: true}
	return t.reader.Page(ctx, q, func(r plan.Row) (bool, error) {
		place, err := placeOf(r)
		if err == nil {
			layer.Add(orb.Point{place.Longitude, place.Latitude}, func() tiles.Point { return tilePoint(&place) })
		}
		return true, err
	})
}

func placeOf(r plan.Row) (p plan.Place, err error) {
	x, ok := r.Float64(plan.ColLongitude)
	y, ok2 := r.Float64(plan.ColLatitude)
	if !ok || !ok2 || len(r[plan.ColID]) != 16 {
		return p, fmt.Errorf("a tile's row: %w", plan.ErrRow)
	}
	p = plan.Place{ID: r[plan.ColID], ExternalID: r[plan.ColExternalID], Name: r[plan.ColName], Longitude: x, Latitude: y}
	p.Position, err = r.Position()
	p.Observed, p.Timed = r.Int64(plan.ColObserved)
	return p, err
}
