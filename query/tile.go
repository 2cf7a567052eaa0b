package query

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sync/singleflight"

	"cairn/event"
	"cairn/internal/web"
	"cairn/query/answer"
	"cairn/query/filter"
	"cairn/query/plan"
	"cairn/query/tiles"
)

const (
	// tileRows is how many points, the newest that pass, a tile of single rows is
	// made of. More could not be told apart on a screen.
	tileRows = 20_000
	// tilePath is where tiles are, by zoom level, row and column.
	tilePath = "/collections/points/tiles/WebMercatorQuad"
)

// A tiler makes tiles. What it keeps are counts of segments by place, which hold as
// long as the segment does not change.
type tiler struct {
	reader *plan.Reader
	loads  singleflight.Group

	mu   sync.Mutex
	kept map[int]counted // by segment
}

// counted are the counts of a segment when it had that revision.
type counted struct {
	*tiles.Counts
	revision int64
	at       time.Time
}

// countsAge is how long the counts of a segment in which something was changed are
// used on: a cluster may be off by the changes of so long. New points are in the
// head, which is counted every time.
const countsAge = 10 * time.Second

func newTiler(r *plan.Reader) *tiler { return &tiler{reader: r, kept: map[int]counted{}} }

// GET /collections/points/tiles/WebMercatorQuad/{z}/{y}/{x}: a Mapbox Vector Tile
// (OGC API Tiles, part 1, section 7.3). It takes the filters of GET /points.
func (s *service) getTile(c *fiber.Ctx) error {
	least, err := minPosition(c)
	if err != nil {
		return err
	}
	r := s.cache.Find(c.Request().Header.RequestURI())
	if r == nil {
		var named event.Position
		if r, named, err = s.tileRequest(c); err != nil {
			return err
		}
		least = max(least, named)
	}
	a, age, stale, err := s.cache.Get(r, least.Sequence())
	if err != nil {
		return refuse(c, err)
	}
	if stale {
		setAge(c, age)
	}
	h := &c.Response().Header
	h.SetBytesV(headerPosition, a.Position)
	h.Set(fiber.HeaderCacheControl, "no-cache")
	f := s.cache.Form(r, a, c.Request().Header.Peek(fiber.HeaderAcceptEncoding))
	h.SetBytesV(fiber.HeaderETag, f.Tag)
	h.Set(fiber.HeaderVary, fiber.HeaderAcceptEncoding)
	if field := c.Request().Header.Peek(fiber.HeaderIfNoneMatch); len(field) > 0 && answer.Matches(field, f.Tag) {
		c.Response().SetStatusCode(http.StatusNotModified)
		return nil
	}
	if a.Content.Empty() {
		c.Response().SetStatusCode(http.StatusNoContent)
		return nil
	}
	h.SetContentType(tiles.Media)
	if f.Name != "" {
		h.SetContentEncoding(f.Name)
	}
	c.Response().SetBodyRaw(f.Bytes) // shared, and changed by nobody
	return nil
}

// tileRequest reads which tile of which points is asked for.
func (s *service) tileRequest(c *fiber.Ctx) (*answer.Request, event.Position, error) {
	var n [3]uint32
	for i, name := range []string{"z", "y", "x"} {
		v, err := strconv.ParseUint(c.Params(name), 10, 31)
		if err != nil || c.Params(name) != strconv.FormatUint(v, 10) {
			return nil, 0, &web.Problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("a tile is at /ZOOM/ROW/COLUMN, all whole numbers, not %q", c.Params(name))}
		}
		n[i] = uint32(v)
	}
	t := tiles.Tile{Z: n[0], Y: n[1], X: n[2]}
	if err := t.Valid(); err != nil {
		return nil, 0, &web.Problem{Status: http.StatusNotFound, Detail: err.Error()}
	}
	list, least, err := parseFilters(string(c.Request().URI().QueryString()))
	if err != nil {
		return nil, 0, err
	}
	key := fmt.Sprintf("%s/%d/%d/%d", tilePath, t.Z, t.Y, t.X)
	for _, p := range list {
		key += "&" + url.QueryEscape(p.Name) + "=" + url.QueryEscape(p.Value)
	}
	run := func() (answer.Answer, error) { return s.tiles.tile(s.stopping, t, filter.Combine(list)) }
	return s.cache.Add(key, name(c, least), run), least, nil
}

// parseFilters reads the parameters that restrict points, and min_position.
func parseFilters(raw string) (list []filter.Parameter, least event.Position, err error) {
	var seen []string
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err != nil || err2 != nil {
			return nil, 0, web.BadRequest("a parameter is not percent-encoded as RFC 3986 has it")
		}
		if slices.Contains(seen, name) {
			return nil, 0, badParameter(name, "the parameter %s is given more than once", name)
		}
		seen = append(seen, name)
		if name == "min_position" {
			if least, err = parsePosition(value); err != nil {
				return nil, 0, badParameter(name, "%s: %v", name, err)
			}
			continue
		}
		p, known, err := filter.ParseParameter(name, value)
		if !known {
			return nil, 0, badParameter(name, "there is no parameter %q; %s", name, suggest(name, append(slices.Clone(filter.ParameterNames), "min_position")))
		}
		if err != nil {
			return nil, 0, badParameter(name, "%s: %v", name, err)
		}
		list = append(list, p)
	}
	filter.Sort(list)
	return list, least, nil
}

