package format

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"cairn/event"

	"github.com/go-json-experiment/json/jsontext"
)

// pointFields are the fields of the one-point form.
var pointFields = []string{"longitude", "latitude", "name", "id", "altitude", "time", "properties"}

// errGeoJSON says that an object is not of the one-point form, but GeoJSON.
var errGeoJSON = &event.FieldError{
	Reason: "this is GeoJSON: send it with Content-Type: application/geo+json",
}

// errArray says that there are many.
var errArray = &event.FieldError{
	Reason: "one point is an object: to send many, use Content-Type: application/x-ndjson (one a line) or application/geo+json",
}

// IsMany tells, of an error of [PointDecoder.Decode], whether the text may be
// something else that is taken: GeoJSON, or an array.
func IsMany(err error) bool {
	return err == errGeoJSON || err == errArray
}

// A PointDecoder reads points of the form {"longitude", "latitude", …}. What it
// reads aliases the input or the decoder, and is good until the next decode.
type PointDecoder struct {
	Options *Options // nil: the defaults
	Row     int64    // of warnings

	seen    sighting // of the properties
	json    event.Reader
	joined  []byte // properties with the name in them
	compact compactor
	likes   likes

	when     dated
	name     jsontext.Value
	nameText []byte
	inner    string // the name in the properties
	hasInner bool
	has      [2]bool // longitude, latitude
}

// Decode reads raw into p. What it refuses is a *event.FieldError.
func (d *PointDecoder) Decode(raw []byte, p *event.Point) error {
	d.json.Start(raw)
	d.name, d.nameText, d.inner, d.hasInner, d.has = nil, nil, "", false, [2]bool{}
	d.when = dated{}
	if d.Options == nil {
		d.Options = &defaults
	}
	d.seen.reset()
	*p = event.Point{Altitude: math.NaN()}
	if err := d.object(p); err != nil {
		return event.AsFieldError(err)
	}
	if _, err := d.json.ReadToken(); err != io.EOF {
		return &event.FieldError{Reason: "something follows the point: to send many, use Content-Type: application/x-ndjson"}
	}
	if err := d.complete(p); err != nil {
		return err
	}
	if err := d.settleTime(p); err != nil {
		return err
	}
	if err := d.seen.settle(d.Options, p, d.Row); err != nil {
		return err
	}
	if d.Row > 0 && p.Time.IsZero() && len(p.Properties) > len("{}") {
		d.likes.look(d.Options, d.Row, p)
	}
	return d.compact.point(p)
}

func (d *PointDecoder) object(p *event.Point) error {
	switch kind := d.json.PeekKind(); {
	case kind == '[':
		return errArray
	case kind != '{':
		return d.json.FailNext("one point is an object with longitude and latitude")
	}
	return d.json.Members(func(name []byte) error { return d.field(name, p) })
}

// field reads the value of a field. Null stands for an optional one that is not
// there, as many writers have it.
func (d *PointDecoder) field(name []byte, p *event.Point) (err error) {
	isTime := false
	switch string(name) {
	case `"longitude"`, `"lon"`, `"lng"`:
		p.Position[0], err = d.coordinate(0)
		return err
	case `"latitude"`, `"lat"`:
		p.Position[1], err = d.coordinate(1)
		return err
	case `"altitude"`, `"name"`, `"id"`, `"properties"`:
	case `"` + rejectedName + `"`:
		return d.json.SkipValue()
	default:
		if isTime = timeRank(name[1:len(name)-1]) > 0; !isTime {
			return d.unknown(name)
		}
	}
	if d.json.PeekKind() == 'n' {
		return d.json.SkipValue()
	}
	if isTime {
		return d.time(string(name[1 : len(name)-1]))
	}
	switch string(name) {
	case `"altitude"`:
		p.Altitude, err = d.coordinate(2)
	case `"name"`:
		d.name, d.nameText, err = d.text(event.MaxNameRunes)
	case `"id"`:
		p.ExternalID, err = d.id()
	case `"properties"`:
		p.Properties, err = d.properties()
	}
	return err
}

