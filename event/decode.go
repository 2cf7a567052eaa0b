package event

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/paulmach/orb"
)

// A FieldError says what is wrong with one value of a JSON document.
type FieldError struct {
	Pointer string // RFC 6901; empty for the whole document
	Reason  string
}

func (e *FieldError) Error() string {
	if e.Pointer == "" {
		return e.Reason
	}
	return e.Pointer + ": " + e.Reason
}

// A Decoder reads events and GeoJSON Features. The raw fields of what it reads
// alias the bytes it was given. The zero value is ready; it is not safe for
// concurrent use.
type Decoder struct {
	// Wants tells, of the name of a property, whether Property is to be called
	// with its value, raw: one who takes a point in looks for the time under
	// more names than "time", and in more forms than RFC 3339. Both may be nil.
	Wants    func(name []byte) bool
	Property func(name []byte, value jsontext.Value)

	json   jsontext.Decoder
	source bytes.Buffer // jsontext reads a Buffer in place
	raw    []byte
}

func (d *Decoder) start(raw []byte) {
	d.raw = raw
	d.source = *bytes.NewBuffer(raw)
	d.json.Reset(&d.source)
}

// Event reads one line of an envelope into e. An [*UnknownError] says that a newer
// version wrote it; any other error is about this line alone.
func (d *Decoder) Event(line []byte, e *Event) error {
	d.start(line)
	*e = Event{Point: Point{Altitude: math.NaN()}}
	hasPoint, err := d.event(e)
	if err != nil && e.Type == "" {
		d.start(line)
		e.Type = d.eventType()
	}
	unknown := (*UnknownError)(nil)
	switch {
	case e.Type != "" && e.Type != Created && e.Type != Put && e.Type != Deleted:
		return &UnknownError{What: fmt.Sprintf("type of event %.100q", e.Type)}
	case errors.As(err, &unknown):
		return unknown
	case err != nil:
		return fmt.Errorf("decode event: %w", err)
	case e.ID == uuid.Nil || e.Type == "" || e.Received.IsZero():
		return errors.New("decode event: it needs id, type and received")
	case !hasPoint && e.Type != Deleted:
		return errors.New("decode event: it needs a point")
	}
	return nil
}

// eventType is the type of an event that cannot be read otherwise: one that this
// version does not know may have anything in its other members.
func (d *Decoder) eventType() (kind string) {
	_ = d.members(func(name []byte) (err error) { // what is wrong has been said
		if string(name) != `"type"` {
			return d.json.SkipValue()
		}
		kind, err = d.text()
		return err
	})
	return kind
}

func (d *Decoder) event(e *Event) (hasPoint bool, err error) {
	err = d.members(func(name []byte) error {
		switch string(name) {
		case `"id"`:
			s, err := d.text()
			if err == nil {
				e.ID, err = uuid.Parse(s)
			}
			return err
		case `"type"`:
			var err error
			e.Type, err = d.text()
			return err
		case `"received"`:
			var err error
			e.Received, err = d.time()
			return err
		case `"if"`:
			raw, err := d.value()
			if err == nil {
				e.If, err = readCondition(raw)
			}
			return err
		case `"author"`:
			var err error
			e.Author, err = d.text()
			return err
		case `"point"`:
			hasPoint = true
			return d.feature(&e.Point)
		}
		return d.json.SkipValue() // a later version's addition
	})
	return hasPoint, err
}

// Feature reads a GeoJSON Feature of a Point into p. What it refuses is a
// [*FieldError].
func (d *Decoder) Feature(raw []byte, p *Point) error {
	d.start(raw)
	*p = Point{Altitude: math.NaN()}
	if err := d.feature(p); err != nil {
		return AsFieldError(err)
	}
	if _, err := d.json.ReadToken(); err != io.EOF {
		return &FieldError{Reason: "something follows the Feature"}
	}
	return nil
}

