package export

import (
	"bytes"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/query/plan"
)

const (
	// sampleRows are held back before the header is written, to see which
	// properties there are.
	sampleRows = 1_000
	// sampleBytes bounds what they hold.
	sampleBytes = 4 << 20
	// maxColumns bounds the properties that become columns.
	maxColumns = 200
)

// ownColumns are those that every table begins with.
var ownColumns = []string{"id", "longitude", "latitude", "altitude", "time", "received", "position", "revision"}

// rest is the column of what cells cannot tell, as JSON: properties that appear only
// after the header was written; null; text that looks like a number or another value.
// "ingest/format" reads such a table back, exactly as it was.
const rest = "other_properties"

// emptyObject is jsonb's.
const emptyObject = "\x01{}"

// byteOrderMark tells a spreadsheet that the text is UTF-8.
const byteOrderMark = "\uFEFF"

// A table writes CSV (RFC 4180). Each property that the first rows have becomes a
// column; those that none of them has stand in the last column as JSON, so that
// nothing is lost. Where the properties were chosen, the columns are those.
//
// For a spreadsheet, text that it would run as a formula has an apostrophe before it:
// who sends a point may be somebody else than who opens the table.
type table struct {
	spreadsheet bool
	columns     []string
	index       map[string]int // by name as JSON
	chosen      bool
	started     bool

	held  []byte // the rows of the sample
	ends  []int  // of each in held
	cells [][]byte
	line  plan.Row
}

func newTable(o Options) *table {
	t := &table{index: map[string]int{}, chosen: o.Properties != nil, spreadsheet: o.Spreadsheet}
	for _, name := range o.Properties {
		t.column(name)
	}
	return t
}

func (t *table) column(name string) {
	quoted := quote(name)
	if _, ok := t.index[quoted]; !ok && len(t.columns) < maxColumns {
		t.index[quoted] = len(t.columns)
		t.columns = append(t.columns, name)
	}
}

func (t *table) Begin(dst []byte) []byte {
	if t.chosen {
		return t.header(dst)
	}
	return dst
}

func (t *table) header(dst []byte) []byte {
	t.started = true
	if t.spreadsheet {
		dst = append(dst, byteOrderMark...)
	}
	for i, name := range ownColumns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, name...)
	}
	for _, name := range t.columns {
		dst = append(dst, ',')
		begin := len(dst)
		dst = t.cell(append(dst, unclash(name)...), begin)
	}
	if !t.chosen {
		dst = append(append(dst, ','), rest...)
	}
	t.cells = make([][]byte, len(t.columns))
	return append(dst, '\r', '\n')
}

// prefix is that of properties whose name is one of Cairn's own columns.
const prefix = "properties."

// unclash renames a property that has the name of a column of Cairn's: the user's
// is found behind a prefix.
func unclash(name string) string {
	if name == rest || slices.Contains(ownColumns, name) || strings.HasPrefix(name, prefix) {
		return prefix + name
	}
	return name
}

// cell ends a cell of text, which begins there: as a spreadsheet may have it, and in
// quotes where CSV wants them.
func (t *table) cell(dst []byte, begin int) []byte {
	if t.spreadsheet && len(dst) > begin && strings.IndexByte("=+-@\t\r", dst[begin]) >= 0 {
		dst = slices.Insert(dst, begin, '\'')
	}
	return quoteFrom(dst, begin)
}

// exactInCell reports whether the cell of a value says all of it: not of null, nor of text
// that is nothing, or that reads as another value.
func exactInCell(value []byte) bool {
	if string(value) == "null" || string(value) == `""` {
		return false
	}
	if len(value) < 2 || value[0] != '"' {
		return true
	}
	inner := value[1 : len(value)-1]
	if bytes.Contains(inner, []byte(`\r`)) { // readers of CSV make \n of \r\n
		return false
	}
	if strings.IndexByte("-0123456789{[tf", inner[0]) < 0 && inner[0] != '\\' {
		return true
	}
	return !jsontext.Value(text(nil, value)).IsValid()
}

func (t *table) Row(dst []byte, r plan.Row) ([]byte, error) {
	if t.started {
		return t.row(dst, r)
	}
	if err := eachProperty(r, func(p property) { t.column(string(text(nil, p.name))) }); err != nil {
		return dst, err
	}
	t.hold(r)
	if len(t.ends) >= sampleRows*len(r) || len(t.held) >= sampleBytes {
		return t.release(dst)
	}
	return dst, nil
}

