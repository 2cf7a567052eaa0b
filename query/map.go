package query

import (
	"fmt"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
	"cairn/internal/web"
	"cairn/query/ogc"
	"cairn/query/tiles"
)

// mapRoutes are the map page's files, and the tiles that it and others draw.
func (s *service) mapRoutes() []web.Route {
	return []web.Route{
		// Not open, though they are the same everywhere: a browser that was asked for
		// a key (HTTP Basic) sends it with these, too.
		{Method: http.MethodGet, Path: "/static/:file", Scope: auth.Read, Areas: true, Handler: s.mapPage.Asset},
		{Method: http.MethodGet, Path: "/lib/:file", Scope: auth.Read, Areas: true, Handler: s.mapPage.Asset},
		{Method: http.MethodGet, Path: "/collections/points/tiles", Scope: auth.Read, Areas: true, Handler: s.getTileSets},
		{Method: http.MethodGet, Path: tilePath, Scope: auth.Read, Areas: true, Handler: s.getTileSet},
		{Method: http.MethodGet, Path: tilePath + "/:z/:y/:x", Scope: auth.Read, Areas: true, Handler: s.getTile},
	}
}

const (
	tileJSON  = "application/json"
	matrixSet = "http://www.opengis.net/def/tilematrixset/OGC/1.0/WebMercatorQuad"
	mercator  = "http://www.opengis.net/def/crs/EPSG/0/3857"
)

// GET /collections/points/tiles: the tile sets that there are (OGC API Tiles, part 1,
// section 9).
func (s *service) getTileSets(c *fiber.Ctx) error {
	sent, err := form(c, ogc.JSON)
	if err == nil {
		err = onlyForm(c)
	}
	if err != nil {
		return err
	}
	const path = "/collections/points/tiles"
	site := s.site(c)
	if sent == ogc.HTML {
		sets := ogc.Table{Head: []string{"Tile set", "Its scheme"}, Rows: [][]ogc.Cell{{{Text: "Points as vector tiles", Href: site.Base + tilePath + "?f=html"}, {Text: "WebMercatorQuad"}}}}
		return sendView(c, site.ViewTiles(path, "Tile sets", sets))
	}
	return sendDocument(c, ogc.JSON, map[string]any{
		"links":    []any{link(site.Base+path, "self", ogc.JSON, "This document"), link(site.Base+path+"?f=html", "alternate", ogc.HTML, "This document as HTML")},
		"tilesets": []any{tileSet(site.Base, false)},
	})
}

// GET /collections/points/tiles/WebMercatorQuad: the one tile set (section 8); with
// f=tilejson as TileJSON 3.0.0.
func (s *service) getTileSet(c *fiber.Ctx) error {
	if err := onlyForm(c); err != nil {
		return err
	}
	site := s.site(c)
	addresses := site.Base + tilePath + "/{z}/{y}/{x}"
	switch f := c.Query("f"); f {
	case "", "json", "html":
	case "tilejson":
		return sendDocument(c, tileJSON, map[string]any{
			"tilejson": "3.0.0", "name": "points", "scheme": "xyz", "minzoom": 0, "maxzoom": maxTileZoom,
			"tiles": []string{addresses}, "bounds": []float64{-180, -85.051129, 180, 85.051129},
			"vector_layers": []any{map[string]any{"id": tiles.LayerName, "fields": tileFields}},
		})
	default:
		return badParameter("f", "f: there is no form %q, only json, html and tilejson", f)
	}
	sent, err := form(c, ogc.JSON)
	if err != nil {
		return err
	}
	if sent == ogc.HTML {
		set := ogc.Table{Rows: [][]ogc.Cell{{{Text: "Tiles, by zoom level, row and column"}, {Text: addresses}}, {{Text: "Scheme"}, {Text: "WebMercatorQuad", Href: matrixSet}}, {{Text: "Layer"}, {Text: tiles.LayerName}},
			{{Text: "For maps"}, {Text: "TileJSON", Href: site.Base + tilePath + "?f=tilejson"}}}}
		return sendView(c, site.ViewTiles(tilePath, "Points as vector tiles", set))
	}
	return sendDocument(c, ogc.JSON, tileSet(site.Base, true))
}

// maxTileZoom is the deepest zoom level that is told to maps: they enlarge it.
const maxTileZoom = 14

// tileFields are the fields of a point, or of a cluster, in a tile.
var tileFields = map[string]string{
	"id": "String: of a single point", "name": "String", "time": "String: when it was observed, RFC 3339", "count": "Number: the points of a cluster",
}

func tileSet(base string, whole bool) map[string]any {
	self := link(base+tilePath, "self", ogc.JSON, "Points as vector tiles")
	template := link(base+tilePath+"/{tileMatrix}/{tileRow}/{tileCol}", "item", tiles.Media, "Points as Mapbox Vector Tiles")
	template["templated"] = true
	d := map[string]any{
		"title": "Points", "dataType": "vector", "crs": mercator, "tileMatrixSetURI": matrixSet,
		"links": []any{self, template, link(matrixSet, "http://www.opengis.net/def/rel/ogc/1.0/tiling-scheme", ogc.JSON, "The tile matrix set"),
			link(base+tilePath+"?f=tilejson", "describedby", tileJSON, "TileJSON"), link(base+tilePath+"?f=html", "alternate", ogc.HTML, "The tile set as HTML")},
	}
	if whole {
		d["layers"] = []any{map[string]any{"id": tiles.LayerName, "dataType": "vector", "geometryDimension": 0, "minTileMatrix": "0", "maxTileMatrix": fmt.Sprint(tiles.MaxZoom)}}
	}
	return d
}

func link(href, rel, media, title string) map[string]any {
	return map[string]any{"href": href, "rel": rel, "type": media, "title": title}
}
