package track

import (
	"encoding/csv"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"cairn/event"
	"cairn/query/export"
)

// A Format is one that tracks are written in.
type Format struct {
	Name  string // the parameter f, and the file's extension
	Media string
	write func(w *writer, source Source) error
}

// Formats are all of them; the first is the one where nobody asks. MF-JSON has no media
// type of its own that is registered: this is what its name suggests.
var Formats = []*Format{
	{"geojson", "application/geo+json", (*writer).geojson},
	{"mfjson", "application/mf+json", (*writer).mfjson},
	{"gpx", "application/gpx+xml", (*writer).gpx},
	{"csv", "text/csv; charset=utf-8", (*writer).csv},
}

// pieceBytes is how much is encoded before it is handed on.
const pieceBytes = 32 << 10

// Write writes the track. What it writes first comes as soon as the first fixes are
// read.
func (f *Format) Write(to io.Writer, o Options, source Source) error {
	w := &writer{to: to, o: o, b: make([]byte, 0, pieceBytes+pieceBytes/4)}
	if err := f.write(w, source); err != nil {
		return err
	}
	return w.flush(1)
}

type writer struct {
	to io.Writer
	o  Options
	b  []byte
}

func (w *writer) flush(least int) error {
	if len(w.b) < least {
		return nil
	}
	_, err := w.to.Write(w.b)
	w.b = w.b[:0]
	return err
}

func (w *writer) text(s string) { w.b = append(w.b, s...) }

func (w *writer) quoted(s string) {
	w.b, _ = jsontext.AppendQuote(w.b, s) // what is wrong in it is replaced
}

func (w *writer) place(v *vertex) {
	w.b = append(event.AppendFloat(append(w.b, '['), v.X), ',')
	w.b = event.AppendFloat(w.b, v.Y)
	if !math.IsNaN(v.Altitude) {
		w.b = event.AppendFloat(append(w.b, ','), v.Altitude)
	}
	w.b = append(w.b, ']')
}

func (w *writer) time(v *vertex) { w.b = append(appendTime(append(w.b, '"'), v.Time), '"') }

// list writes a part as a JSON array, and reports whether there is another part.
func (w *writer) list(v *vertices, item func(*vertex)) (more bool, err error) {
	w.text("[")
	first := true
	more, err = v.part(func(v *vertex) error {
		if !first {
			w.text(",")
		}
		first = false
		item(v)
		return w.flush(pieceBytes)
	})
	w.text("]")
	return more, err
}

// lists writes all parts as one array, or as an array of arrays where gaps are honoured.
func (w *writer) lists(v *vertices, item func(*vertex)) error {
	if w.o.Gap == 0 {
		_, err := w.list(v, item)
		return err
	}
	w.text("[")
	for {
		more, err := w.list(v, item)
		if err != nil || !more {
			w.text("]")
			return err
		}
		w.text(",")
	}
}

// geojson writes a Feature: a LineString, or a MultiLineString where gaps are honoured,
// with the times in the property coordTimes, in arrays of the same form.
func (w *writer) geojson(source Source) error {
	places, err := w.o.read(source)
	if err != nil {
		return err
	}
	first, err := places.peek()
	if err != nil {
		return err
	}
	w.text(`{"type":"Feature","geometry":`)
	switch {
	case first == nil:
		w.text(`null`)
	default:
		kind := "LineString"
		if w.o.Gap > 0 {
			kind = "MultiLineString"
		}
		w.text(`{"type":"` + kind + `","coordinates":`)
		if err := w.lists(places, w.place); err != nil {
			return err
		}
		w.text(`}`)
	}
	w.text(`,"properties":{"name":`)
	w.quoted(w.o.Name)
	w.text(`,"coordTimes":`)
	if first == nil {
		w.text(`[]}}`)
		return nil
	}
	times, err := w.o.read(source)
	if err != nil {
		return err
	}
	err = w.lists(times, w.time)
	w.text(`}}`)
	return err
}