// Geometry reads a GeoJSON geometry, a Point, into p. What it refuses is a
// [*FieldError].
func (d *Decoder) Geometry(raw []byte, p *Point) error {
	d.start(raw)
	if err := d.geometry(p); err != nil {
		return AsFieldError(err)
	}
	if _, err := d.json.ReadToken(); err != io.EOF {
		return &FieldError{Reason: "something follows the geometry"}
	}
	return nil
}

// AsFieldError says, of an error of jsontext, what is wrong with the JSON and
// where; other errors it leaves as they are.
func AsFieldError(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &FieldError{Reason: "not JSON: it ends too early"}
	case !errors.As(err, &syntax):
		return err
	case errors.Is(err, jsontext.ErrDuplicateName):
		return &FieldError{Pointer: string(syntax.JSONPointer), Reason: "it is given twice: duplicate names are refused"}
	}
	return &FieldError{Pointer: string(syntax.JSONPointer), Reason: "not JSON: " + syntax.Err.Error()}
}

func (d *Decoder) feature(p *Point) error {
	var isFeature, hasGeometry bool
	var own shown
	err := d.members(func(name []byte) (err error) {
		switch string(name) {
		case `"type"`:
			var s string
			if s, err = d.text(); err == nil && s != "Feature" {
				err = d.fail("it is a %q, but it must be a \"Feature\"", s)
			}
			isFeature = true
		case `"id"`:
			p.ExternalID, err = d.externalID()
		case `"geometry"`:
			hasGeometry = true
			err = d.geometry(p)
		case `"properties"`:
			err = d.properties(p)
		case `"time"`:
			if d.json.PeekKind() == 'n' {
				return d.json.SkipValue()
			}
			own.time = true
			p.Time, err = d.time()
		// Ours to give: a point that was read from Cairn goes in again.
		case `"position"`:
			own.position, err = d.value()
		case `"revision"`:
			own.revision, err = d.value()
		case `"received"`:
			own.received, err = d.value()
		case `"author"`:
			own.author, err = d.value()
		default:
			name = bytes.Clone(name)
			var value jsontext.Value
			if value, err = d.value(); err == nil {
				p.addMember(name, value)
			}
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case !isFeature:
		return d.fail(`it has no "type": "Feature"`)
	case !hasGeometry:
		return d.fail("it has no geometry")
	}
	if own.author != nil && !own.fromCairn() {
		p.addMember([]byte(`"author"`), own.author)
	}
	p.withoutShown(&own)
	return nil
}

func (p *Point) addMember(name, value []byte) {
	if p.Members == nil {
		p.Members = append(p.Members, '{')
	} else {
		p.Members[len(p.Members)-1] = ','
	}
	p.Members = append(append(append(append(p.Members, name...), ':'), value...), '}')
}

func (d *Decoder) geometry(p *Point) error {
	if d.json.PeekKind() == 'n' {
		return d.failNext("it has no position: the geometry is null")
	}
	var isPoint, hasCoordinates bool
	err := d.members(func(name []byte) error {
		switch string(name) {
		case `"type"`:
			s, err := d.text()
			if err == nil && s != "Point" {
				err = d.fail("the geometry is a %q, but Cairn takes points: it must be a \"Point\"", s)
			}
			isPoint = true
			return err
		case `"coordinates"`:
			hasCoordinates = true
			return d.coordinates(p)
		case `"bbox"`, `"geodesic"`: // say nothing of a point that its coordinates do not; Google Earth Engine has the second
			return d.json.SkipValue()
		case `"crs"`, `"coordRefSys"`:
			raw, err := d.value()
			if err == nil && !IsCRS84(raw) {
				err = d.fail("%s", NotCRS84)
			}
			return err
		}
		return d.failNext("a geometry has type and coordinates: put the rest into the properties")
	})
	if err == nil && (!isPoint || !hasCoordinates) {
		err = d.fail(`it must be {"type": "Point", "coordinates": [longitude, latitude]}`)
	}
	return err
}

func (d *Decoder) coordinates(p *Point) error {
	if d.json.PeekKind() != '[' {
		return d.failNext("it must be [longitude, latitude] or [longitude, latitude, altitude]")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	var c [3]float64
	n := 0
	for d.json.PeekKind() != ']' {
		if n == len(c) {
			return d.failNext("a position has two or three numbers")
		}
		f, err := d.number()
		if err != nil {
			return err
		}
		if err := CheckCoordinate(n, f); err != nil {
			return d.fail("%s", err.Error())
		}
		c[n] = f
		n++
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	if n < 2 {
		return d.fail("a position has two or three numbers")
	}
	p.Position = orb.Point{c[0], c[1]}
	if n == 3 {
		p.Altitude = c[2]
	}
	return nil
}

// NotCRS84 is why a position in another reference system is refused: it would be
// taken for degrees (RFC 7946, section 4).
const NotCRS84 = "positions must be in WGS 84 degrees, longitude first (CRS84): convert them, and leave the reference system out"

// IsCRS84 tells whether a member crs (of the GeoJSON of 2008) or coordRefSys (of
// JSON-FG) names the reference system that positions are in anyway.
func IsCRS84(raw jsontext.Value) bool {
	text := strings.ToUpper(string(raw))
	return raw.Kind() == 'n' || strings.Contains(text, "CRS84\"") || strings.Contains(text, `EPSG::4326"`) ||
		strings.Contains(text, `EPSG:4326"`) || strings.Contains(text, `EPSG/0/4326"`)
}

// CheckCoordinate says what is wrong with a coordinate, if anything is, by its
// index in a GeoJSON position: 0 is the longitude, −180 to 180 degrees; 1 the
// latitude, −90 to 90 degrees; 2 the altitude, any finite number of metres.
func CheckCoordinate(index int, f float64) error {
	switch {
	case index == 0 && !(f >= -180 && f <= 180):
		return errors.New("the longitude must be from -180 to 180 degrees")
	case index == 1 && !(f >= -90 && f <= 90):
		return errors.New("the latitude must be from -90 to 90 degrees")
	case math.IsNaN(f) || math.IsInf(f, 0):
		return errors.New("it must be a finite number")
	}
	return nil
}

// properties keeps the object whole and copies what has a column of its own.
// Whatever shape those members have, they are no reason to refuse.
func (d *Decoder) properties(p *Point) error {
	switch d.json.PeekKind() {
	case 'n':
		_, err := d.json.ReadToken()
		return err
	case '{':
	default:
		return d.failNext("the properties must be an object or null")
	}
	begin := int(d.json.InputOffset())
	begin += bytes.IndexByte(d.raw[begin:], '{')
	var title, other string
	err := d.members(func(name []byte) error {
		if d.Wants != nil && d.Wants(name[1:len(name)-1]) {
			name = bytes.Clone(name[1 : len(name)-1])
			value, err := d.value()
			if err == nil {
				d.Property(name, value)
			}
			return err
		}
		isName, isTitle, isTime := propertyColumn(name)
		isOther := !isName && len(name) == len(`"name"`) && bytes.EqualFold(name, []byte(`"name"`))
		if !isName && !isOther && !isTitle && !isTime || d.json.PeekKind() != '"' {
			return d.json.SkipValue()
		}
		s, err := d.text()
		switch {
		case isTime && p.Time.IsZero():
			p.Time, _ = ParseTime(s)
		case isName && utf8.RuneCountInString(s) <= MaxNameRunes:
			p.Name = s
		case isOther && utf8.RuneCountInString(s) <= MaxNameRunes:
			other = s
		case isTitle && utf8.RuneCountInString(s) <= MaxNameRunes:
			title = s
		}
		return err
	})
	if err != nil {
		return err
	}
	p.Name = cmp.Or(p.Name, other, title)
	end := int(d.json.InputOffset())
	p.Properties = jsontext.Value(d.raw[begin:end:end])
	return nil
}

func propertyColumn(name []byte) (isName, isTitle, isTime bool) {
	return string(name) == `"name"`, string(name) == `"title"`, string(name) == `"time"`
}

func (d *Decoder) externalID() (jsontext.Value, error) {
	kind := d.json.PeekKind()
	if kind == 'n' { // as some writers say "none"
		_, err := d.json.ReadToken()
		return nil, err
	}
	if kind != '"' && kind != '0' {
		return nil, d.failNext("the id must be a string or a number")
	}
	value, err := d.value()
	if err != nil {
		return nil, err
	}
	if _, err := IDText(value); err != nil {
		return nil, d.fail("%s", err.Error())
	}
	return value, nil
}

// IDText is what a raw id, a JSON string or number, is called in paths and in
// SQL: the string, or the number as it was written.
func IDText(raw jsontext.Value) (string, error) {
	text := string(raw)
	if raw.Kind() == '"' {
		b, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return "", err
		}
		text = string(b)
	}
	if text == "" || len(text) > MaxExternalID {
		return "", fmt.Errorf("the id must have 1 to %d bytes", MaxExternalID)
	}
	return text, nil
}

// members reads an object and calls f with each name, in quotes and with no
// needless escapes, when its value is next.
func (d *Decoder) members(f func(name []byte) error) error {
	if d.json.PeekKind() != '{' {
		return d.failNext("it must be an object")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	for d.json.PeekKind() == '"' {
		name, err := d.json.ReadValue()
		if err != nil {
			return err
		}
		if bytes.IndexByte(name, '\\') >= 0 { // "\u0074ime" is the name "time"
			if name, err = canonicalName(name); err != nil {
				return err
			}
		}
		if err := f(name); err != nil {
			return err
		}
	}
	_, err := d.json.ReadToken() // the end, or what is wrong here
	return err
}

// canonicalName is the one way to write a name in quotes.
func canonicalName(name []byte) ([]byte, error) {
	text, err := jsontext.AppendUnquote(nil, name)
	if err != nil {
		return nil, err
	}
	return jsontext.AppendQuote(nil, text)
}

// value reads the next value; it aliases the input.
func (d *Decoder) value() (jsontext.Value, error) {
	v, err := d.json.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(d.json.InputOffset())
	return jsontext.Value(d.raw[end-len(v) : end : end]), nil
}

func (d *Decoder) text() (string, error) {
	if d.json.PeekKind() != '"' {
		return "", d.failNext("it must be a string")
	}
	t, err := d.json.ReadToken()
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

func (d *Decoder) number() (float64, error) {
	if kind := d.json.PeekKind(); kind != '0' {
		return 0, d.failNext("it must be a number, not %s", kindName(kind))
	}
	v, err := d.json.ReadValue()
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil {
		return 0, d.fail("the number is out of range")
	}
	return f, nil
}

func (d *Decoder) time() (time.Time, error) {
	s, err := d.text()
	if err != nil {
		return time.Time{}, err
	}
	t, err := ParseTime(s)
	if err != nil {
		return time.Time{}, d.fail("%s", err.Error())
	}
	return t, nil
}

// ParseTime reads an RFC 3339 time, to the microsecond that Postgres keeps.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not an RFC 3339 time such as 2026-11-21T22:43:01Z", s)
	}
	t = t.UTC().Truncate(time.Microsecond)
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 { // an offset can lead out of the years that it can write
		return time.Time{}, fmt.Errorf("%q is out of range", s)
	}
	return t, nil
}

// fail is an error about the value that was read last.
func (d *Decoder) fail(format string, args ...any) error {
	return &FieldError{Pointer: string(d.json.StackPointer()), Reason: fmt.Sprintf(format, args...)}
}

// failNext is an error about the value that is next; where that is not even
// JSON, it says so instead.
func (d *Decoder) failNext(format string, args ...any) error {
	if err := d.json.SkipValue(); err != nil {
		return err
	}
	return d.fail(format, args...)
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "a number"
}
