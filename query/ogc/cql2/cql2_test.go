package cql2

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// show writes a tree as a Lisp would.
func show(n *Node) string {
	switch n.Kind {
	case Property:
		return n.Text
	case String:
		return "'" + n.Text + "'"
	case Number:
		return n.Text
	case Boolean:
		return fmt.Sprint(n.Bool)
	case Open:
		return ".."
	case Date, Timestamp:
		return "@" + n.Text
	case Geometry:
		if n.Shape.Type == "BBOX" {
			return fmt.Sprint("bbox", n.Shape.Box)
		}
		return fmt.Sprint(n.Shape.Type, n.Shape.Polygons)
	}
	name := n.Text
	if n.Kind == List {
		name = "list"
	} else if n.Kind == Interval {
		name = "interval"
	}
	parts := []string{name}
	for _, arg := range n.Args {
		parts = append(parts, show(arg))
	}
	return "(" + strings.Join(parts, " ") + ")"
}

func TestText(t *testing.T) {
	for _, tt := range [...]struct{ name, in, want string }{
		{"comparison", `mag >= 5.5`, `(>= mag 5.5)`},
		{"literal first", `5 < mag`, `(< 5 mag)`},
		{"negative", `depth <> -3e2`, `(<> depth -3e2)`},
		{"text with quotes", `name = 'L''Aquila' OR name='O\'Hare'`, `(or (= name 'L'Aquila') (= name 'O'Hare'))`},
		{"precedence", `a=1 or b=2 AND not c=3`, `(or (= a 1) (and (= b 2) (not (= c 3))))`},
		{"parentheses", `(a=1 OR b=2) AND c=3`, `(and (or (= a 1) (= b 2)) (= c 3))`},
		{"chain", `a=1 AND b=2 AND c=3`, `(and (= a 1) (= b 2) (= c 3))`},
		{"quoted name", `"wind speed" = 2 AND "and" = 1`, `(and (= wind speed 2) (= and 1))`},
		{"names with marks", `ville:département.nom = 'x'`, `(= ville:département.nom 'x')`},
		{"booleans", `open = TRUE AND NOT closed = false`, `(and (= open true) (not (= closed false)))`},
		{"true alone", `true`, `true`},
		{"null", `ele IS NULL OR ele is not null`, `(or (isnull ele) (not (isnull ele)))`},
		{"like", `name LIKE 'Par%' AND name NOT LIKE '_x'`, `(and (like name 'Par%') (not (like name '_x')))`},
		{"casei", `CASEI(name) LIKE casei('PAR%')`, `(like (casei name) (casei 'PAR%'))`},
		{"between", `mag BETWEEN 2 AND 3 AND a=1`, `(and (between mag 2 3) (= a 1))`},
		{"not between", `mag NOT BETWEEN -2 AND 3`, `(not (between mag -2 3))`},
		{"in", `kind IN ('a', 'b')`, `(in kind (list 'a' 'b'))`},
		{"not in", `n NOT IN (1)`, `(not (in n (list 1)))`},
		{"date", `time > DATE('2026-11-21')`, `(> time @2026-11-21)`},
		{"interval", `T_DURING(time, INTERVAL('2026-01-01', '..'))`, `(t_during time (interval @2026-01-01 ..))`},
		{"after", `T_AFTER(time, TIMESTAMP('2026-01-01T00:00:00Z'))`, `(t_after time @2026-01-01T00:00:00Z)`},
		{"bbox", `S_INTERSECTS(geom, BBOX(1,-2,3,4))`, `(s_intersects geom bbox[1 -2 3 4])`},
		{"bbox of six", `S_WITHIN(geom, BBOX(1,2,-9,3,4,9))`, `(s_within geom bbox[1 2 3 4])`},
		{"point", `s_intersects(geom, POINT(1.5 -2))`, `(s_intersects geom Point[[[[1.5 -2]]]])`},
		{"point with height", `s_intersects(geom, POINT Z (1 2 3))`, `(s_intersects geom Point[[[[1 2]]]])`},
		{"polygon with hole", `S_WITHIN(geom,POLYGON((0 0,9 0,9 9,0 0),(1 1,2 1,2 2,1 1)))`,
			`(s_within geom Polygon[[[[0 0] [9 0] [9 9] [0 0]] [[1 1] [2 1] [2 2] [1 1]]]])`},
		{"multipolygon", `S_WITHIN(geom,MULTIPOLYGON(((0 0,9 0,9 9,0 0)),((1 1,2 1,2 2,1 1))))`,
			`(s_within geom MultiPolygon[[[[0 0] [9 0] [9 9] [0 0]]] [[[1 1] [2 1] [2 2] [1 1]]]])`},
		{"multipoint", `S_EQUALS(geom,MULTIPOINT((0 0),1 1))`, `(s_equals geom MultiPoint[[[[0 0] [1 1]]]])`},
		{"not twice", `NOT NOT a = 1`, `(not (not (= a 1)))`},
		{"keyword of a geometry as a name", `point = 3`, `(= point 3)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := ParseText(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(n); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestTextErrors(t *testing.T) {
	for _, tt := range [...]struct {
		name, in string
		at       int
		reason   string
	}{
		{"nothing", ` `, 0, "empty"},
		{"no operator", `mag`, 0, "not a condition"},
		{"a value alone", `a = 1 AND 5`, 10, "not a condition"},
		{"no right side", `mag >`, 5, "the end is not expected"},
		{"one sign for two", `mag == 5`, 5, "= is not expected"},
		{"open quote", `name = 'x`, 7, "not closed"},
		{"open parenthesis", `(a=1`, 4, "the end is not expected here, but )"},
		{"something behind", `a=1 b=2`, 4, "b is not expected"},
		{"unknown function", `S_NEAR(geom, POINT(1 2))`, 0, "no function S_NEAR"},
		{"arity", `S_INTERSECTS(geom)`, 0, "takes 2 arguments"},
		{"between without and", `a BETWEEN 1, 2`, 11, "and"},
		{"not what", `a NOT 5`, 6, "LIKE, BETWEEN or IN"},
		{"no such date", `time > DATE('2026-02-30')`, 12, "not a date"},
		{"date of a number", `time > DATE(2026)`, 12, "single quotes"},
		{"south above north", `S_INTERSECTS(geom, BBOX(1,4,3,2))`, 19, "order"},
		{"three numbers", `S_INTERSECTS(geom, BBOX(1,4,3))`, 23, "four numbers"},
		{"open ring", `S_WITHIN(geom,POLYGON((0 0,9 0,9 9)))`, 14, "ring"},
		{"latitude", `S_WITHIN(geom,POINT(0 91))`, 14, "latitude"},
		{"collection", `S_WITHIN(geom,GEOMETRYCOLLECTION(POINT(0 91)))`, 32, "OR"},
		{"letter from elsewhere", "a = 1 ; drop", 6, "not expected"},
		{"number too large", `a = 1e999`, 4, "out of range"},
		{"null compared", `a = NULL`, 4, "null is not expected"},
		{"too deep", strings.Repeat("(", 100) + "a=1" + strings.Repeat(")", 100), 65, "nested deeper"},
		{"too deep by not", strings.Repeat("NOT ", 100) + "a=1", 260, "nested deeper"},
		{"too many", "a=1" + strings.Repeat(" OR a=1", 400), 0, "more than 1000 parts"},
		{"arithmetic", `a + 1 = 2`, 2, "+ is not expected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseText(tt.in)
			var at *Error
			if !errors.As(err, &at) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tt.reason)) {
				t.Errorf("%q does not say %q", err, tt.reason)
			}
			if tt.at > 0 && at.Where.Offset != tt.at {
				t.Errorf("%v: it is at %d", err, tt.at)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	for _, tt := range [...]struct{ name, in, want string }{
		{"comparison", `{"op":">=","args":[{"property":"mag"},5.50]}`, `(>= mag 5.50)`},
		{"large integer", `{"op":"=","args":[{"property":"n"},9007199254740993]}`, `(= n 9007199254740993)`},
		{"and", `{"op":"and","args":[{"op":"=","args":[{"property":"a"},"x"]},{"op":"not","args":[true]}]}`, `(and (= a 'x') (not true))`},
		{"null", `{"op":"isNull","args":[{"property":"a"}]}`, `(isnull a)`},
		{"like", `{"op":"like","args":[{"op":"casei","args":[{"property":"a"}]},"p%"]}`, `(like (casei a) 'p%')`},
		{"between", `{"op":"between","args":[{"property":"a"},1,2]}`, `(between a 1 2)`},
		{"in", `{"op":"in","args":[{"property":"a"},[1,"x"]]}`, `(in a (list 1 'x'))`},
		{"date", `{"op":"t_after","args":[{"property":"time"},{"date":"2026-01-01"}]}`, `(t_after time @2026-01-01)`},
		{"interval", `{"op":"t_during","args":[{"property":"time"},{"interval":["..","2026-01-01T00:00:00Z"]}]}`, `(t_during time (interval .. @2026-01-01T00:00:00Z))`},
		{"bbox", `{"op":"s_intersects","args":[{"property":"geom"},{"bbox":[1,2,3,4]}]}`, `(s_intersects geom bbox[1 2 3 4])`},
		{"point", `{"op":"s_intersects","args":[{"property":"geom"},{"type":"Point","coordinates":[1,2]}]}`, `(s_intersects geom Point[[[[1 2]]]])`},
		{"polygon with a bbox", `{"op":"s_within","args":[{"property":"geom"},{"bbox":[0,0,9,9],"type":"Polygon","coordinates":[[[0,0],[9,0],[9,9],[0,0]]]}]}`,
			`(s_within geom Polygon[[[[0 0] [9 0] [9 9] [0 0]]]])`},
		{"multilinestring", `{"op":"s_crosses","args":[{"property":"geom"},{"type":"MultiLineString","coordinates":[[[0,0],[9,0]],[[1,1],[2,2]]]}]}`,
			`(s_crosses geom MultiLineString[[[[0 0] [9 0]]] [[[1 1] [2 2]]]])`},
		{"true alone", `true`, `true`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := ParseJSON([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := show(n); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestJSONErrors(t *testing.T) {
	for _, tt := range [...]struct{ name, in, pointer, reason string }{
		{"not JSON", `{"op":`, "", "not JSON"},
		{"a name twice", `{"op":"and","op":"or"}`, "/op", "twice"},
		{"a value", `5`, "", "not a condition"},
		{"null", `null`, "", "isNull"},
		{"unknown operator", `{"op":"near","args":[]}`, "", "near"},
		{"no args", `{"op":"="}`, "/args", "array"},
		{"arity", `{"op":"=","args":[1]}`, "", "takes 2"},
		{"op is a number", `{"op":1}`, "/op", "text"},
		{"inside", `{"op":"and","args":[true,{"op":"=","args":[{"property":1},2]}]}`, "/args/1/args/0/property", "text"},
		{"no condition inside", `{"op":"and","args":[true,{"property":"a"}]}`, "/args/1", "not a condition"},
		{"an empty list", `{"op":"in","args":[{"property":"a"},[]]}`, "/args/1", "nothing to choose"},
		{"unknown object", `{"function":{}}`, "", "must have one of"},
		{"geometry of another depth", `{"op":"s_within","args":[{"property":"geom"},{"type":"Polygon","coordinates":[[0,0]]}]}`, "/args/1/coordinates", "array"},
		{"geometry unknown", `{"op":"s_within","args":[{"property":"geom"},{"type":"Circle","coordinates":[0,0]}]}`, "/args/1/type", "Circle"},
		{"three ends", `{"op":"t_after","args":[{"property":"time"},{"interval":["..","..",".."]}]}`, "/args/1", "two ends"},
		{"too deep", strings.Repeat(`{"op":"not","args":[`, 100) + "true" + strings.Repeat("]}", 100), "", "nested deeper"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseJSON([]byte(tt.in))
			var at *Error
			if !errors.As(err, &at) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("%q does not say %q", err, tt.reason)
			}
			if tt.pointer != "" && at.Where.Pointer != tt.pointer {
				t.Errorf("%v: it is at %s", err, tt.pointer)
			}
		})
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range [...]string{`a = 1 AND NOT (b LIKE 'x%' OR c IS NOT NULL)`, `S_INTERSECTS(geom, POLYGON((0 0,1 0,1 1,0 0)))`,
		`T_DURING(time, INTERVAL('..', '2026-01-01'))`, `a NOT IN (1, -2.5e3, 'x''y')`, `CASEI("a b") = casei('É')`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		n, err := ParseText(in)
		check(t, n, err, len(in))
	})
}

func FuzzJSON(f *testing.F) {
	for _, seed := range [...]string{`{"op":"and","args":[true,{"op":"in","args":[{"property":"a"},[1,"x"]]}]}`,
		`{"op":"s_within","args":[{"property":"geom"},{"type":"Polygon","coordinates":[[[0,0],[9,0],[9,9],[0,0]]]}]}`,
		`{"op":"t_during","args":[{"property":"time"},{"interval":["..","2026-01-01T00:00:00Z"]}]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		n, err := ParseJSON([]byte(in))
		check(t, n, err, len(in))
	})
}

// check says that what was refused was refused in place, and what was taken is
// a bounded condition.
func check(t *testing.T, n *Node, err error, size int) {
	var at *Error
	if err != nil {
		if !errors.As(err, &at) || at.Where.Offset < 0 || at.Where.Offset > size {
			t.Fatalf("an error without a place: %#v", err)
		}
		return
	}
	if !n.IsPredicate() {
		t.Fatalf("no condition: %s", show(n))
	}
	if nodes := count(n); nodes > maxNodes {
		t.Fatalf("%d nodes", nodes)
	}
}

func count(n *Node) int {
	nodes := 1
	for _, arg := range n.Args {
		nodes += count(arg)
	}
	return nodes
}