// hold keeps a copy of a row, of which nothing is kept when the next comes.
func (t *table) hold(r plan.Row) {
	for _, column := range r {
		t.held = append(t.held, column...)
		end := len(t.held)
		if column == nil {
			end = -1
		}
		t.ends = append(t.ends, end)
	}
	t.line = make(plan.Row, len(r))
}

// release writes the header and the rows that were held.
func (t *table) release(dst []byte) (_ []byte, err error) {
	dst = t.header(dst)
	begin, width := 0, len(t.line)
	for i := 0; i < len(t.ends); i += width {
		for column, end := range t.ends[i : i+width] {
			if t.line[column] = nil; end >= 0 {
				t.line[column] = t.held[begin:end:end]
				begin = end
			}
		}
		if dst, err = t.row(dst, t.line); err != nil {
			return dst, err
		}
	}
	t.held, t.ends = nil, nil
	return dst, nil
}

func (t *table) End(dst []byte) ([]byte, error) {
	if t.started {
		return dst, nil
	}
	return t.release(dst)
}

func (t *table) row(dst []byte, r plan.Row) (_ []byte, err error) {
	if dst, err = t.own(dst, r); err != nil {
		return dst, err
	}
	clear(t.cells)
	var other []byte
	err = eachProperty(r, func(p property) {
		i, ok := t.index[string(p.name)]
		if ok {
			t.cells[i] = p.value
		}
		if !t.chosen && (!ok || !exactInCell(p.value)) {
			other = append(append(append(append(other, ','), p.name...), ':'), p.value...)
		}
	})
	for _, value := range t.cells {
		dst = append(dst, ',')
		if len(value) > 0 && value[0] != '"' && value[0] != '{' && value[0] != '[' {
			dst = text(dst, value) // nothing to quote in it
		} else if len(value) > 0 {
			begin := len(dst)
			if dst = text(dst, value); value[0] == '"' {
				dst = t.cell(dst, begin)
			} else {
				dst = quoteFrom(dst, begin)
			}
		}
	}
	if !t.chosen {
		dst = append(dst, ',')
		if other != nil {
			other[0] = '{'
			dst = appendCell(dst, append(other, '}'))
		} else if string(r[plan.ColProperties]) == emptyObject {
			dst = append(dst, "{}"...) // none at all, GeoJSON's null, is an empty cell
		}
	}
	return append(dst, '\r', '\n'), err
}

func (t *table) own(dst []byte, r plan.Row) (_ []byte, err error) {
	begin := len(dst)
	if dst, err = appendID(dst, r); err != nil {
		return dst, err
	}
	dst = append(t.cell(dst, begin), ',')
	p, err := placeOf(r)
	if err != nil {
		return dst, err
	}
	dst = append(appendFloat(dst, p.longitude), ',')
	dst = append(appendFloat(dst, p.latitude), ',')
	if p.high {
		dst = appendFloat(dst, p.altitude)
	}
	dst = append(dst, ',')
	if at, ok := r.Int64(plan.ColObserved); ok {
		dst = appendTime(dst, at)
	}
	dst = append(dst, ',')
	received, ok := r.Int64(plan.ColReceived)
	if !ok {
		return dst, plan.ErrRow
	}
	dst = append(appendTime(dst, received), ',')
	position, err := r.Position()
	if err != nil {
		return dst, err
	}
	revision, err := r.Revision()
	return appendInt(append(appendInt(dst, int64(position)), ','), int64(revision)), err
}

func appendCell(dst, cell []byte) []byte {
	begin := len(dst)
	return quoteFrom(append(dst, cell...), begin)
}

// quoteFrom puts what dst ends with into quotes where CSV wants them.
func quoteFrom(dst []byte, begin int) []byte {
	if !wantsQuotes(dst[begin:]) {
		return dst
	}
	cell := bytes.Clone(dst[begin:])
	dst = append(dst[:begin], '"')
	for _, c := range cell {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

func wantsQuotes(cell []byte) bool {
	for _, c := range cell {
		if c == '"' || c == ',' || c == '\r' || c == '\n' {
			return true
		}
	}
	return len(cell) > 0 && (cell[0] == ' ' || cell[len(cell)-1] == ' ')
}
