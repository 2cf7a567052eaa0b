package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/paulmach/orb/encoding/mvt"
)

func filterRequirements() []requirement {
	return []requirement{
		{"/req/queryables/queryables-link", func(t *testing.T, a *api) {
			a.document(t, points, "application/json").link(t, relation+"queryables", "application/schema+json")
		}},
		{"/req/queryables/get-queryables-response", func(t *testing.T, a *api) {
			d := a.document(t, points+"/queryables", "application/schema+json")
			if d["type"] != "object" || d["$id"] != a.base+points+"/queryables" || d["$schema"] != "https://json-schema.org/draft/2020-12/schema" || d.object("properties").object("n")["type"] != "integer" || d.object("properties").object("geometry")["format"] != "geometry-point" {
				t.Errorf("%v", d)
			}
		}},
		{"/req/queryables-query-parameters/parameters", matches(map[string]int{"n=2": 1, "kind=city": 2, "kind=city&n=3": 0})},
		{"/req/filter/filter-param", matches(map[string]int{"filter=kind='city'": 2, "filter=kind='city' AND n>1": 1})},
		{"/req/filter/filter-lang-param", matches(map[string]int{"filter=n=1&filter-lang=cql2-text": 1, `filter={"op":"=","args":[{"property":"n"},1]}&filter-lang=cql2-json`: 1})},
		{"/req/filter/filter-crs-wgs84", matches(map[string]int{"filter=S_INTERSECTS(geometry,BBOX(2,48,3,49))": 1, "filter=S_INTERSECTS(geometry,BBOX(48,2,49,3))": 0})},
		{"/req/filter/filter-crs-param", func(t *testing.T, a *api) {
			matches(map[string]int{"filter=S_INTERSECTS(geometry,BBOX(2,48,3,49))&filter-crs=" + crs84: 1})(t, a)
			refuses("filter=n=1&filter-crs=http://www.opengis.net/def/crs/EPSG/0/3857")(t, a)
		}},
		{"/req/filter/mixing-expressions", matches(map[string]int{"filter=n>1&bbox=0,40,10,50": 1, "filter=n>1&datetime=2020-01-03": 1, "filter=n>1&kind=island": 1})},
		{"/req/features-filter/filter-param", matches(map[string]int{"filter=n=1&limit=10": 1, "filter=n>1&sortby=time": 3})},
		{"/req/cql2-text/validate", matches(map[string]int{"filter=((n=1) or \"n\"=3) and not(kind='city')": 1, "filter=name='Bern'": 1, "filter=name like 'B%25'": 1})},
		{"/req/cql2-json/validate", matches(map[string]int{
			`filter={"op":"and","args":[{"op":">","args":[{"property":"n"},1]},{"op":"isNull","args":[{"property":"kind"}]}]}&filter-lang=cql2-json`:                        1,
			`filter={"op":"s_intersects","args":[{"property":"geometry"},{"type":"Polygon","coordinates":[[[0,40],[10,40],[10,50],[0,50],[0,40]]]}]}&filter-lang=cql2-json`: 2,
		})},
		{"/req/filter/response", refuses("filter=n%20%3E", "filter=n%20=%201&filter-lang=sql", "filter=%7B&filter-lang=cql2-json")},
		{"/req/basic-cql2/cql2-filter", matches(map[string]int{"filter=n=1 OR n=2": 2, "filter=NOT (n=1 OR n=2)": 2, "filter=(n=1 OR n=2) AND NOT n=1": 1})},
		{"/req/basic-cql2/binary-comparison-predicate", matches(map[string]int{"filter=n<>1": 3, "filter=n<2": 1, "filter=n<=2": 2, "filter=n>2": 2, "filter=n>=2": 3, "filter=name='Apia'": 1})},
		{"/req/basic-cql2/null-predicate", matches(map[string]int{"filter=kind IS NULL": 1, "filter=kind IS NOT NULL": 3})},
		{"/req/advanced-comparison-operators/like-predicate", matches(map[string]int{"filter=name LIKE '%25i%25'": 3, "filter=name LIKE '_ern'": 1})},
		{"/req/advanced-comparison-operators/between-predicate", matches(map[string]int{"filter=n BETWEEN 2 AND 3": 2, "filter=n NOT BETWEEN 2 AND 3": 2})},
		{"/req/advanced-comparison-operators/in-predicate", matches(map[string]int{"filter=name IN ('Bern','Fiji','none')": 2, "filter=n NOT IN (1,2)": 2})},
		{"/req/case-insensitive-comparison/casei-function", matches(map[string]int{"filter=CASEI(name)=CASEI('PARIS')": 1, "filter=name='PARIS'": 0})},
		{"/req/basic-spatial-functions/spatial-predicate", matches(map[string]int{"filter=S_INTERSECTS(geometry,POLYGON((0 40,10 40,10 50,0 50,0 40)))": 2, "filter=S_INTERSECTS(geometry,POINT(2.35 48.85))": 1})},
		{"/conf/basic-cql2/comparison", everyQueryable([][2]string{{"{q} = {v}", "{q} <> {v}"}, {"{q} > {v}", "{q} <= {v}"}, {"{q} < {v}", "{q} >= {v}"}})},
		{"/conf/basic-cql2/is-null", everyQueryable([][2]string{{"{q} IS NULL", "{q} is not null"}})},
		{"/conf/advanced-comparison-operators/in", everyQueryable([][2]string{{"{q} IN ({v}, {v})", "{q} not in ({v})"}})},
		{"/conf/temporal-functions/temporal-functions-1", func(t *testing.T, a *api) {
			for name, end := range a.times(t) {
				for _, function := range []string{"T_AFTER", "T_BEFORE", "T_DISJOINT", "T_EQUALS", "T_INTERSECTS"} {
					a.page(t, fmt.Sprintf("filter=%s(%s,%s)", function, name, end.instant))
					a.page(t, fmt.Sprintf("filter=%s(%s,%s)", function, name, end.interval))
				}
			}
		}},
		{"/conf/temporal-functions/temporal-functions-2", func(t *testing.T, a *api) {
			for first, end := range a.times(t) {
				for last := range a.times(t) {
					for _, function := range strings.Fields("AFTER BEFORE DISJOINT EQUALS INTERSECTS CONTAINS DURING FINISHEDBY FINISHES MEETS METBY OVERLAPPEDBY OVERLAPS STARTEDBY STARTS") {
						a.page(t, fmt.Sprintf("limit=1&filter=T_%s(INTERVAL(%s,%s),%s)", function, first, last, end.interval))
					}
				}
			}
		}},
		{"/req/temporal-functions/temporal-predicates", matches(map[string]int{
			"filter=seen=TIMESTAMP('2020-05-01T14:00:00%2B02:00')": 1, "filter=seen<TIMESTAMP('2020-05-02T12:00:00Z')": 1, "filter=founded>=DATE('2020-05-01')": 2, "filter=founded<>DATE('2020-05-01')": 1,
			"filter=T_AFTER(founded,DATE('2020-05-01'))": 1, "filter=T_EQUALS(founded,INTERVAL('2020-05-01','2020-05-01'))": 1, "filter=T_DISJOINT(seen,DATE('2020-05-01'))": 1,
			"filter=T_DURING(INTERVAL(seen,until),INTERVAL('2020-05-01','2020-05-02'))": 1, "filter=T_MEETS(INTERVAL(seen,until),INTERVAL('2020-05-04T00:00:00Z','..'))": 1,
			"filter=T_OVERLAPS(INTERVAL(seen,until),INTERVAL('2020-05-03','..'))": 1, "filter=T_STARTEDBY(INTERVAL(seen,until),INTERVAL('2020-05-01T12:00:00Z','2020-05-01T13:00:00Z'))": 1,
		})},
		{"/req/temporal-functions/temporal-functions", matches(map[string]int{"filter=T_AFTER(time,TIMESTAMP('2020-01-02T12:00:00Z'))": 2, "filter=T_BEFORE(time,TIMESTAMP('2020-01-02T12:00:00Z'))": 1, "filter=T_DURING(time,INTERVAL('2020-01-01T13:00:00Z','2020-01-03T13:00:00Z'))": 2})},
	}
}