// mfjson writes a Feature of OGC 19-045r3 with a MovingPoint, or a collection of them
// where gaps are honoured. Instants rise there: of fixes of one time the first is told.
func (w *writer) mfjson(source Source) error {
	places, err := w.o.read(rising(source))
	if err != nil {
		return err
	}
	times, err := w.o.read(rising(source))
	if err != nil {
		return err
	}
	places.short, times.short = true, true
	first, err := places.peek()
	if err != nil {
		return err
	}
	w.text(`{"type":"Feature","crs":{"type":"Name","properties":{"name":"urn:ogc:def:crs:OGC:1.3:CRS84"}},"trs":{"type":"Name","properties":{"name":"urn:ogc:data:time:iso8601"}},"temporalGeometry":`)
	switch {
	case w.o.Gap > 0:
		w.text(`{"type":"MovingGeometryCollection","prisms":[`)
		for more := first != nil; more && err == nil; {
			if more, err = w.movingPoint(places, times); more {
				w.text(`,`)
			}
		}
		w.text(`]}`)
	case first == nil:
		w.text(`{"type":"MovingPoint","datetimes":[],"coordinates":[],"interpolation":"Linear"}`)
	default:
		_, err = w.movingPoint(places, times)
	}
	w.text(`,"properties":{"name":`)
	w.quoted(w.o.Name)
	w.text(`}}`)
	return err
}

func (w *writer) movingPoint(places, times *vertices) (more bool, err error) {
	w.text(`{"type":"MovingPoint","datetimes":`)
	if _, err = w.list(times, w.time); err != nil {
		return false, err
	}
	w.text(`,"coordinates":`)
	more, err = w.list(places, w.place)
	w.text(`,"interpolation":"Linear"}`)
	return more, err
}

// gpx writes a track of GPX 1.1, a segment a part.
func (w *writer) gpx(source Source) error {
	v, err := w.o.read(source)
	if err != nil {
		return err
	}
	w.text(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<gpx version="1.1" creator="Cairn" xmlns="http://www.topografix.com/GPX/1/1">` + "\n<trk><name>")
	w.b = export.AppendXML(w.b, []byte(w.o.Name))
	w.text("</name>\n")
	open := false
	for {
		f, err := v.next()
		if err != nil {
			return err
		}
		if open && (f == nil || f.begins) {
			w.text("</trkseg>\n")
		}
		if f == nil {
			break
		}
		if f.begins {
			w.text("<trkseg>\n")
			open = true
		}
		w.b = event.AppendFloat(append(w.b, `<trkpt lat="`...), f.Y)
		w.b = append(event.AppendFloat(append(w.b, `" lon="`...), f.X), `">`...)
		if !math.IsNaN(f.Altitude) {
			w.b = append(event.AppendFloat(append(w.b, "<ele>"...), f.Altitude), "</ele>"...)
		}
		w.b = append(appendTime(append(w.b, "<time>"...), f.Time), "</time></trkpt>\n"...)
		if err := w.flush(pieceBytes); err != nil {
			return err
		}
	}
	w.text("</trk></gpx>\n")
	return nil
}

// csv writes a row a fix. The column part counts the parts, from 1 on.
func (w *writer) csv(source Source) error {
	v, err := w.o.read(source)
	if err != nil {
		return err
	}
	rows := csv.NewWriter(appender{w})
	_ = rows.Write([]string{"time", "longitude", "latitude", "altitude", "part", "id", "position"})
	part := 0
	for {
		f, err := v.next()
		if err != nil || f == nil {
			rows.Flush()
			return err
		}
		if f.begins {
			part++
		}
		id, altitude := f.ExternalID, ""
		if id == "" {
			id = uuid.UUID(f.ID).String()
		}
		if !math.IsNaN(f.Altitude) {
			altitude = string(event.AppendFloat(nil, f.Altitude))
		}
		_ = rows.Write([]string{string(appendTime(nil, f.Time)), string(event.AppendFloat(nil, f.X)), string(event.AppendFloat(nil, f.Y)), altitude,
			strconv.Itoa(part), id, strconv.FormatInt(int64(f.Position), 10)})
		if len(w.b) >= pieceBytes {
			rows.Flush()
			if err := w.flush(pieceBytes); err != nil {
				return err
			}
		}
	}
}

// An appender is what the writer of CSV writes to, which buffers 4 KiB on its own.
type appender struct{ w *writer }

func (a appender) Write(p []byte) (int, error) {
	a.w.b = append(a.w.b, p...)
	return len(p), nil
}
