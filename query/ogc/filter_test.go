package ogc

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"cairn/event"
	"cairn/query/filter"
	"cairn/query/ogc/cql2"
)

func micros(s string) int64 {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t.UnixMicro() - filter.PostgresEpoch
}

// castle is the row that the filters of these tests are asked about.
func castle() *filter.Row {
	at := micros("2026-11-21T12:00:00Z")
	return &filter.Row{X: 2.5, Y: 48.5, Altitude: 120.5, Time: at, Received: at + 1_000_000, Position: event.At(2, 0), Revision: event.At(3, 0),
		Name: "Château d'Eau", Properties: []byte(`{"mag": 5.5, "kind": "tower", "open": true, "gone": null, "wind speed": 3, "position": "front", "built": "1870-05-01", "n": 9007199254740993,
			"opens": "2026-11-21T09:00:00+01:00", "closes": "2026-11-21T18:30:00", "never": "2026-02-30T00:00:00Z"}`)}
}

func TestFilter(t *testing.T) {
	for in, want := range map[string]bool{
		`mag > 5`: true, `mag > 5.5`: false, `5 < mag`: true, `5.50 = mag`: true, `mag <> 5.5`: false, `mag BETWEEN 5.5 AND 6`: true, `mag NOT BETWEEN 5 AND 6`: false,
		`kind = 'tower' AND open = TRUE`: true, `open = false`: false, `kind IN ('hut', 'tower')`: true, `kind NOT IN ('tower')`: false, `mag IN (1, 5.5, 'x')`: true,
		`n = 9007199254740993`: true, `n = 9007199254740992`: false, `"wind speed" = 03.0`: true,
		`built = DATE('1870-05-01')`: true, `built < DATE('1870-05-02')`: true, `built > DATE('1870-05-01')`: false, `built BETWEEN DATE('1870-01-01') AND DATE('1870-12-31')`: true,
		`built IN (DATE('1870-04-30'), DATE('1870-05-01'))`: true, `mag > DATE('1870-05-01')`: false,
		`built = TIMESTAMP('1870-05-01T12:00:00Z')`: false, `built <= TIMESTAMP('1870-05-01T12:00:00Z')`: true, `built NOT IN (DATE('1870-04-30'), 'x')`: true,
		`opens = TIMESTAMP('2026-11-21T08:00:00Z')`: true, `opens < TIMESTAMP('2026-11-21T08:30:00Z')`: true, `opens = DATE('2026-11-21')`: true, `opens <> DATE('2026-11-21')`: false,
		`closes > TIMESTAMP('2026-11-21T18:29:59Z')`: true, `closes IN (TIMESTAMP('2026-11-21T18:30:00Z'))`: true, `never < DATE('2027-01-01')`: false, `NOT never < DATE('2027-01-01')`: false,
		`kind > TIMESTAMP('2026-01-01T00:00:00Z')`: false, `opens = '2026-11-21T09:00:00+01:00'`: true,
		`geometry IS NULL`: false, `geom IS NOT NULL`: true, `open > false`: true, `open >= true`: true, `open < true`: false,
		`gone IS NULL`: true, `missing IS NULL`: true, `kind IS NOT NULL`: true, `altitude > 120`: true,
		// What is not there is neither equal nor unequal.
		`missing = 1`: false, `missing <> 1`: false, `NOT missing = 1`: false, `missing = 1 OR mag > 1`: true, `kind > 5`: false,
		`name = 'Château d''Eau'`: true, `name LIKE 'Ch_teau%'`: true, `name LIKE 'ch%'`: false, `CASEI(name) LIKE CASEI('CHÂTEAU%')`: true,
		`CASEI(kind) = CASEI('TOWER')`: true, `CASEI(kind) IN (CASEI('Tower'))`: true,
		`properties.position = 'front'`: true, `position > 8000`: true, `position = 8192 AND revision = 12288`: true,
		`true`: true, `NOT true`: false, `false OR mag = 5.5`: true,

		`time = DATE('2026-11-21')`: true, `time > DATE('2026-11-21')`: false, `time >= DATE('2026-11-21')`: true, `time < DATE('2026-11-22')`: true,
		`time <> DATE('2026-11-21')`: false, `time = TIMESTAMP('2026-11-21T13:00:00+01:00')`: true, `time > '2026-11-20T00:00:00Z'`: true, `time = '2026-11-21'`: true,
		`time BETWEEN DATE('2026-11-01') AND DATE('2026-11-21')`: true, `received > TIMESTAMP('2026-11-21T12:00:00Z')`: true, `time IN (DATE('2026-11-21'))`: true,
		`T_AFTER(time, DATE('2026-11-20'))`: true, `T_BEFORE(time, DATE('2026-11-21'))`: false, `T_AFTER(DATE('2026-11-22'), time)`: true,
		`T_DURING(time, INTERVAL('2026-11-21', '..'))`: true, `T_DURING(time, INTERVAL('..', '2026-11-20'))`: false, `T_INTERSECTS(time, INTERVAL('2026-11-21T12:00:00Z', '2026-11-22'))`: true,
		`T_DISJOINT(time, DATE('2026-11-21'))`: false, `T_DISJOINT(time, DATE('2026-11-22'))`: true, `T_EQUALS(time, TIMESTAMP('2026-11-21T12:00:00Z'))`: true,
		`T_STARTS(time, INTERVAL('2026-11-21T12:00:00Z', '2026-11-22'))`: true, `T_FINISHES(time, INTERVAL('2026-11-01', '2026-11-21T12:00:00Z'))`: true,
		`T_MEETS(time, INTERVAL('2026-11-21T12:00:00Z', '..'))`: true, `T_CONTAINS(INTERVAL('2026-11-01', '2026-12-01'), time)`: true, `T_OVERLAPS(time, DATE('2026-11-21'))`: false,
		`T_AFTER(time, INTERVAL('2026-01-01', '..'))`: false, `T_BEFORE(time, INTERVAL('..', '2026-12-01'))`: false,
		`T_AFTER(built, DATE('1870-04-30'))`: true, `T_BEFORE(built, DATE('1870-05-01'))`: false, `T_EQUALS(built, DATE('1870-05-01'))`: true, `T_EQUALS(built, INTERVAL('1870-05-01', '1870-05-01'))`: true,
		`T_EQUALS(built, INTERVAL('1870-05-01', '1870-05-02'))`: false, `T_STARTS(built, INTERVAL('1870-05-01', '1870-05-02'))`: true, `T_DISJOINT(built, DATE('1870-05-02'))`: true,
		`T_DISJOINT(kind, DATE('2026-01-01'))`: false, `T_INTERSECTS(kind, INTERVAL('..', '..'))`: false, `T_INTERSECTS(built, INTERVAL('..', '..'))`: true,
		`T_CONTAINS(INTERVAL(opens, closes), TIMESTAMP('2026-11-21T12:00:00Z'))`: true, `T_DURING(INTERVAL(opens, closes), DATE('2026-11-21'))`: true,
		`T_DURING(DATE('2026-11-21'), INTERVAL(opens, closes))`: false, `T_AFTER(INTERVAL(opens, closes), INTERVAL('..', '2026-11-20'))`: true,
		`T_FINISHES(INTERVAL(opens, closes), INTERVAL('2026-11-01', '2026-11-21T18:30:00Z'))`: true, `T_FINISHEDBY(INTERVAL(opens, closes), TIMESTAMP('2026-11-21T18:30:00Z'))`: true,
		`T_STARTEDBY(INTERVAL(opens, closes), INTERVAL('2026-11-21T08:00:00Z', '2026-11-21T09:00:00Z'))`: true, `T_MEETS(INTERVAL(opens, closes), INTERVAL('2026-11-21T18:30:00Z', '..'))`: true,
		`T_METBY(INTERVAL(opens, closes), INTERVAL('2026-11-20T00:00:00Z', '2026-11-21T08:00:00Z'))`: true, `T_OVERLAPS(INTERVAL(opens, closes), INTERVAL('2026-11-21T12:00:00Z', '..'))`: true,
		`T_OVERLAPPEDBY(INTERVAL(opens, closes), INTERVAL('..', '2026-11-21T12:00:00Z'))`: true, `T_INTERSECTS(INTERVAL(opens, '..'), DATE('2030-01-01'))`: true,
		`T_INTERSECTS(INTERVAL(opens, '2026-12-01'), DATE('2030-01-01'))`: false, `T_BEFORE(INTERVAL('..', closes), INTERVAL('2026-11-22', '..'))`: true,
		`T_AFTER(INTERVAL(time, received), DATE('2026-11-20'))`: true, `T_AFTER(INTERVAL(opens, missing), DATE('2026-11-20'))`: true, `T_EQUALS(INTERVAL(opens, missing), DATE('2026-11-20'))`: false,

		`S_INTERSECTS(geometry, BBOX(2, 48, 3, 49))`: true, `S_INTERSECTS(geom, BBOX(2.5, 48.5, 3, 49))`: true, `S_WITHIN(geom, BBOX(2.5, 48.5, 3, 49))`: false,
		`S_INTERSECTS(geom, BBOX(170, 0, -170, 90))`: false, `S_INTERSECTS(geom, BBOX(362, 48, 363, 49))`: true, `S_WITHIN(geom, BBOX(170, 0, 3, 90))`: true,
		`S_INTERSECTS(geom, POLYGON((2 48, 3 48, 3 49, 2 48)))`: true, `S_WITHIN(geom, POLYGON((2 48, 3 48, 3 49, 2 48)))`: false, `S_TOUCHES(geom, POLYGON((2 48, 3 48, 3 49, 2 48)))`: true,
		`S_INTERSECTS(geom, POLYGON((0 40, 9 40, 9 50, 0 50, 0 40), (2 48, 3 48, 3 49, 2 49, 2 48)))`: false,
		`S_DISJOINT(geom, POLYGON((0 40, 9 40, 9 50, 0 50, 0 40), (2 48, 3 48, 3 49, 2 49, 2 48)))`:   true,
		`S_WITHIN(geom, MULTIPOLYGON(((0 0, 1 0, 1 1, 0 0)), ((2 48, 3 48, 3 49, 2 49, 2 48))))`:      true,
		`S_CONTAINS(POLYGON((2 48, 3 48, 3 49, 2 49, 2 48)), geom)`:                                   true,
		`S_INTERSECTS(geom, POINT(2.5 48.5))`:                                                         true,
		`S_EQUALS(geom, POINT(2.5 48.4))`:                                                             false,
		`S_INTERSECTS(geom, MULTIPOINT((0 0), (2.5 48.5)))`:                                           true,
		`S_EQUALS(geom, MULTIPOINT((0 0), (2.5 48.5)))`:                                               false,
	} {
		t.Run(in, func(t *testing.T) {
			e, err := ParseFilter(in, CQL2Text)
			if err != nil {
				t.Fatal(err)
			}
			if got := filter.Match(e, castle()); got != want {
				t.Errorf("%v: %s", got, filter.Canonical(e))
			}
			b := &filter.Builder{} // what text takes, SQL takes
			if b.Where(e) == "" {
				t.Error("no SQL")
			}
		})
	}
}