// values are what is compared with queryables, by their type and format (21-065r2, annex A).
var values = map[string]string{
	"string ": "'foo'", "boolean ": "true", "number ": "3.14", "integer ": "1", "string date-time": "TIMESTAMP('2022-04-14T14:48:46Z')", "string date": "DATE('2022-04-14')",
}

// queryables are the types and formats of what can be filtered by.
func (a *api) queryables(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, p := range a.document(t, points+"/queryables", "application/schema+json").object("properties") {
		p := object(p.(map[string]any))
		kind, _ := p["type"].(string)
		format, _ := p["format"].(string)
		out[name] = kind + " " + format
	}
	return out
}

// everyQueryable shows that each pair of filters, with a queryable for {q} and a value
// for {v}, is answered for each queryable, and that no item passes both.
func everyQueryable(pairs [][2]string) func(t *testing.T, a *api) {
	return func(t *testing.T, a *api) {
		tried := map[string]bool{}
		for name, kind := range a.queryables(t) {
			value, comparable := values[kind]
			tried[kind] = true
			write := strings.NewReplacer("{q}", name, "{v}", value)
			for _, pair := range pairs {
				if !comparable && strings.Contains(pair[0], "{v}") {
					continue // the geometry
				}
				var passed [2]map[any]bool
				for i, filter := range pair {
					filter = write.Replace(filter)
					passed[i] = map[any]bool{}
					for _, f := range a.page(t, "filter="+filter).list("features") {
						id := object(f.(map[string]any))["id"]
						if passed[i][id] = true; passed[0][id] && passed[1][id] {
							t.Errorf("%v passes %s, and what is its opposite", id, filter)
						}
					}
				}
			}
		}
		for kind := range values {
			if !tried[kind] {
				t.Errorf("no queryable is of type %s", kind)
			}
		}
	}
}