// tile makes one: of counts where it shows much of the world and nothing is filtered,
// else of rows.
func (t *tiler) tile(ctx context.Context, at tiles.Tile, e filter.Expr) (answer.Answer, error) {
	layer := tiles.NewLayer(at)
	sequence, done, err := uint64(0), false, error(nil)
	if e == nil && at.Z <= tiles.CountZoom {
		sequence, done, err = t.fromCounts(ctx, layer, at)
	}
	if err == nil && !done {
		sequence, err = t.fromRows(ctx, layer, at, e)
	}
	if err != nil {
		return answer.Answer{}, err
	}
	body, err := layer.Encode()
	return answer.Answer{Body: body, Sequence: sequence, Found: true}, err
}

// fromRows adds the newest points in the tile one by one.
func (t *tiler) fromRows(ctx context.Context, layer *tiles.Layer, at tiles.Tile, e filter.Expr) (uint64, error) {
	west, south, east, north := at.Bounds()
	box := filter.Box{West: west, South: south, East: east, North: north}
	q := plan.Query{Filter: filter.All(box, e), Limit: tileRows, Wide: true}
	return t.reader.Page(ctx, q, func(r plan.Row) (bool, error) {
		p, err := tilePoint(r)
		if err == nil {
			layer.Add(p)
		}
		return true, err
	})
}

func tilePoint(r plan.Row) (p tiles.Point, err error) {
	x, ok := r.Float64(plan.ColLongitude)
	y, ok2 := r.Float64(plan.ColLatitude)
	key := r[plan.ColID]
	if !ok || !ok2 || len(key) != 16 {
		return p, plan.ErrRow
	}
	p.At, p.Name = [2]float64{x, y}, string(r[plan.ColName])
	if external := r[plan.ColExternalID]; external != nil {
		p.ID = string(external)
	} else {
		var text [36]byte
		hex.Encode(text[:8], key[:4])
		text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
		hex.Encode(text[9:13], key[4:6])
		hex.Encode(text[14:18], key[6:8])
		hex.Encode(text[19:23], key[8:10])
		hex.Encode(text[24:], key[10:])
		p.ID = string(text[:])
	}
	if observed, ok := r.Int64(plan.ColObserved); ok {
		p.Time = string(appendTime(nil, observed))
	}
	return p, nil
}

// fewPoints: where the counts say that a tile has no more, it is made of rows, which
// have names and ids.
const fewPoints = tiles.MaxPoints

// fromCounts adds clusters of all points in the tile. done is false where there are
// so few that rows tell more.
func (t *tiler) fromCounts(ctx context.Context, layer *tiles.Layer, at tiles.Tile) (sequence uint64, done bool, err error) {
	const tries = 3 // segments may be merged meanwhile
	for range tries {
		parts, sequence, err := t.reader.Parts(ctx)
		if err != nil {
			return 0, false, err
		}
		counts, err := t.counts(ctx, parts)
		if plan.Again(err) {
			continue
		}
		if err != nil {
			return 0, false, err
		}
		var sum uint64
		for _, c := range counts {
			sum += c.Within(at)
		}
		if sum <= fewPoints {
			return 0, false, nil
		}
		for _, c := range counts {
			layer.AddCounts(c)
		}
		return sequence, true, nil
	}
	return 0, false, nil
}

// counts are those of all parts. What was counted before and has not changed is
// kept; what is no part any more is let go of.
func (t *tiler) counts(ctx context.Context, parts []plan.Part) ([]*tiles.Counts, error) {
	all := make([]*tiles.Counts, 0, len(parts))
	now := make(map[int]counted, len(parts))
	for _, p := range parts {
		t.mu.Lock()
		c, ok := t.kept[p.ID]
		t.mu.Unlock()
		if !ok || p.Head || c.revision != p.Revision && time.Since(c.at) > countsAge {
			loaded, err, _ := t.loads.Do(fmt.Sprint(p), func() (any, error) { return t.load(ctx, p) })
			if err != nil {
				return nil, err
			}
			c = counted{loaded.(*tiles.Counts), p.Revision, time.Now()}
		}
		now[p.ID] = c
		all = append(all, c.Counts)
	}
	t.mu.Lock()
	t.kept = now
	t.mu.Unlock()
	return all, nil
}

func (t *tiler) load(ctx context.Context, p plan.Part) (*tiles.Counts, error) {
	c := &tiles.Counts{}
	if err := t.reader.Cells(ctx, p.ID, c.AddCell); err != nil {
		return nil, err
	}
	c.Sort()
	c.Coarsen()
	return c, nil
}
