package format

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxColumns bounds a table's width; Postgres tables end at 1,600.
	maxColumns = 2000
	// maxColumnName bounds a column's name, in bytes: each row has it again as the name of
	// a property, however short the row is.
	maxColumnName = 255
)

// A column is one of a table's.
type column struct {
	key      []byte // the property's name as JSON, with its colon; nil where it is no property
	name     []byte // the same, of the altitude too, whose cell may turn out to be none
	isString bool   // its cells are never numbers
}

// A layout is what a table's header and the query say together.
type layout struct {
	header  []string
	columns []column
	index   [roles]int // −1 where there is none
	named   [roles]bool
	sides   [2]int    // of the longitude and the latitude: the column that says E or W, N or S; −1 where there is none
	like    lookalike // the column that looks like a time, where none is taken for it

	date     int  // the column of a date that the time may lack; −1 where there is none
	local    bool // the position is of columns called x and y
	geopoint bool // the geometry's column is one of ODK
	comma    bool // a decimal comma can be told from the delimiter
	own      bool // a table that Cairn has written
	rest     int  // its column of other properties; −1 where there is none
	nameKey  bool // the name's column is not called so, and goes in as "name" too
	names    int  // the column of names, whether the query named it or not; −1 where there is none
}

// newLayout reads a header. Its errors are text for a problem.
func newLayout(header []string, o *Options, delimiter rune) (*layout, error) {
	if !isOwn(header) { // whose names are to come back as they were
		trimmed := make([]string, len(header))
		for i, name := range header {
			trimmed[i] = strings.TrimSpace(name)
		}
		header = trimmed
	}
	for len(header) > 1 && header[len(header)-1] == "" {
		header = header[:len(header)-1] // as spreadsheets leave behind
	}
	if len(header) > maxColumns {
		return nil, fmt.Errorf("the header has %d columns; at most %d are taken", len(header), maxColumns)
	}
	l := &layout{header: header, columns: make([]column, len(header)), comma: delimiter != ',', sides: [2]int{-1, -1}}
	if err := l.keys(header, o); err != nil {
		return nil, err
	}
	if l.findOwn(header, o) {
		return l, nil
	}
	if err := l.findPosition(header, o); err != nil {
		return nil, err
	}
	if err := l.findAltitude(header, o); err != nil {
		return nil, err
	}
	if err := l.findTime(header, o); err != nil {
		return nil, err
	}
	for _, r := range []role{nameRole, idRole} {
		if err := l.findNamed(r, header, o); err != nil {
			return nil, err
		}
	}
	if err := l.check(header, o, delimiter); err != nil {
		return nil, err
	}
	l.tellOfID(header, o)
	for _, name := range o.strings {
		i, err := named(header, name, o.parameter("strings"))
		if err != nil {
			return nil, err
		}
		l.columns[i].isString = true
	}
	l.leaveOut()
	return l, nil
}

// tellOfID says of a column that looks like the rows' id that it is none: a table's is
// often that of something else, which many rows have in common, so only the user can
// tell. Without a word, a row that comes again corrected would be there twice.
func (l *layout) tellOfID(header []string, o *Options) {
	i := slices.IndexFunc(header, func(h string) bool { return slices.Contains(idNames, plainName(h)) })
	if i < 0 || l.index[idRole] >= 0 {
		return
	}
	o.Warnings.note(0, header[i], "id", fmt.Sprintf("this column is a property, and each row gets an id of its own: %s%s makes it the points' id, by which a row that comes again is the same point", o.parameter("id"), header[i]))
}

// keys makes the properties' names.
func (l *layout) keys(header []string, o *Options) error {
	seen := make(map[string]bool, len(header)) // by the name as JSON
	for i, h := range header {
		key, err := jsontext.AppendQuote(nil, h)
		if err != nil || strings.ContainsRune(h, 0) {
			return fmt.Errorf("the name of column %d is not UTF-8 text: %swindows-1252 or the like says what it is", i+1, o.parameter("charset"))
		}
		if len(h) > maxColumnName {
			return fmt.Errorf("the name of column %d has %d bytes; at most %d are taken", i+1, len(h), maxColumnName)
		}
		if strings.TrimSpace(h) == "" { // as of the row numbers that pandas writes
			key = fmt.Appendf(nil, `"column_%d"`, i+1)
		}
		if seen[string(key)] {
			return fmt.Errorf("the header has the column %s twice: rename one of them", Clip(string(key)))
		}
		seen[string(key)] = true
		l.columns[i].key = append(key, ':')
		l.columns[i].name = l.columns[i].key
	}
	return nil
}

// leaveOut takes out of the properties what has a place of its own.
func (l *layout) leaveOut() {
	roles := []role{longitude, latitude, altitude, idRole}
	if l.index[longitude] < 0 {
		roles = append(roles, geometryRole)
	}
	for _, r := range roles {
		if i := l.index[r]; i >= 0 {
			l.columns[i].key = nil
		}
	}
	if i := slices.Index(l.header, rejectedName); i >= 0 {
		l.columns[i].key = nil
	}
	if l.names = indexOf(l.header, "name"); l.index[nameRole] >= 0 {
		l.names = l.index[nameRole]
		l.nameKey = string(l.columns[l.names].key) != `"name":`
	}
}

func (l *layout) check(header []string, o *Options, delimiter rune) error {
	for _, r := range []role{longitude, latitude} {
		if l.index[r] < 0 && l.index[geometryRole] < 0 {
			return fmt.Errorf("no column is the %s: name it by %s; the columns are %s (and the delimiter is %s, which %s changes; a column that has both goes by %s)",
				tableParameters[r], o.parameter(tableParameters[r]), listOf(header), strconv.QuoteRune(delimiter), o.parameter("delimiter"), o.parameter("geometry"))
		}
	}
	for r := range roles {
		for other := range r {
			if l.index[r] >= 0 && l.index[r] == l.index[other] && other <= altitude && (r <= altitude || r == idRole) {
				return fmt.Errorf("the column %s cannot be both the %s and the %s",
					Quote(header[l.index[r]]), tableParameters[other], tableParameters[r])
			}
		}
	}
	if i := l.index[nameRole]; i >= 0 && header[i] != "name" && slices.Contains(header, "name") {
		return fmt.Errorf("the column %s cannot become the name, because another is called \"name\" and would be lost", Quote(header[i]))
	}
	return nil
}