// Ends are what a time is compared with.
type ends struct{ instant, interval string }

// times are the queryables that hold times.
func (a *api) times(t *testing.T) map[string]ends {
	t.Helper()
	out := map[string]ends{}
	for name, kind := range a.queryables(t) {
		switch kind {
		case "string date-time":
			out[name] = ends{values[kind], "INTERVAL('2021-01-01T00:00:00Z','2021-12-31T23:59:59Z')"}
		case "string date":
			out[name] = ends{values[kind], "INTERVAL('2021-01-01','2021-12-31')"}
		}
	}
	if len(out) < 5 { // time, received, founded, seen, until
		t.Errorf("times: %v", out)
	}
	return out
}

func schemaRequirements() []requirement {
	schema := func(t *testing.T, a *api) object {
		return a.document(t, points+"/schema", "application/schema+json")
	}
	return []requirement{
		{"/req/schemas/schema-link", func(t *testing.T, a *api) {
			a.document(t, points, "application/json").link(t, relation+"schema", "application/schema+json")
		}},
		{"/req/schemas/properties", func(t *testing.T, a *api) {
			d := schema(t, a)
			for name, kind := range map[string]string{"n": "integer", "kind": "string", "name": "string", "time": "string"} {
				if p := d.object("properties").object(name); p["type"] != kind || p["title"] == nil {
					t.Errorf("%s: %v", name, p)
				}
			}
		}},
		{"/req/core-roles-features/role-id", func(t *testing.T, a *api) {
			roles := map[any]int{}
			for _, p := range schema(t, a).object("properties") {
				roles[object(p.(map[string]any))["x-ogc-role"]]++
			}
			if roles["id"] != 1 || roles["primary-geometry"] != 1 || roles["primary-instant"] != 1 {
				t.Errorf("roles: %v", roles)
			}
		}},
		{"/req/returnables-and-receivables/read-only", func(t *testing.T, a *api) {
			for name, want := range map[string]bool{"received": true, "position": true, "revision": true, "name": false, "n": false} {
				if p := schema(t, a).object("properties").object(name); (p["readOnly"] == true) != want {
					t.Errorf("%s: %v", name, p)
				}
			}
		}},
		{"/req/sortables/sortables-link", func(t *testing.T, a *api) {
			a.document(t, points, "application/json").link(t, relation+"sortables", "application/schema+json")
		}},
	}
}