func TestFilterErrors(t *testing.T) {
	for in, want := range map[string]string{
		`mag > kind`:         "another property",
		`5 = 5`:              "a property is expected here",
		`time > 5`:           "time is not compared with a number",
		`time = 'yesterday'`: "not a time",
		`name > 5`:           "name is not compared with a number",
		`position = 'x'`:     "position is not compared with text",
		`name > TIMESTAMP('2026-01-01T00:00:00Z')`:            "name is not a time",
		`CASEI(kind) > DATE('2026-01-01')`:                    "around text",
		`T_AFTER(CASEI(kind), DATE('2026-01-01'))`:            "around text",
		`T_AFTER(opens, closes)`:                              "another property",
		`T_AFTER(DATE('2026-01-01'), DATE('2026-01-02'))`:     "a property is expected",
		`kind > DATE('2026-13-01')`:                           "date",
		`CASEI(kind) = 'x'`:                                   "both sides",
		`kind = CASEI('x')`:                                   "both sides",
		`CASEI(position) = CASEI('x')`:                        "not text",
		`ACCENTI(kind) = ACCENTI('x')`:                        "not supported",
		`position LIKE 'x%'`:                                  "not text",
		`kind LIKE 5`:                                         "a pattern is text",
		`geometry = 5`:                                        "S_INTERSECTS",
		`S_INTERSECTS(kind, POINT(1 2))`:                      "the geometry of the points",
		`S_INTERSECTS(geom, geom)`:                            "a geometry is expected",
		`S_INTERSECTS(geom, LINESTRING(1 2,3 4))`:             "no inside",
		`S_CROSSES(geom, POLYGON((2 48, 3 48, 3 49, 2 48)))`:  "never true of a point",
		`T_AFTER(altitude, DATE('2026-01-01'))`:               "altitude is not a time",
		`T_AFTER(time, 5)`:                                    "is expected here",
		`T_AFTER(time, INTERVAL('2026-02-01', '2026-01-01'))`: "ends before",
	} {
		t.Run(in, func(t *testing.T) {
			_, err := ParseFilter(in, "")
			var at *cql2.Error
			if !errors.As(err, &at) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want …%s…", err, want)
			}
		})
	}
	if _, err := ParseFilter("a=1", "sql"); err == nil || !strings.Contains(err.Error(), CQL2JSON) {
		t.Error(err)
	}
}

