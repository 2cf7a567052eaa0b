package filter

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cairn/event"
	"cairn/internal/earth"
)

// A Parameter is a restriction as a query string has it: name=value.
type Parameter struct {
	Name string
	// Value means what was given, in the one spelling of that meaning.
	Value string
	Expr  Expr
}

// PropertyPrefix begins the names of parameters that restrict a property.
const PropertyPrefix = "properties."

// ParameterNames are those that [ParseParameter] knows, for hints; the last stands
// for all that begin with [PropertyPrefix].
var ParameterNames = []string{"bbox", "datetime", "name", "near", "author", PropertyPrefix + "NAME"}

// ParseParameter reads one restriction. It is not known where the name is that of
// none.
//
//	bbox=west,south,east,north            degrees; six numbers bound heights too
//	datetime=INSTANT or FROM/TO           RFC 3339, or dates alone; an end may be ..
//	name=NAME                             the whole name
//	near=longitude,latitude,metres
//	author=NAME                           who wrote it last
//	properties.NAME=VALUE                 equal; in double quotes, text only
//	properties.NAME=FROM..TO              both ends included; either may be left out
func ParseParameter(name, value string) (p Parameter, known bool, err error) {
	p = Parameter{Name: name}
	switch {
	case name == "bbox":
		p.Value, p.Expr, err = parseBox(value)
	case name == "datetime":
		p.Value, p.Expr, err = parseInterval(value)
	case name == "name":
		p.Value, p.Expr, err = parseName(value)
	case name == "near":
		p.Value, p.Expr, err = parseNear(value)
	case name == "author":
		p.Value, p.Expr, err = parseAuthor(value)
	case strings.HasPrefix(name, PropertyPrefix):
		p.Value, p.Expr, err = parseProperty(name[len(PropertyPrefix):], value)
	default:
		return p, false, nil
	}
	return p, true, err
}

// Sort puts parameters in the one order of their meaning.
func Sort(list []Parameter) {
	slices.SortFunc(list, func(a, b Parameter) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value)) })
}

// Combine is the expression of all of them.
func Combine(list []Parameter) Expr {
	parts := make([]Expr, len(list))
	for i, p := range list {
		parts[i] = p.Expr
	}
	return All(parts...)
}

// numbers reads numbers with commas between them.
func numbers(s string) ([]float64, error) {
	var out []float64
	for part := range strings.SplitSeq(s, ",") {
		f, err := strconv.ParseFloat(part, 64)
		if err != nil || strings.Trim(part, "0123456789+-.eE") != "" {
			return nil, fmt.Errorf("%q is not a number", part)
		}
		out = append(out, f)
	}
	return out, nil
}

// maxTurns bounds how often a map may have gone around the world.
const maxTurns = 10

// parseBox reads west,south,east,north, or with heights west,south,low,east,north,
// high (OGC API Features, part 1, section 7.15.3). Maps that show the world more
// than once send longitudes beyond 180: they are brought back.
func parseBox(s string) (string, Expr, error) {
	parts := strings.Count(s, ",") + 1
	if parts != 4 && parts != 6 {
		return "", nil, errors.New("it must be four numbers, west,south,east,north in degrees, or six with heights in metres: west,south,low,east,north,high")
	}
	n, err := numbers(s)
	if err != nil {
		return "", nil, err
	}
	var heights Expr
	if parts == 6 {
		if n[2] > n[5] {
			return "", nil, errors.New("its lowest height is above its highest; the order is west,south,low,east,north,high")
		}
		heights = between64(Altitude, n[2], n[5])
		n = []float64{n[0], n[1], n[3], n[4], n[2], n[5]}
	}
	b := Box{n[0], n[1], n[2], n[3]}
	for _, lon := range [...]float64{b.West, b.East} {
		if math.Abs(lon) > maxTurns*360 {
			return "", nil, fmt.Errorf("the longitude %s is more than %d times around the world", floats(lon), maxTurns)
		}
	}
	for _, lat := range [...]float64{b.South, b.North} {
		if err := event.CheckCoordinate(1, lat); err != nil {
			return "", nil, fmt.Errorf("%s: %w", floats(lat), err)
		}
	}
	if b.South > b.North {
		return "", nil, errors.New("its south is north of its north; the order is west,south,east,north")
	}
	if b.East-b.West >= 360 {
		b.West, b.East = -180, 180
	}
	b.West, b.East = earth.Wrap(b.West), earth.Wrap(b.East)
	if heights == nil {
		return floats(b.West, b.South, b.East, b.North), b, nil
	}
	// A point without an altitude has no height that could be outside.
	return floats(b.West, b.South, n[4], b.East, b.North, n[5]), And{b, Or{IsNull{Altitude}, heights}}, nil
}

