// Package ogc has the documents of OGC API Features other than the points themselves:
// the landing page, the conformance classes, the collections with their schemas,
// the API's definition, and the HTML views of all of it. It makes documents from
// a base URL; it does not read the database, and all it knows of HTTP is which
// format a client wants.
//
// The parts are OGC 17-069r4 (1: core), 18-058r1 (2: reference systems, of which there
// is one), 19-079r2 (3: filtering), 20-002r1 (4:
// create, replace, update, delete), 23-058r1 (5: schemas) and 21-065r2 (CQL2).
package ogc

import "strings"

// Media types.
const (
	GeoJSON     = "application/geo+json"
	JSON        = "application/json"
	HTML        = "text/html"
	SchemaJSON  = "application/schema+json"
	OpenAPIJSON = "application/vnd.oai.openapi+json;version=3.0"
)

// A Link is one of RFC 8288, as OGC API Features writes it.
type Link struct {
	Href  string `json:"href"`
	Rel   string `json:"rel"`
	Type  string `json:"type,omitempty"`
	Title string `json:"title,omitempty"`
}

// A Collection is a set of items of one kind. There is one today.
type Collection struct {
	ID          string
	Title       string
	Description string
	Fields      []Field // what every item has, beside the users' properties
}

// A Field is a property that Cairn gives the items of a collection.
type Field struct {
	Name        string
	Title       string
	Description string
	Schema      map[string]any // what JSON Schema says of its value
	ReadOnly    bool
	Queryable   bool
	Sortable    bool
}

// Points is the collection of all points.
var Points = &Collection{
	ID:          "points",
	Title:       "Points",
	Description: "All points, the newest first. Each keeps the properties that it came with; Cairn adds id, time, received, position and revision, with cairn_ before the name where the point has a property of that name.",
	Fields: []Field{
		{Name: "id", Title: "Id", Description: "The point's id as text.", Schema: map[string]any{"type": "string"}, ReadOnly: true},
		{Name: "name", Title: "Name", Description: "The point's name, or its title where it has none.", Schema: map[string]any{"type": "string", "maxLength": 255}, Queryable: true},
		{Name: "time", Title: "Time", Description: "When the point was observed. In filters: when it was received, where nobody said.", Schema: map[string]any{"type": "string", "format": "date-time"}, Queryable: true, Sortable: true},
		{Name: "received", Title: "Received", Description: "When Cairn received it.", Schema: map[string]any{"type": "string", "format": "date-time"}, ReadOnly: true, Queryable: true},
		{Name: "position", Title: "Position", Description: "The place of its creation in the order of all changes.", Schema: map[string]any{"type": "integer"}, ReadOnly: true, Queryable: true, Sortable: true},
		{Name: "revision", Title: "Revision", Description: "The place of its last change in the order of all changes.", Schema: map[string]any{"type": "integer"}, ReadOnly: true, Queryable: true},
		{Name: "altitude", Title: "Altitude", Description: "Metres above the ellipsoid: the third number of the coordinates.", Schema: map[string]any{"type": "number"}, ReadOnly: true, Queryable: true},
	},
}

// Collections are all of them.
var Collections = []*Collection{Points}

// Path is the collection's, from the base URL.
func (c *Collection) Path() string { return "/collections/" + c.ID }

// Items is the path of its items.
func (c *Collection) Items() string { return c.Path() + "/items" }

const (
	relBase = "http://www.opengis.net/def/rel/ogc/1.0/"

	core   = "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/"
	part2  = "http://www.opengis.net/spec/ogcapi-features-2/1.0/conf/"
	part3  = "http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/"
	part4  = "http://www.opengis.net/spec/ogcapi-features-4/1.0/conf/"
	part5  = "http://www.opengis.net/spec/ogcapi-features-5/1.0/conf/"
	cql    = "http://www.opengis.net/spec/cql2/1.0/conf/"
	tiles  = "http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/"
	common = "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/"
)

// Classes are the conformance classes; those of writing where writes are taken.
func Classes(writable bool) []string {
	classes := []string{
		core + "core", core + "oas30", core + "html", core + "geojson",
		part2 + "crs", common + "core",
		tiles + "core", tiles + "tileset", tiles + "tilesets-list", tiles + "geodata-tilesets", tiles + "mvt", tiles + "oas30",
		part3 + "queryables", part3 + "queryables-query-parameters", part3 + "filter", part3 + "features-filter",
		cql + "cql2-text", cql + "cql2-json", cql + "basic-cql2", cql + "advanced-comparison-operators",
		cql + "case-insensitive-comparison", cql + "basic-spatial-functions", cql + "temporal-functions",
		part5 + "schemas", part5 + "core-roles-features", part5 + "returnables-and-receivables", part5 + "queryables", part5 + "sortables",
	}
	if writable {
		classes = append(classes, part4+"create-replace-delete", part4+"update", part4+"features", part4+"optimistic-locking", part4+"optimistic-locking-etags")
	}
	return classes
}