// unknown refuses a field; where it, or the rest of the object, says that all
// of it is GeoJSON, it says that instead.
func (d *PointDecoder) unknown(name []byte) error {
	text, _ := jsontext.AppendUnquote(nil, name)
	refused := &event.FieldError{
		Pointer: string(d.json.StackPointer()),
		Reason:  fmt.Sprintf("unknown field %s: %s", Quote(string(text)), suggest(string(text), pointFields)),
	}
	for {
		switch string(name) { // what is in it may be wrong in one row of many
		case `"geometry"`, `"features"`, `"locations"`, `"timelineObjects"`, `"semanticSegments"`, `"rawSignals"`:
			return errGeoJSON
		}
		refused.Reason = cmp.Or(foreignJSON[string(name)], refused.Reason)
		value, err := d.json.ReadValue()
		if err != nil {
			return refused
		}
		if string(name) == `"type"` {
			if slices.Contains(geoJSONTypes, string(value)) {
				return errGeoJSON
			}
			refused.Reason = cmp.Or(foreignJSON[string(value)], refused.Reason)
		}
		if d.json.PeekKind() != '"' {
			return refused
		}
		if name, err = d.json.Value(); err != nil {
			return refused
		}
	}
}

// foreignJSON says what an object is of another program, by a type or by the name
// of a member, and how to make of it what is read.
var foreignJSON = map[string]string{
	`"umap"`:             "this is a map of uMap: export its data there as GeoJSON, or send its layers one by one",
	`"layers"`:           "this is a map with layers, not the data in it: export that as GeoJSON",
	`"datasets"`:         "this is a map of kepler.gl: export its data there as CSV",
	`"Topology"`:         "this is TopoJSON; GDAL turns it into what is read: ogr2ogr -f GeoJSONSeq /vsistdout/ FILE | cairn load -",
	`"spatialReference"`: "this is JSON of Esri: ask the service for f=geojson",
	`"geometryType"`:     "this is JSON of Esri: ask the service for f=geojson",
	`"_type"`:            "this is a message of OwnTracks: send it to /point/owntracks",
}

// geoJSONTypes are those of RFC 7946, section 1.4, as JSON.
var geoJSONTypes = []string{
	`"Feature"`, `"FeatureCollection"`, `"Point"`, `"MultiPoint"`, `"LineString"`,
	`"MultiLineString"`, `"Polygon"`, `"MultiPolygon"`, `"GeometryCollection"`,
}

func (d *PointDecoder) coordinate(index int) (float64, error) {
	if d.json.PeekKind() == '"' {
		return 0, d.json.FailNext("it must be a number, not a string: leave the quotes out")
	}
	f, err := d.json.Number()
	if err != nil {
		return 0, err
	}
	if err := event.CheckCoordinate(index, f); err != nil {
		return 0, d.json.Fail("%s", err.Error())
	}
	if index < len(d.has) {
		if d.has[index] {
			return 0, d.json.Fail("it is given twice, under another name")
		}
		d.has[index] = true
	}
	return f, nil
}

// text reads a string of at most maxRunes characters: as it is written, and what
// it says.
func (d *PointDecoder) text(maxRunes int) (raw jsontext.Value, says []byte, err error) {
	if d.json.PeekKind() != '"' {
		return nil, nil, d.json.FailNext("it must be a string")
	}
	if raw, err = d.json.Value(); err != nil {
		return nil, nil, err
	}
	says = raw[1 : len(raw)-1]
	if bytes.IndexByte(says, '\\') >= 0 {
		if says, err = jsontext.AppendUnquote(nil, raw); err != nil {
			return nil, nil, err
		}
	}
	if n := utf8.RuneCount(says); n > maxRunes {
		return nil, nil, d.json.Fail("it has %d characters; at most %d are allowed: put the rest into the properties", n, maxRunes)
	}
	return raw, says, nil
}

func (d *PointDecoder) id() (jsontext.Value, error) {
	if kind := d.json.PeekKind(); kind != '"' && kind != '0' {
		return nil, d.json.FailNext("the id must be a string or a number")
	}
	return d.json.Value() // the compactor checks it
}

// A dated is the time of the observation, as it was given: in one field, or in two
// of which one is the date.
type dated struct {
	name, text, date string
}

