package query

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/web"
	"cairn/query/answer"
	"cairn/query/filter"
	"cairn/query/tiles"
)

// tilePath is where tiles are, by zoom level, row and column.
const tilePath = "/collections/points/tiles/WebMercatorQuad"

// GET /collections/points/tiles/WebMercatorQuad/{z}/{y}/{x}: a Mapbox Vector Tile
// (OGC API Tiles, part 1, section 7.3). It takes the filters of GET /points.
func (s *service) getTile(c *fiber.Ctx) error {
	least, err := minPosition(c)
	if err != nil {
		return err
	}
	var room [512]byte // most names fit, and cost no allocation
	r := s.cache.Find(appendTileName(room[:0], c))
	if r == nil {
		var named event.Position
		if r, named, err = s.tileRequest(c); err != nil {
			return err
		}
		least = max(least, named)
	}
	a, age, stale, err := s.cache.Get(r, least.Sequence())
	if err != nil {
		return s.refuse(c, err)
	}
	if stale {
		setAge(c, age)
	}
	return s.send(c, r, a, tiles.Media)
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
	var which restrictions
	if err := which.read(string(c.Request().URI().QueryString()), tileParameters, nil); err != nil {
		return nil, 0, err
	}
	v, e := viewOf(c), which.expr()
	if err := checkAuthors(c, e); err != nil {
		return nil, 0, err
	}
	key := fmt.Sprintf("%s/%d/%d/%d", tilePath, t.Z, t.Y, t.X)
	for _, p := range which.parameters {
		key += "&" + url.QueryEscape(p.Name) + "=" + url.QueryEscape(p.Value)
	}
	if which.cqlExpr != nil {
		key += "&filter=" + url.QueryEscape(filter.Canonical(which.cqlExpr))
	}
	run := func() (answer.Answer, error) { return s.tiles.tile(s.stopping, t, v.within(e)) }
	name := ""
	if which.minPosition == 0 {
		name = string(appendTileName(nil, c))
	}
	return s.cache.Add(key+v.key(), name, run), which.minPosition, nil
}

// appendTileName appends what a tile is found under when it is asked for again. It has no
// links.
func appendTileName(dst []byte, c *fiber.Ctx) []byte {
	return viewOf(c).appendKey(append(dst, c.Request().Header.RequestURI()...))
}

var tileParameters = append(slices.Clone(filter.ParameterNames), "filter", "filter-lang", "min_position")
