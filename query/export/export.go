// Package export writes points in the formats that other programs read: GeoJSON and
// its sequences, CSV, GeoParquet, GPX and KML. Each is written row by row (GeoParquet
// in groups of rows), so that a download of any length costs no more memory than that.
package export

import (
	"cairn/query/plan"
)

// A Format is one that points are written in.
type Format struct {
	Name      string // what a path ends with, and the file's extension
	Media     string
	Title     string
	newWriter func(Options) Writer
}

// Options are what a download may choose.
type Options struct {
	// Feature appends a row as GeoJSON.
	Feature func(dst []byte, r plan.Row) ([]byte, error)
	// Properties are the users' properties that are wanted; nil: all.
	Properties []string
	// Spreadsheet: a table is for one, which must be told that text is UTF-8 and must
	// run none of it.
	Spreadsheet bool
}

// A Writer appends a document piece by piece.
type Writer interface {
	Begin(dst []byte) []byte
	Row(dst []byte, r plan.Row) ([]byte, error)
	End(dst []byte) ([]byte, error)
}

// New makes a writer of the format.
func (f *Format) New(o Options) Writer { return f.newWriter(o) }

// Formats are all of them.
var Formats = []*Format{
	{"geojson", "application/geo+json", "GeoJSON", func(o Options) Writer {
		return &features{options: o, begin: `{"type":"FeatureCollection","features":[`, between: ",\n", end: "]}\n"}
	}},
	{"geojsonseq", "application/geo+json-seq", "GeoJSON text sequence", func(o Options) Writer {
		return &features{options: o, before: "\x1e", after: "\n"} // RFC 8142
	}},
	{"ndjson", "application/x-ndjson", "GeoJSON Features, one a line", func(o Options) Writer {
		return &features{options: o, after: "\n"}
	}},
	{"csv", "text/csv; charset=utf-8", "CSV", func(o Options) Writer { return newTable(o) }},
	{"parquet", "application/vnd.apache.parquet", "GeoParquet", newGeoParquet},
	{"gpx", "application/gpx+xml", "GPX waypoints", func(o Options) Writer { return &gpx{wanted: o.Properties} }},
	{"kml", "application/vnd.google-earth.kml+xml", "KML", func(o Options) Writer { return &kml{wanted: o.Properties} }},
}

// Find is the format of this name, or nil.
func Find(name string) *Format {
	for _, f := range Formats {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// features writes GeoJSON in its three framings.
type features struct {
	options                            Options
	begin, before, between, after, end string
	any                                bool
}

func (w *features) Begin(dst []byte) []byte { return append(dst, w.begin...) }

func (w *features) End(dst []byte) ([]byte, error) { return append(dst, w.end...), nil }

func (w *features) Row(dst []byte, r plan.Row) ([]byte, error) {
	if w.any {
		dst = append(dst, w.between...)
	}
	w.any = true
	dst, err := w.options.Feature(append(dst, w.before...), r)
	return append(dst, w.after...), err
}
