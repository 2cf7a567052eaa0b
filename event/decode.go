package event

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/paulmach/orb"
)

// A Decoder reads events and GeoJSON Features. The raw fields of what it reads
// alias the bytes it was given. The zero value is ready; it is not safe for
// concurrent use.
type Decoder struct {
	// Wants tells, of the name of a property, whether Property is to be called
	// with its value, raw: one who takes a point in looks for the time under
	// more names than "time", and in more forms than RFC 3339. Both may be nil.
	Wants    func(name []byte) bool
	Property func(name []byte, value jsontext.Value)
	// LongName reports of the last Feature that its property name is too long to be
	// the point's name.
	LongName bool

	json Reader
}

// Event reads one line of an envelope into e. An [*UnknownError] says that a newer
// version wrote it; any other error is about this line alone.
func (d *Decoder) Event(line []byte, e *Event) error {
	d.json.Start(line)
	*e = Event{Point: Point{Altitude: math.NaN()}}
	hasPoint, err := d.event(e)
	if err != nil && e.Type == "" {
		d.json.Start(line)
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
	_ = d.json.Members(func(name []byte) (err error) { // what is wrong has been said
		if string(name) != `"type"` {
			return d.json.SkipValue()
		}
		kind, err = d.json.Text()
		return err
	})
	return kind
}

func (d *Decoder) event(e *Event) (hasPoint bool, err error) {
	err = d.json.Members(func(name []byte) error {
		switch string(name) {
		case `"id"`:
			s, err := d.json.Text()
			if err == nil {
				e.ID, err = uuid.Parse(s)
			}
			return err
		case `"type"`:
			var err error
			e.Type, err = d.json.Text()
			return err
		case `"received"`:
			var err error
			e.Received, err = d.json.Time()
			return err
		case `"if"`:
			raw, err := d.json.Value()
			if err == nil {
				e.If, err = readCondition(raw)
			}
			return err
		case `"author"`:
			var err error
			e.Author, err = d.json.Text()
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
	d.json.Start(raw)
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
	d.json.Start(raw)
	if err := d.geometry(p); err != nil {
		return AsFieldError(err)
	}
	if _, err := d.json.ReadToken(); err != io.EOF {
		return &FieldError{Reason: "something follows the geometry"}
	}
	return nil
}

func (d *Decoder) feature(p *Point) error {
	var isFeature, hasGeometry bool
	var own shown
	err := d.json.Members(func(name []byte) (err error) {
		switch string(name) {
		case `"type"`:
			var s string
			if s, err = d.json.Text(); err == nil && s != "Feature" {
				err = d.json.Fail("it is a %q, but it must be a \"Feature\"", s)
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
			p.Time, err = d.json.Time()
		// Ours to give: a point that was read from Cairn goes in again.
		case `"position"`:
			own.position, err = d.json.Value()
		case `"revision"`:
			own.revision, err = d.json.Value()
		case `"received"`:
			own.received, err = d.json.Value()
		case `"author"`:
			own.author, err = d.json.Value()
		default:
			name = bytes.Clone(name)
			var value jsontext.Value
			if value, err = d.json.Value(); err == nil {
				p.addMember(name, value)
			}
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case !isFeature:
		return d.json.Fail(`it has no "type": "Feature"`)
	case !hasGeometry:
		return d.json.Fail("it has no geometry")
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
		return d.json.FailNext("it has no position: the geometry is null")
	}
	var isPoint, hasCoordinates bool
	err := d.json.Members(func(name []byte) error {
		switch string(name) {
		case `"type"`:
			s, err := d.json.Text()
			if err == nil && s != "Point" {
				err = d.json.Fail("the geometry is a %q, but Cairn takes points: it must be a \"Point\"", s)
			}
			isPoint = true
			return err
		case `"coordinates"`:
			hasCoordinates = true
			return d.coordinates(p)
		case `"bbox"`, `"geodesic"`: // say nothing of a point that its coordinates do not; Google Earth Engine has the second
			return d.json.SkipValue()
		case `"crs"`, `"coordRefSys"`:
			raw, err := d.json.Value()
			if err == nil && !IsCRS84(raw) {
				err = d.json.Fail("%s", NotCRS84)
			}
			return err
		}
		return d.json.FailNext("a geometry has type and coordinates: put the rest into the properties")
	})
	if err == nil && (!isPoint || !hasCoordinates) {
		err = d.json.Fail(`it must be {"type": "Point", "coordinates": [longitude, latitude]}`)
	}
	return err
}

func (d *Decoder) coordinates(p *Point) error {
	if d.json.PeekKind() != '[' {
		return d.json.FailNext("it must be [longitude, latitude] or [longitude, latitude, altitude]")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	var c [3]float64
	n := 0
	for d.json.PeekKind() != ']' {
		if n == len(c) {
			return d.json.FailNext("a position has two or three numbers")
		}
		f, err := d.json.Number()
		if err != nil {
			return err
		}
		if err := CheckCoordinate(n, f); err != nil {
			return d.json.Fail("%s", err.Error())
		}
		c[n] = f
		n++
	}
	if _, err := d.json.ReadToken(); err != nil {
		return err
	}
	if n < 2 {
		return d.json.Fail("a position has two or three numbers")
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

// IsCRS84 reports whether a member crs (of the GeoJSON of 2008) or coordRefSys (of
// JSON-FG) names the reference system that positions are in anyway.
func IsCRS84(raw jsontext.Value) bool {
	text := strings.ToUpper(string(raw))
	return raw.Kind() == 'n' || strings.Contains(text, "CRS84\"") || strings.Contains(text, "CRS84]\"") || strings.Contains(text, `EPSG::4326"`) ||
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
		return d.json.FailNext("the properties must be an object or null")
	}
	begin := int(d.json.InputOffset())
	d.LongName = false
	var title, other string
	err := d.json.Members(func(name []byte) error {
		if d.Wants != nil && d.Wants(name[1:len(name)-1]) {
			name = bytes.Clone(name[1 : len(name)-1])
			value, err := d.json.Value()
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
		s, err := d.json.Text()
		switch {
		case isTime && p.Time.IsZero():
			p.Time, _ = ParseTime(s)
		case isName && utf8.RuneCountInString(s) > MaxNameRunes:
			d.LongName = true
		case isName:
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
	whole := d.json.From(begin)
	p.Properties = whole[bytes.IndexByte(whole, '{'):]
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
		return nil, d.json.FailNext("the id must be a string or a number")
	}
	value, err := d.json.Value()
	if err != nil {
		return nil, err
	}
	if _, err := IDBytes(value); err != nil {
		return nil, d.json.Fail("%s", err.Error())
	}
	return value, nil
}

// IDText is what a raw id, a JSON string or number, is called in paths and in
// SQL: the string, or the number as it was written.
func IDText(raw jsontext.Value) (string, error) {
	text, err := IDBytes(raw)
	return string(text), err
}

// IDBytes is IDText, for those who call it for every row. It may alias raw.
func IDBytes(raw jsontext.Value) ([]byte, error) {
	text := []byte(raw)
	if raw.Kind() == '"' {
		text = raw[1 : len(raw)-1]
		if bytes.IndexByte(text, '\\') >= 0 {
			var err error
			if text, err = jsontext.AppendUnquote(nil, raw); err != nil {
				return nil, err
			}
		}
	}
	if len(text) == 0 || len(text) > MaxExternalID {
		return nil, fmt.Errorf("the id must have 1 to %d bytes", MaxExternalID)
	}
	return text, nil
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