// Both languages mean the same.
func TestFilterInJSON(t *testing.T) {
	for text, js := range map[string]string{
		`mag >= 5.5 AND NOT (kind = 'x' OR gone IS NULL)`: `{"op":"and","args":[{"op":">=","args":[{"property":"mag"},5.5]},{"op":"not","args":[{"op":"or","args":[{"op":"=","args":[{"property":"kind"},"x"]},{"op":"isNull","args":[{"property":"gone"}]}]}]}]}`,
		`S_INTERSECTS(geometry, BBOX(2,48,3,49))`:         `{"op":"s_intersects","args":[{"property":"geometry"},{"bbox":[2,48,3,49]}]}`,
		`built >= DATE('1870-05-01')`:                     `{"op":">=","args":[{"property":"built"},{"date":"1870-05-01"}]}`,
		`T_AFTER(time, DATE('2026-01-01'))`:               `{"op":"t_after","args":[{"property":"time"},{"date":"2026-01-01"}]}`,
		`CASEI(kind) IN (CASEI('A'), CASEI('b'))`:         `{"op":"in","args":[{"op":"casei","args":[{"property":"kind"}]},[{"op":"casei","args":["A"]},{"op":"casei","args":["b"]}]]}`,
	} {
		a, err := ParseFilter(text, CQL2Text)
		b, err2 := ParseFilter(js, CQL2JSON)
		if err != nil || err2 != nil || filter.Canonical(a) != filter.Canonical(b) {
			t.Errorf("%s: %v %v", text, err, err2)
		}
	}
}

// What the fuzzer finds that is taken has all three back ends.
func FuzzFilter(f *testing.F) {
	for _, seed := range [...]string{`mag > 5 AND kind IN ('a', 2)`, `S_WITHIN(geom, POLYGON((2 48, 3 48, 3 49, 2 48)))`, `T_DURING(time, INTERVAL('..', '2026-01-01'))`,
		`CASEI(name) LIKE CASEI('%É_')`, `.5 = x OR -05.e3 < y`} {
		f.Add(seed)
	}
	row := castle()
	row.Altitude = math.NaN()
	f.Fuzz(func(t *testing.T, in string) {
		e, err := ParseFilter(in, "")
		if err != nil {
			return
		}
		filter.Match(e, row)
		filter.Canonical(e)
		filter.Bound(e)
		(&filter.Builder{}).Where(e)
	})
}