// time reads a field of the time of the observation.
func (d *PointDecoder) time(name string) error {
	if kind := d.json.PeekKind(); kind != '"' && kind != '0' {
		return d.json.FailNext("it must be a time such as \"2026-11-21T22:43:01Z\", or a count since 1970")
	}
	value, err := d.json.Value()
	if err != nil {
		return err
	}
	text, _ := plainValue(value)
	isDate := isDateName(timeRank([]byte(name)))
	switch {
	case isDate && d.when.date == "" && (d.when.name == "" || isDayTime(d.when.text)):
		d.when.date = text
		if d.when.name == "" {
			d.when.name, d.when.text = name, text
		}
	case d.when.name == "":
		d.when.name, d.when.text = name, text
	case d.when.date != "" && d.when.date == d.when.text && isDayTime(text): // it was the date alone
		d.when.name, d.when.text = name, text
	default:
		return d.json.Fail("the time is given twice, under another name")
	}
	return nil
}

// settleTime reads what was given. Unlike a property, which may mean another time,
// it must be understood.
func (d *PointDecoder) settleTime(p *event.Point) error {
	w := &d.when
	if w.name == "" {
		return nil
	}
	if w.date != "" && w.date != w.text {
		w.text = together(w.date, w.text)
	}
	t, doubt, err := d.Options.clock.parse(w.text)
	if err != nil {
		return &event.FieldError{Pointer: "/" + w.name, Reason: Quote(w.text) + ": " + err.Error()}
	}
	if doubt != "" {
		if err := d.Options.assume(d.Row, w.name, doubt); err != nil {
			return err
		}
	}
	p.Time = t
	return nil
}

// properties reads the object, and remembers the name that it has.
func (d *PointDecoder) properties() (jsontext.Value, error) {
	if d.json.PeekKind() != '{' {
		return nil, d.json.FailNext("the properties must be an object")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return nil, err
	}
	begin := int(d.json.InputOffset()) - 1
	for d.json.PeekKind() == '"' {
		name, err := d.json.Value()
		if err != nil {
			return nil, err
		}
		text := []byte(name[1 : len(name)-1])
		if bytes.IndexByte(text, '\\') >= 0 {
			text, _ = jsontext.AppendUnquote(nil, name) // it was read
		}
		isName := string(text) == "name"
		if d.Options.wants(text) {
			value, err := d.json.Value()
			if err != nil {
				return nil, err
			}
			d.seen.see(text, value)
			continue
		}
		if isName && d.json.PeekKind() == '"' {
			value, err := d.json.ReadToken()
			if err != nil {
				return nil, err
			}
			d.inner, d.hasInner = value.String(), true
			continue
		}
		if isName {
			d.inner, d.hasInner = "\x00", true // no name can be equal to it
		}
		if err := d.json.SkipValue(); err != nil {
			return nil, err
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return nil, err
	}
	return d.json.From(begin), nil
}

// complete checks what only the whole object shows, and moves the name to where
// a Feature has it.
func (d *PointDecoder) complete(p *event.Point) error {
	switch {
	case !d.has[0]:
		return &event.FieldError{Reason: "it has no longitude"}
	case !d.has[1]:
		return &event.FieldError{Reason: "it has no latitude"}
	case d.hasInner && d.name != nil && d.inner != string(d.nameText):
		return &event.FieldError{Pointer: "/properties/name", Reason: "the properties have another name than the point: give one of the two"}
	}
	if d.name == nil || d.hasInner {
		if p.Properties == nil {
			p.Properties = jsontext.Value("{}")
		}
		return nil
	}
	d.joined = append(append(d.joined[:0], `{"name":`...), d.name...)
	rest := []byte("}")
	if p.Properties != nil {
		rest = bytes.TrimLeft(p.Properties[1:], " \t\r\n")
	}
	if rest[0] != '}' {
		d.joined = append(d.joined, ',')
	}
	d.joined = append(d.joined, rest...)
	p.Properties = d.joined
	return nil
}

// MaxReason bounds the text of an error, in bytes: a sentence, and some of the
// client's own text.
const MaxReason = 500

// ClipReason shortens an error for an answer.
func ClipReason(s string) string {
	if len(s) <= MaxReason {
		return s
	}
	return string(bytes.ToValidUTF8([]byte(s[:MaxReason]), nil)) + "…"
}

// ClipPointer leaves out a pointer that is as long as the client's names: half
// of one points nowhere.
func ClipPointer(s string) string {
	if len(s) > MaxReason {
		return ""
	}
	return s
}
