package format

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

	"cairn/event"
)

var (
	errNotGeometry = errors.New("it is no point in WKT, EWKB or GeoJSON")
	errOrder       = errors.New("which of the numbers is the longitude is not said")
)

// setPosition takes two to three numbers, longitude first, into p.
func setPosition(p *event.Point, numbers []float64) error {
	for i, f := range numbers {
		if err := event.CheckCoordinate(i, f); err != nil {
			return err
		}
	}
	p.Position[0], p.Position[1] = numbers[0], numbers[1]
	if len(numbers) > 2 {
		p.Altitude = numbers[2]
	}
	return nil
}

// cellGeometry reads a cell that holds a whole position: WKT, EWKB in
// hexadecimal or a GeoJSON geometry. From a geopoint column (of ODK: "latitude
// longitude altitude accuracy"), or one that was named, it reads bare numbers too,
// and "latitude, longitude" from one that was named: elsewhere they may stand in
// either order.
func cellGeometry(cell string, geopoint, named bool, d *event.Decoder, p *event.Point) error {
	for _, prefix := range []string{`\x`, "0x"} { // of bytes in hexadecimal, as databases show them
		if after, ok := strings.CutPrefix(cell, prefix); ok && len(after) >= 42 {
			cell = after
		}
	}
	switch {
	case cell[0] == '{':
		return d.Geometry([]byte(cell), p)
	case (cell[0] == '0') && len(cell) >= 42 && !strings.ContainsAny(cell, " .,"):
		return ewkb(cell, p)
	case cell[0] >= 'A' && cell[0] <= 'Z' || cell[0] >= 'a' && cell[0] <= 'z':
		return wkt(cell, p)
	}
	if cell[0] == '[' {
		return errors.New("in brackets most programs have the longitude first, but here the latitude would be: make two columns of it")
	}
	fields := strings.Fields(strings.ReplaceAll(strings.Trim(cell, "()"), ",", " "))
	if strings.Contains(cell, ",") && (!named || len(fields) != 2) || len(fields) < 2 || len(fields) > 4 {
		return errNotGeometry
	}
	numbers := make([]float64, len(fields))
	for i, field := range fields {
		f, err := number(field)
		if err != nil {
			return errNotGeometry
		}
		numbers[i] = f
	}
	if !geopoint && !named {
		return errOrder
	}
	numbers[0], numbers[1] = numbers[1], numbers[0]
	return setPosition(p, numbers[:min(len(numbers), 3)])
}

// wkt reads POINT(1 2), POINT Z (1 2 3) and, of EWKT, SRID=4326;POINT(1 2).
func wkt(text string, p *event.Point) error {
	upper := strings.ToUpper(text)
	if after, ok := strings.CutPrefix(upper, "SRID="); ok {
		srid, rest, _ := strings.Cut(after, ";")
		if srid != "4326" {
			return errSRID(srid)
		}
		upper = strings.TrimSpace(rest)
	}
	kind := strings.TrimRight(upper[:max(strings.IndexByte(upper, '('), 0)], " ")
	upper = strings.TrimSpace(upper[max(strings.IndexByte(upper, '('), 0):])
	base, dimensions, _ := strings.Cut(kind, " ")
	if dimensions == "" && strings.HasPrefix(base, "POINT") {
		base, dimensions = "POINT", base[len("POINT"):]
	}
	if base != "POINT" {
		word, _, _ := strings.Cut(text, "(")
		return fmt.Errorf("it is no POINT: %s", Quote(word))
	}
	inner, ok := strings.CutPrefix(upper, "(")
	inner, closed := strings.CutSuffix(inner, ")")
	fields := strings.Fields(inner)
	want := map[string]int{"": len(fields), "Z": 3, "M": 3, "ZM": 4}[strings.TrimSpace(dimensions)]
	if !ok || !closed || len(fields) != want || want < 2 || want > 4 {
		return errNotGeometry
	}
	var numbers []float64
	for _, field := range fields {
		f, err := number(field)
		if err != nil {
			return err
		}
		numbers = append(numbers, f)
	}
	if strings.HasSuffix(dimensions, "M") { // a measure is no altitude
		return errors.New("it has a measure (M), which a point has no place for")
	}
	return setPosition(p, numbers[:min(len(numbers), 3)])
}

func errSRID(srid string) error {
	return fmt.Errorf("its reference system is %s, but positions must be in WGS 84 degrees (4326)", Quote(srid))
}

// The parts of a type in PostGIS' EWKB, and in ISO WKB.
const (
	ewkbZ, ewkbM, ewkbSRID = 0x80000000, 0x40000000, 0x20000000
	wkbPoint, isoZ         = 1, 1000
)

func ewkb(text string, p *event.Point) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) < 5 || b[0] > 1 {
		return errNotGeometry
	}
	var order binary.ByteOrder = binary.BigEndian
	if b[0] == 1 {
		order = binary.LittleEndian
	}
	kind := order.Uint32(b[1:])
	b = b[5:]
	if kind&ewkbSRID != 0 {
		if len(b) < 4 {
			return errNotGeometry
		}
		if srid := order.Uint32(b); srid != 4326 {
			return errSRID(fmt.Sprint(srid))
		}
		b = b[4:]
	}
	if kind&ewkbM != 0 || kind&0xffff >= 2*isoZ {
		return errors.New("it has a measure (M), which a point has no place for")
	}
	n := 2
	if kind&ewkbZ != 0 || kind&0xffff >= isoZ {
		n = 3
	}
	if kind&0xffff%isoZ != wkbPoint {
		return errors.New("it is no point")
	}
	if len(b) != 8*n {
		return errNotGeometry
	}
	var numbers [3]float64
	for i := range n {
		numbers[i] = math.Float64frombits(order.Uint64(b[8*i:]))
	}
	return setPosition(p, numbers[:n])
}