// A Site is the API under a base URL.
type Site struct {
	Base     string // without a slash at its end
	Writable bool
}

// both are the links of a resource to itself: in the form that is sent, and in
// the other.
func (s Site) both(path, sent, title string) []Link {
	links := []Link{{s.Base + path, "self", sent, title}}
	if sent == HTML {
		return append(links, Link{s.Base + path + "?f=json", "alternate", JSON, title + " as JSON"})
	}
	return append(links, Link{s.Base + path + "?f=html", "alternate", HTML, title + " as HTML"})
}

// Landing is the document at /.
func (s Site) Landing(sent string) map[string]any {
	links := append(s.both("/", sent, "This document"),
		Link{s.Base + "/api", "service-desc", OpenAPIJSON, "The API's definition"},
		Link{s.Base + "/api?f=html", "service-doc", HTML, "The API's documentation"},
		Link{s.Base + "/conformance", "conformance", JSON, "What of the standards is here"},
		Link{s.Base + "/collections", "data", JSON, "The collections"},
	)
	return map[string]any{"title": "Cairn", "description": "Points, as they come in.", "links": links}
}

// Conformance is the document at /conformance.
func (s Site) Conformance(sent string) map[string]any {
	return map[string]any{"conformsTo": Classes(s.Writable), "links": s.both("/conformance", sent, "Conformance")}
}

// List is the document at /collections.
func (s Site) List(sent string) map[string]any {
	all := make([]map[string]any, len(Collections))
	for i, c := range Collections {
		all[i] = s.describe(c)
	}
	return map[string]any{"title": "Collections", "collections": all, "links": s.both("/collections", sent, "Collections")}
}

// Describe is the document at /collections/{id}.
func (s Site) Describe(c *Collection, sent string) map[string]any {
	d := s.describe(c)
	d["links"] = append(s.both(c.Path(), sent, c.Title), d["links"].([]Link)...)
	return d
}

const crs84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"

func (s Site) describe(c *Collection) map[string]any {
	p := s.Base + c.Path()
	return map[string]any{
		"id": c.ID, "title": c.Title, "description": c.Description, "itemType": "feature",
		"crs":        []string{crs84},
		"storageCrs": crs84,
		"extent": map[string]any{
			"spatial":  map[string]any{"bbox": [][]float64{{-180, -90, 180, 90}}, "crs": crs84},
			"temporal": map[string]any{"interval": [][]any{{nil, nil}}, "trs": "http://www.opengis.net/def/uom/ISO-8601/0/Gregorian"},
		},
		"links": []Link{
			{p + "/items", "items", GeoJSON, c.Title},
			{p + "/items?f=html", "items", HTML, c.Title + " as HTML"},
			{s.Base + "/points.csv", "enclosure", "text/csv", "All points as CSV"},
			{s.Base + "/points.geojson", "enclosure", GeoJSON, "All points as GeoJSON"},
			{p + "/schema", relBase + "schema", SchemaJSON, "What the items have"},
			// GDAL to 3.6 knows the relation in these letters only; later versions take the
			// first in any, and where that has no schema of GeoJSON make the fields of 20 points.
			{p + "/schema?f=geojson", "describedBy", SchemaJSON, "What the items have, as GeoJSON"},
			{p + "/schema", "describedby", SchemaJSON, "What the items have"},
			{p + "/queryables", relBase + "queryables", SchemaJSON, "What can be filtered by"},
			{p + "/tiles", relBase + "tilesets-vector", JSON, c.Title + " as vector tiles"},
			{p + "/sortables", relBase + "sortables", SchemaJSON, "What can be sorted by"},
		},
	}
}

// Prefers says which of the media types that are offered, the default first, a
// client likes best by its Accept field (RFC 9110, section 12.5.1). What accepts
// none gets the default.
func Prefers(accept string, offered ...string) string {
	best, weight := offered[0], 0.0
	for _, media := range offered {
		if w := weightOf(accept, media); w > weight {
			best, weight = media, w
		}
	}
	return best
}

// weightOf is what the most specific range that matches says.
func weightOf(accept, media string) float64 {
	weight, specific := 0.0, -1
	for item := range strings.SplitSeq(accept, ",") {
		name, parameters, _ := strings.Cut(item, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		kind, _, _ := strings.Cut(media, "/")
		rank := -1
		switch name {
		case media:
			rank = 2
		case kind + "/*":
			rank = 1
		case "*/*":
			rank = 0
		}
		if rank > specific {
			specific, weight = rank, qualityOf(parameters)
		}
	}
	return weight
}