func between64(f Field, low, high float64) Expr {
	return And{Compare{f, GreaterOrEqual, floatValue(low)}, Compare{f, LessOrEqual, floatValue(high)}}
}

func floatValue(f float64) Value {
	d, _ := parseDecimal(floats(f))
	return numberValue(d)
}

// parseInterval reads what OGC API Features, part 1, section 7.15.4 allows for
// datetime: an instant, or two with a slash between them, one of which may be open
// (two dots, or nothing). A date alone is that whole day in UTC.
func parseInterval(s string) (string, Expr, error) {
	begin, end, two := strings.Cut(s, "/")
	from, last, err := parseEnd(begin, two)
	if err != nil {
		return "", nil, err
	}
	to := last
	if two {
		if _, to, err = parseEnd(end, true); err != nil {
			return "", nil, err
		}
	}
	switch {
	case from == math.MinInt64 && to == math.MaxInt64:
		return "", nil, errors.New("an interval that is open at both ends lets everything through; leave it out")
	case from > to:
		return "", nil, errors.New("the interval ends before it begins")
	}
	return intervalText(from, to), During(Time, from, to), nil
}

// During is true from one time to another, both included. An end that is open is the
// least or the greatest int64.
func During(f Field, from, to int64) Expr {
	var parts []Expr
	if from != math.MinInt64 {
		parts = append(parts, Compare{f, GreaterOrEqual, InstantValue(from)})
	}
	if to != math.MaxInt64 {
		parts = append(parts, Compare{f, LessOrEqual, InstantValue(to)})
	}
	return All(parts...)
}

// parseEnd returns the first and the last microsecond of what is written.
func parseEnd(s string, mayBeOpen bool) (first, last int64, err error) {
	if mayBeOpen && (s == "" || s == "..") {
		return math.MinInt64, math.MaxInt64, nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		first = day.UnixMicro() - PostgresEpoch
		return first, first + (24 * time.Hour).Microseconds() - 1, nil
	}
	// Letters may be in lower case (RFC 3339, section 5.6).
	t, err := time.Parse(time.RFC3339Nano, strings.ToUpper(s))
	if err != nil {
		return 0, 0, fmt.Errorf("%q is not a time like 2026-11-21T22:43:01Z (RFC 3339, a + sent as %%2B), a date like 2026-11-21, nor an interval like 2026-11-21T00:00:00Z/.. (either end may be ..)", s)
	}
	if year := t.UTC().Year(); year < 0 || year > 9999 {
		return 0, 0, fmt.Errorf("%q is outside the years 0 to 9999 in UTC", s)
	}
	// The database keeps microseconds, and what is finer was cut off.
	first = t.UnixMicro() - PostgresEpoch
	return first, first, nil
}

func intervalText(from, to int64) string {
	text := func(micros int64) string {
		if micros == math.MinInt64 || micros == math.MaxInt64 {
			return ".."
		}
		return timestamp(micros).Format(time.RFC3339Nano)
	}
	if from == to {
		return text(from)
	}
	return text(from) + "/" + text(to)
}

