package export

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"cairn/event"
	"cairn/query/filter"
	"cairn/query/plan"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

const (
	// groupRows and groupBytes bound a row group, which is in memory until it is
	// whole: some megabytes, of which readers pass over those that they do not need.
	groupRows  = 50_000
	groupBytes = 16 << 20
	// batchRows are handed to the library at once, which takes them column by column.
	batchRows = 256
)

// A parquetRow is a row as Parquet has it. Times are microseconds since 1970, UTC.
type parquetRow struct {
	ID         string      `parquet:"id"`
	Name       *string     `parquet:"name"`
	Time       *int64      `parquet:"time,timestamp(microsecond:utc)"`
	Received   int64       `parquet:"received,timestamp(microsecond:utc)"`
	Altitude   *float64    `parquet:"altitude"`
	Properties *string     `parquet:"properties"`
	Position   int64       `parquet:"position"`
	Revision   int64       `parquet:"revision"`
	Geometry   []byte      `parquet:"geometry"`
	BBox       parquetBBox `parquet:"bbox"`
}

type parquetBBox struct {
	XMin float64 `parquet:"xmin"`
	YMin float64 `parquet:"ymin"`
	XMax float64 `parquet:"xmax"`
	YMax float64 `parquet:"ymax"`
}

// A geoParquet writes GeoParquet 1.1: points as WKB, with a column of boxes by which
// readers skip. The users' properties are one column of JSON, for a file's columns
// must be known before its first row.
type geoParquet struct {
	wanted []string
	out    appended
	file   *parquet.GenericWriter[parquetRow]
	rows   []parquetRow // of the batch
	held   int          // rows of the group
	bytes  int

	flat, high             bool // points without and with an altitude were seen
	west, south, east, top float64
}

// appended is what was written and not handed on.
type appended struct{ b []byte }

func (a *appended) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

func newGeoParquet(o Options) Writer {
	return &geoParquet{wanted: o.Properties, west: math.Inf(1), south: math.Inf(1), east: math.Inf(-1), top: math.Inf(-1)}
}

func (w *geoParquet) Begin(dst []byte) []byte {
	w.file = parquet.NewGenericWriter[parquetRow](&w.out, parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}), parquet.CreatedBy("Cairn", "1", "0"))
	w.rows = make([]parquetRow, 0, batchRows)
	return w.take(dst)
}

// take hands on what was written.
func (w *geoParquet) take(dst []byte) []byte {
	dst = append(dst, w.out.b...)
	w.out.b = w.out.b[:0]
	return dst
}

func (w *geoParquet) Row(dst []byte, r plan.Row) ([]byte, error) {
	w.rows = append(w.rows, parquetRow{})
	row := &w.rows[len(w.rows)-1]
	if err := w.fill(row, r); err != nil {
		return dst, err
	}
	w.held++
	w.bytes += len(row.ID) + len(r[plan.ColProperties]) + 100
	full := w.held == groupRows || w.bytes >= groupBytes
	if len(w.rows) < batchRows && !full {
		return dst, nil
	}
	if err := w.write(); err != nil || !full {
		return dst, err
	}
	w.held, w.bytes = 0, 0
	if err := w.file.Flush(); err != nil {
		return dst, fmt.Errorf("write a row group: %w", err)
	}
	return w.take(dst), nil
}

// write hands the batch to the library.
func (w *geoParquet) write() error {
	if _, err := w.file.Write(w.rows); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	w.rows = w.rows[:0]
	return nil
}

func (w *geoParquet) fill(out *parquetRow, r plan.Row) error {
	id, err := appendID(nil, r)
	if err != nil {
		return err
	}
	p, err := placeOf(r)
	if err != nil {
		return err
	}
	name, err := nameOf(r)
	if err != nil {
		return err
	}
	received, ok := r.Int64(plan.ColReceived)
	position, err := r.Position()
	var revision event.Position
	if err == nil {
		revision, err = r.Revision()
	}
	if err != nil || !ok {
		return plan.ErrRow
	}
	*out = parquetRow{ID: string(id), Received: received + filter.PostgresEpoch, Position: int64(position), Revision: int64(revision),
		Geometry: wkb(p), BBox: parquetBBox{p.longitude, p.latitude, p.longitude, p.latitude}}
	if name != nil {
		text := string(name)
		out.Name = &text
	}
	if at, ok := r.Int64(plan.ColObserved); ok {
		at += filter.PostgresEpoch
		out.Time = &at
	}
	if p.high {
		out.Altitude = &p.altitude
	}
	w.flat, w.high = w.flat || !p.high, w.high || p.high
	w.west, w.south = min(w.west, p.longitude), min(w.south, p.latitude)
	w.east, w.top = max(w.east, p.longitude), max(w.top, p.latitude)
	out.Properties, err = w.properties(r)
	return err
}

// properties are those that are wanted, as JSON; nil for GeoJSON's null.
func (w *geoParquet) properties(r plan.Row) (*string, error) {
	raw := r[plan.ColProperties]
	if raw == nil {
		return nil, nil
	}
	if w.wanted == nil && len(raw) > 1 {
		text := string(raw[1:])
		return &text, nil
	}
	b := []byte{'{'}
	err := eachProperty(r, func(p property) {
		if named(w.wanted, text(nil, p.name)) {
			if len(b) > 1 {
				b = append(b, ", "...)
			}
			b = append(append(append(b, p.name...), ": "...), p.value...)
		}
	})
	text := string(append(b, '}'))
	return &text, err
}

// wkb is a point as ISO well-known binary.
func wkb(p place) []byte {
	const point, pointZ = 1, 1001
	kind, size := uint32(point), 21
	if p.high {
		kind, size = pointZ, 29
	}
	b := append(make([]byte, 0, size), 1) // little endian
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(p.longitude))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(p.latitude))
	if p.high {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(p.altitude))
	}
	return b
}

// geo is the file's metadata of that name (GeoParquet 1.1.0). Without a reference
// system it is OGC:CRS84.
func (w *geoParquet) geo() (string, error) {
	types := []string{}
	if w.flat {
		types = append(types, "Point")
	}
	if w.high {
		types = append(types, "Point Z")
	}
	corner := func(name string) []string { return []string{"bbox", name} }
	column := map[string]any{"encoding": "WKB", "geometry_types": types, "covering": map[string]any{"bbox": map[string]any{
		"xmin": corner("xmin"), "ymin": corner("ymin"), "xmax": corner("xmax"), "ymax": corner("ymax")}}}
	if w.flat || w.high {
		column["bbox"] = []float64{w.west, w.south, w.east, w.top}
	}
	text, err := json.Marshal(map[string]any{"version": "1.1.0", "primary_column": "geometry", "columns": map[string]any{"geometry": column}})
	return string(text), err
}

func (w *geoParquet) End(dst []byte) ([]byte, error) {
	geo, err := w.geo()
	if err == nil {
		err = w.write()
	}
	if err != nil {
		return dst, err
	}
	w.file.SetKeyValueMetadata("geo", geo)
	if err := w.file.Close(); err != nil {
		return dst, fmt.Errorf("write the file's end: %w", err)
	}
	return w.take(dst), nil
}