func tileRequirements() []requirement {
	const sets = points + "/tiles"
	set := func(t *testing.T, a *api) object { return a.document(t, sets+"/WebMercatorQuad", "application/json") }
	return []requirement{
		{"/req/geodata-tilesets/desc-links", func(t *testing.T, a *api) {
			a.document(t, points, "application/json").link(t, relation+"tilesets-vector", "application/json")
		}},
		{"/req/tilesets-list/tsl-links", func(t *testing.T, a *api) {
			list := a.document(t, sets, "application/json").list("tilesets")
			if len(list) != 1 {
				t.Fatalf("%d tile sets", len(list))
			}
			one := object(list[0].(map[string]any))
			if one["dataType"] != "vector" || one["crs"] == nil || one["tileMatrixSetURI"] == nil {
				t.Errorf("%v", one)
			}
			one.link(t, "self", "application/json")
		}},
		{"/req/tileset/desc-success", func(t *testing.T, a *api) {
			if d := set(t, a); d["dataType"] != "vector" || d["tileMatrixSetURI"] != "http://www.opengis.net/def/tilematrixset/OGC/1.0/WebMercatorQuad" || len(d.list("layers")) != 1 {
				t.Errorf("%v", d)
			}
		}},
		{"/req/core/tc-op", func(t *testing.T, a *api) { // by the template of the tile set
			for _, l := range set(t, a).list("links") {
				l := object(l.(map[string]any))
				if l["rel"] != "item" || l["templated"] != true {
					continue
				}
				at := strings.NewReplacer("{tileMatrix}", "0", "{tileRow}", "0", "{tileCol}", "0").Replace(fmt.Sprint(l["href"]))
				if r := write(t, http.MethodGet, at, "", ""); r.Status != http.StatusOK || r.Header.Get("Content-Type") != l["type"] {
					t.Errorf("%s: %d %s", at, r.Status, r.Header.Get("Content-Type"))
				}
				return
			}
			t.Error("no link to the tiles")
		}},
		{"/req/core/tc-error", func(t *testing.T, a *api) {
			for _, tile := range [...]string{"0/0/1", "1/2/0", "40/0/0", "0/0/x", "0/-1/0"} {
				if r := write(t, http.MethodGet, a.base+sets+"/WebMercatorQuad/"+tile, "", ""); r.Status != http.StatusNotFound {
					t.Errorf("%s: %d", tile, r.Status)
				}
			}
		}},
		{"/req/oas30/operation-id", func(t *testing.T, a *api) { // table 11
			paths := a.document(t, "/api", "application/vnd.oai.openapi+json;version=3.0").object("paths")
			for path, operation := range map[string]string{sets: "getTileSetsList", sets + "/WebMercatorQuad": "getTileSet", sets + "/WebMercatorQuad/{z}/{y}/{x}": "getTile"} {
				if id := fmt.Sprint(paths.object(path).object("get")["operationId"]); !strings.HasSuffix(id, ".collection.vector."+operation) {
					t.Errorf("%s: %s", path, id)
				}
			}
		}},
		{"/req/mvt/content", func(t *testing.T, a *api) {
			r := write(t, http.MethodGet, a.base+sets+"/WebMercatorQuad/0/0/0", "", "")
			layers, err := mvt.Unmarshal(r.Body)
			if err != nil || len(layers) != 1 || layers[0].Name != "points" || len(layers[0].Features) != 4 {
				t.Errorf("%v: %v", err, layers)
			}
		}},
	}
}
