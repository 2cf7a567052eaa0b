package cql2

import "fmt"

// wkt reads what follows a geometry's name in Well-Known Text.
type wkt struct {
	p        *parser
	vertices int
}

func (w *wkt) shape(kind string) (*Shape, error) {
	s := &Shape{Type: kind}
	switch kind {
	case "BBOX":
		return s, w.box(s)
	case "GeometryCollection":
		return nil, &Error{Where{Offset: w.p.tok.offset}, errCollection.Error()}
	}
	if w.p.tok.is("z") { // heights are read and not used
		if err := w.p.advance(); err != nil {
			return nil, err
		}
	}
	var err error
	switch kind {
	case "Point", "LineString":
		var ring [][2]float64
		if ring, err = w.ring(kind == "Point"); err == nil {
			s.Polygons = [][][][2]float64{{ring}}
		}
	case "MultiPoint":
		var ring [][2]float64
		if ring, err = w.points(); err == nil {
			s.Polygons = [][][][2]float64{{ring}}
		}
	case "Polygon":
		var polygon [][][2]float64
		if polygon, err = w.polygon(); err == nil {
			s.Polygons = [][][][2]float64{polygon}
		}
	case "MultiLineString":
		var lines [][][2]float64
		lines, err = w.polygon()
		for _, line := range lines {
			s.Polygons = append(s.Polygons, [][][2]float64{line})
		}
	case "MultiPolygon":
		err = w.list(func() error {
			polygon, err := w.polygon()
			s.Polygons = append(s.Polygons, polygon)
			return err
		})
	}
	return s, err
}

// list reads ( one , one … ).
func (w *wkt) list(one func() error) error {
	if err := w.p.expect("("); err != nil {
		return err
	}
	for {
		if err := one(); err != nil {
			return err
		}
		more, err := w.p.accept(",")
		if err != nil {
			return err
		}
		if !more {
			return w.p.expect(")")
		}
	}
}

func (w *wkt) polygon() (rings [][][2]float64, err error) {
	err = w.list(func() error {
		ring, err := w.ring(false)
		rings = append(rings, ring)
		return err
	})
	return rings, err
}

func (w *wkt) ring(single bool) (ring [][2]float64, err error) {
	at := w.p.tok.offset
	err = w.list(func() error {
		c, err := w.position()
		ring = append(ring, c)
		return err
	})
	if err == nil && single && len(ring) != 1 {
		err = &Error{Where{Offset: at}, "a point has one position"}
	}
	return ring, err
}

// points reads the positions of a MultiPoint, each in parentheses or not.
func (w *wkt) points() (ring [][2]float64, err error) {
	err = w.list(func() error {
		inside, err := w.p.accept("(")
		if err != nil {
			return err
		}
		c, err := w.position()
		ring = append(ring, c)
		if err == nil && inside {
			err = w.p.expect(")")
		}
		return err
	})
	return ring, err
}

// position reads two numbers, and a height that is not used.
func (w *wkt) position() (c [2]float64, err error) {
	if w.vertices++; w.vertices > maxVertices {
		return c, &Error{Where{Offset: w.p.tok.offset}, fmt.Sprintf("the geometry has more than %d vertices", maxVertices)}
	}
	for i := range c {
		if c[i], err = w.coordinate(); err != nil {
			return c, err
		}
	}
	if w.p.tok.kind == tokenNumber || w.p.tok.is("-") {
		_, err = w.coordinate()
	}
	return c, err
}

func (w *wkt) coordinate() (float64, error) {
	sign := 1.0
	minus, err := w.p.accept("-")
	if err != nil {
		return 0, err
	}
	if minus {
		sign = -1
	}
	if w.p.tok.kind != tokenNumber {
		return 0, w.p.unexpected("a number")
	}
	f, ok := finite(w.p.tok.text)
	if !ok {
		return 0, &Error{Where{Offset: w.p.tok.offset}, "the number is out of range"}
	}
	return sign * f, w.p.advance()
}

// box reads (west, south, east, north), or six numbers with heights.
func (w *wkt) box(s *Shape) error {
	at := w.p.tok.offset
	var numbers []float64
	err := w.list(func() error {
		f, err := w.coordinate()
		if numbers = append(numbers, f); err == nil && len(numbers) > 6 {
			err = w.p.unexpected(")")
		}
		return err
	})
	if err != nil {
		return err
	}
	var ok bool
	if s.Box, ok = boxOf(numbers); !ok {
		return &Error{Where{Offset: at}, "a box has four numbers (west, south, east, north), or six with heights"}
	}
	return nil
}

// boxOf takes the heights out of six numbers.
func boxOf(n []float64) (b [4]float64, ok bool) {
	switch len(n) {
	case 4:
		return [4]float64(n), true
	case 6:
		return [4]float64{n[0], n[1], n[3], n[4]}, true
	}
	return b, false
}
