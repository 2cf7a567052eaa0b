package format

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/internal/web"
)

// maxColumns bounds a table's width; Postgres tables end at 1,600.
const maxColumns = 2000

// csvParameters are the query parameters of text/csv.
var csvParameters = []string{"longitude", "latitude", "altitude", "name", "time", "id", "delimiter", "strings"}

// A role is what a column is for.
type role int

const (
	longitude role = iota
	latitude
	altitude
	nameRole
	timeRole
	idRole
	roles
)

// usualNames are the names, in lower case, by which a column is found that the
// query did not name; the first that is there counts. A column called id is a
// property unless it is named, and so is one in feet.
var usualNames = [roles][]string{
	longitude: {"longitude", "lon", "lng", "long", "longitude_deg", "decimallongitude", "decimal_longitude", "x"},
	latitude:  {"latitude", "lat", "latitude_deg", "decimallatitude", "decimal_latitude", "y"},
	altitude:  {"altitude", "alt", "altitude_m", "elevation", "elevation_m", "ele", "z"},
	timeRole:  {"time", "timestamp", "datetime", "date_time", "observed_at", "observed", "eventdate"},
}

// Options are what the query says of a table.
type Options struct {
	columns   [roles]string // "" where the query names none
	delimiter rune
	strings   []string // columns whose cells stay strings
}

func ParseOptions(query string) (Options, error) {
	o := Options{delimiter: ','}
	values, err := parameters(query, csvParameters)
	if err != nil {
		return o, err
	}
	for r := range roles {
		value, given := values[csvParameters[r]]
		if given && value == "" {
			return o, web.BadRequest(fmt.Sprintf("the query parameter %q must name a column", csvParameters[r]))
		}
		o.columns[r] = value
	}
	if d, given := values["delimiter"]; given {
		if d == "tab" {
			d = "\t"
		}
		first, size := utf8.DecodeRuneInString(d)
		if size == 0 || size != len(d) || strings.ContainsRune("\"\r\n\x00", first) || first == utf8.RuneError {
			return o, web.BadRequest("the delimiter must be one character, such as ; or |, or the word tab")
		}
		o.delimiter = first
	}
	if s := values["strings"]; s != "" {
		o.strings = strings.Split(s, ",")
	}
	return o, nil
}

// A column is one of a table's.
type column struct {
	key      []byte // the property's name as JSON, with its colon; nil where it is no property
	isString bool   // its cells are never numbers
}

// A layout is what a table's header and the query say together.
type layout struct {
	columns []column
	index   [roles]int // −1 where there is none
	named   [roles]bool
}

func newLayout(header []string, o Options) (*layout, error) {
	if len(header) > maxColumns {
		return nil, web.BadRequest(fmt.Sprintf("the header has %d columns; at most %d are taken", len(header), maxColumns))
	}
	l := &layout{columns: make([]column, len(header))}
	seen := make(map[string]bool, len(header))
	for i, h := range header {
		key, err := jsontext.AppendQuote(nil, h)
		if err != nil || strings.ContainsRune(h, 0) {
			return nil, web.BadRequest(fmt.Sprintf("the name of column %d is not UTF-8 text", i+1))
		}
		if seen[h] {
			return nil, web.BadRequest(fmt.Sprintf("the header has the column %s twice", Quote(h)))
		}
		seen[h] = true
		l.columns[i].key = append(key, ':')
	}
	for r := range roles {
		if err := l.find(r, header, o.columns[r]); err != nil {
			return nil, err
		}
	}
	if err := l.check(header, o); err != nil {
		return nil, err
	}
	for _, name := range o.strings {
		i, err := named(header, name, "strings")
		if err != nil {
			return nil, err
		}
		l.columns[i].isString = true
	}
	for _, r := range []role{longitude, latitude, altitude, idRole} {
		if i := l.index[r]; i >= 0 {
			l.columns[i].key = nil
		}
	}
	return l, nil
}

// find looks for the column of a role: as the query names it, or by the usual
// names.
func (l *layout) find(r role, header []string, wanted string) (err error) {
	l.index[r] = -1
	if wanted != "" {
		l.named[r] = true
		l.index[r], err = named(header, wanted, csvParameters[r])
		return err
	}
	for _, usual := range usualNames[r] {
		for i, h := range header {
			if !strings.EqualFold(strings.TrimSpace(h), usual) {
				continue
			}
			if l.index[r] >= 0 {
				return web.BadRequest(fmt.Sprintf("the columns %s and %s could both be the %s: name one by the query parameter %s=",
					Quote(header[l.index[r]]), Quote(h), csvParameters[r], csvParameters[r]))
			}
			l.index[r] = i
		}
		if l.index[r] >= 0 {
			break
		}
	}
	return nil
}

// named is the index of the column that a query parameter names.
func named(header []string, wanted, parameter string) (int, error) {
	for _, equal := range []func(a, b string) bool{func(a, b string) bool { return a == b }, strings.EqualFold} {
		for i, h := range header {
			if equal(h, wanted) {
				return i, nil
			}
		}
	}
	return 0, web.BadRequest(fmt.Sprintf("there is no column %s, which the query parameter %s names; the columns are %s",
		Quote(wanted), parameter, listOf(header)))
}

func (l *layout) check(header []string, o Options) error {
	for _, r := range []role{longitude, latitude} {
		if l.index[r] < 0 {
			return web.BadRequest(fmt.Sprintf("no column is the %s: name it by the query parameter %s=; the columns are %s (and the delimiter is %s, which delimiter= changes)",
				csvParameters[r], csvParameters[r], listOf(header), strconv.QuoteRune(o.delimiter)))
		}
	}
	for r := range roles {
		for other := range r {
			if l.index[r] >= 0 && l.index[r] == l.index[other] && other <= altitude && (r <= altitude || r == idRole) {
				return web.BadRequest(fmt.Sprintf("the column %s cannot be both the %s and the %s",
					Quote(header[l.index[r]]), csvParameters[other], csvParameters[r]))
			}
		}
	}
	if i := l.index[nameRole]; i >= 0 && header[i] != "name" && slices.Contains(header, "name") {
		return web.BadRequest(fmt.Sprintf("the column %s cannot become the name, because another is called \"name\" and would be lost", Quote(header[i])))
	}
	return nil
}

func listOf(header []string) string {
	quoted := make([]string, 0, len(header))
	for _, h := range header {
		quoted = append(quoted, Quote(h))
	}
	return strings.Join(quoted, ", ")
}
