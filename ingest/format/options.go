package format

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"cairn/internal/web"
)

// A role is what a column is for.
type role int

const (
	longitude role = iota
	latitude
	altitude
	nameRole
	timeRole
	idRole
	geometryRole
	roles
)

// tableParameters are the query parameters of tables, those of the roles first
// and in their order; anyParameters are those of every format.
var (
	tableParameters = []string{"longitude", "latitude", "altitude", "name", "time", "id", "geometry",
		"delimiter", "strings", "header", "columns", "charset", "time-format", "time-zone", "strict", "explode"}
	anyParameters = []string{"time", "charset", "time-format", "time-zone", "strict", "explode"}
)

// Options are what a request's query, or the flags of "cairn load", say of how
// to read.
type Options struct {
	columns   [roles]string // "" where none is named
	delimiter rune          // 0: the header shows it
	strings   []string      // columns whose cells stay strings
	noHeader  bool
	header    []string // the columns' names, where there is no header
	charset   string   // "": UTF-8, or what a byte order mark says
	clock     clock
	explode   bool

	boundary string

	// File is its name, for errors; "" where it is not known.
	File string
	// Flags makes errors speak of flags, not of query parameters.
	Flags bool
	// Warnings takes what is worth telling. It may be nil.
	Warnings *Warnings
}

// ParseOptions reads a query string whose parameters are all known; those of
// others, which mean nothing to a reader, are named in others.
func ParseOptions(k Kind, query string, others ...string) (Options, error) {
	return parseOptions(k, query, Options{}, others)
}

// ParseFlags is ParseOptions for "cairn load".
func ParseFlags(k Kind, query string) (Options, error) {
	return parseOptions(k, query, Options{Flags: true}, nil)
}

func parseOptions(k Kind, query string, o Options, others []string) (Options, error) {
	o.Warnings = &Warnings{}
	if query == "" {
		return o, nil
	}
	known := anyParameters
	if k == Table || k == Form {
		known = append(slices.Clone(tableParameters), others...)
	} else if len(others) > 0 {
		known = append(slices.Clone(anyParameters), others...)
	}
	values, err := parameters(query, known)
	if err != nil {
		return o, ofTables(query, known, err)
	}
	if err := o.table(values); err != nil {
		return o, err
	}
	return o, o.any(values)
}

// table reads what is of tables only.
func (o *Options) table(values map[string]string) error {
	for r := range roles {
		value, given := values[tableParameters[r]]
		if given && value == "" {
			return web.BadRequest(o.parameter(tableParameters[r]) + " must name a column")
		}
		o.columns[r] = value
	}
	if d, given := values["delimiter"]; given {
		if d == "tab" || d == `\t` {
			d = "\t"
		}
		first, size := utf8.DecodeRuneInString(d)
		if size == 0 || size != len(d) || strings.ContainsRune("\"\r\n\x00", first) || first == utf8.RuneError {
			return web.BadRequest("the delimiter must be one character, such as ; or |, or the word tab")
		}
		o.delimiter = first
	}
	if s := values["strings"]; s != "" {
		o.strings = strings.Split(s, ",")
	}
	switch h := strings.ToLower(values["header"]); h {
	case "", "yes", "true":
	case "no", "false":
		o.noHeader = true
	default:
		return web.BadRequest(o.parameter("header") + " must be yes or no")
	}
	if c := values["columns"]; c != "" {
		o.header = strings.Split(c, ",")
	}
	return nil
}

// any reads what is of all formats.
func (o *Options) any(values map[string]string) (err error) {
	if zone, given := values["time-zone"]; given {
		if err := o.clock.setZone(zone); err != nil {
			return web.BadRequest(o.parameter("time-zone") + Quote(zone) + ": " + err.Error())
		}
	}
	if pattern, given := values["time-format"]; given {
		if err := o.clock.setFormat(pattern); err != nil {
			return web.BadRequest(o.parameter("time-format") + Quote(pattern) + ": " + err.Error())
		}
	}
	if o.Warnings.Strict, err = o.yes(values, "strict"); err != nil {
		return err
	}
	if o.explode, err = o.yes(values, "explode"); err != nil {
		return err
	}
	if charset := values["charset"]; charset != "" {
		return o.SetCharset(charset)
	}
	return nil
}

// yes reads a switch, which needs no value.
func (o *Options) yes(values map[string]string, name string) (bool, error) {
	value, given := values[name]
	switch strings.ToLower(value) {
	case "", "yes", "true", "1":
		return given, nil
	case "no", "false", "0":
		return false, nil
	}
	return false, web.BadRequest(o.parameter(name) + " must be yes or no, or have no value")
}

// parameter is how one who reads an error can give a parameter.
func (o *Options) parameter(name string) string {
	if o.Flags {
		return "--" + name + "="
	}
	return name + "="
}

// ofTables says of an unknown parameter that it would be one of a table.
func ofTables(query string, known []string, err error) error {
	for _, pair := range strings.Split(query, "&") {
		if name, _, _ := strings.Cut(pair, "="); slices.Contains(tableParameters, name) && !slices.Contains(known, name) {
			return web.BadRequest(fmt.Sprintf("the query parameter %q is for text/csv", name))
		}
	}
	return err
}