// parseName reads a name that a point may have.
func parseName(s string) (string, Expr, error) {
	if n := utf8.RuneCountInString(s); n == 0 || n > event.MaxNameRunes {
		return "", nil, fmt.Errorf("a name has 1 to %d characters, not %d", event.MaxNameRunes, n)
	}
	v, err := TextValue(s)
	return s, Compare{Name, Equal, v}, err
}

// maxAuthorBytes bounds the name of a key or of a token.
const maxAuthorBytes = 255

func parseAuthor(s string) (string, Expr, error) {
	if s == "" || len(s) > maxAuthorBytes {
		return "", nil, fmt.Errorf("an author has 1 to %d bytes, not %d", maxAuthorBytes, len(s))
	}
	v, err := TextValue(s)
	return s, Compare{Author, Equal, v}, err
}

func parseNear(s string) (string, Expr, error) {
	const want = "it must be longitude,latitude,metres"
	if strings.Count(s, ",") != 2 {
		return "", nil, errors.New(want)
	}
	n, err := numbers(s)
	if err != nil {
		return "", nil, err
	}
	if math.Abs(n[0]) > maxTurns*360 {
		return "", nil, fmt.Errorf("the longitude %s is more than %d times around the world", floats(n[0]), maxTurns)
	}
	if err := event.CheckCoordinate(1, n[1]); err != nil {
		return "", nil, fmt.Errorf("%s: %w", floats(n[1]), err)
	}
	if !(n[2] > 0 && n[2] <= MaxMetres) {
		return "", nil, fmt.Errorf(want+", with more than 0 metres and at most %d", MaxMetres)
	}
	e := Near{earth.Wrap(n[0]), n[1], n[2]}
	return floats(e.Longitude, e.Latitude, e.Metres), e, nil
}

// maxPropertyBytes bounds the name of a property and the value it is compared with.
const maxPropertyBytes = 1 << 10

// parseProperty reads what a property is to be. What is written without quotes may
// be meant as a number, a boolean or text, and matches whichever the point has.
func parseProperty(name, s string) (string, Expr, error) {
	if name == "" || len(name) > maxPropertyBytes || len(s) > maxPropertyBytes {
		return "", nil, fmt.Errorf("a property's name has 1 to %d bytes, and the value at most as many", maxPropertyBytes)
	}
	if _, err := TextValue(name); err != nil {
		return "", nil, err
	}
	f := Property(name)
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		var text string
		if err := json.Unmarshal([]byte(s), &text); err != nil {
			return "", nil, fmt.Errorf("%s is not text in quotes as JSON has it", s)
		}
		v, err := TextValue(text)
		return s, Compare{f, Equal, v}, err
	}
	if from, to, ok := strings.Cut(s, ".."); ok {
		return parseRange(f, s, from, to)
	}
	text, err := TextValue(s)
	if err != nil {
		return "", nil, err
	}
	e := Compare{f, Equal, text}
	if n, err := NumberValue(s); err == nil {
		return s, Or{e, Compare{f, Equal, n}}, nil
	}
	if s == "true" || s == "false" {
		return s, Or{e, Compare{f, Equal, BoolValue(s == "true")}}, nil
	}
	return s, e, nil
}

// parseRange reads numbers where both ends are (or the one that is given), else
// text, in the order of code points: right for dates as ISO 8601 has them.
func parseRange(f Field, s, from, to string) (string, Expr, error) {
	if from == "" && to == "" {
		return "", nil, errors.New("a range has an end at least: FROM..TO, FROM.. or ..TO; text with two dots in it is given in double quotes")
	}
	read := NumberValue
	for _, end := range []string{from, to} {
		if _, err := NumberValue(end); end != "" && err != nil {
			read = TextValue
		}
	}
	var parts []Expr
	for _, end := range []struct {
		text string
		op   Op
	}{{from, GreaterOrEqual}, {to, LessOrEqual}} {
		if end.text == "" {
			continue
		}
		v, err := read(end.text)
		if err != nil {
			return "", nil, err
		}
		parts = append(parts, Compare{f, end.op, v})
	}
	return s, All(parts...), nil
}
