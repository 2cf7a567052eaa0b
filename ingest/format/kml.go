package format

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"cairn/event"
)

// maxTrackText bounds what every point of a track has of its Placemark, in bytes:
// it goes in with each of them.
const maxTrackText = 4 << 10

// A placemark is what is read of a KML Placemark until its end, because what
// describes its points may come behind them.
type placemark struct {
	properties map[string]any
	time       string
	points     []foundPoint
	whens      []string // of the track that is open
	coords     []string
	size       int
	lines      bool // it has a line or an area
	relative   bool // its altitudes are not above the sea
}

// placemark reads one to its end and makes the points pending.
func (x *xmlReader) placemark() error {
	m := &placemark{properties: map[string]any{}}
	for {
		t, err := x.token()
		if err != nil {
			return x.cut(err)
		}
		switch t := t.(type) {
		case xml.EndElement:
			switch t.Name.Local {
			case "Track":
				m.track()
			case "Placemark":
				x.pending = m.finish()
				x.pending[0].err = x.tellOf(m)
				return nil
			}
		case xml.StartElement:
			if err := x.kmlElement(m, t); err != nil {
				return err
			}
		}
	}
}

// tellOf says what was not taken as it stands. The error is that of the first point, be
// it one of the strict.
func (x *xmlReader) tellOf(m *placemark) error {
	err := m.points[0].err
	if err == nil && m.lines {
		err = x.options.Warnings.add(x.number+1, "geometry", leftOut, "a Placemark has a line or an area beside its point, which is left out")
	}
	if err == nil && m.relative {
		err = x.options.Warnings.add(x.number+1, "altitudeMode", "relative", "the altitudes are above the ground, not above the sea, as the property altitudeMode says")
	}
	return err
}

func (x *xmlReader) kmlElement(m *placemark, start xml.StartElement) error {
	name := start.Name.Local
	switch name {
	case "Point", "MultiGeometry", "MultiTrack", "ExtendedData", "SchemaData", "TimeStamp", "TimeSpan":
		return nil
	case "Track":
		m.whens, m.coords = nil, nil
		return nil
	case "LineString", "Polygon", "LinearRing", "Model":
		m.lines = true
		_, err := x.text()
		return err
	case "Data":
		return x.kmlData(m, attribute(start, "name"))
	}
	text, err := x.text()
	if err != nil {
		return err
	}
	if m.size += len(text) + len(name); m.size > MaxRowBytes && name != "when" && name != "coord" {
		return nil // finish refuses it
	}
	switch name {
	case "coordinates":
		m.points = append(m.points, kmlPoint(text, ","))
	case "coord":
		if m.size -= len(text) + len(name); len(m.coords) <= maxTrack {
			m.coords = append(m.coords, text)
		}
	case "when":
		m.size -= len(text) + len(name)
		m.time = text
		if len(m.whens) <= maxTrack {
			m.whens = append(m.whens, text)
		}
	case "name", "description", "address", "phoneNumber":
		m.set(name, text)
	case "altitudeMode":
		if m.relative = strings.HasPrefix(text, "relative"); m.relative {
			m.set(name, text)
		}
	case "begin", "end": // of a TimeSpan
		if m.set(name, text); name == "begin" {
			m.time = text
		}
	case "SimpleData":
		m.set(attribute(start, "name"), text)
	}
	return nil
}

// kmlData reads the value of a Data element.
func (x *xmlReader) kmlData(m *placemark, name string) error {
	for {
		t, err := x.token()
		if err != nil {
			return x.cut(err)
		}
		switch t := t.(type) {
		case xml.EndElement:
			if t.Name.Local == "Data" {
				return nil
			}
		case xml.StartElement:
			text, err := x.text()
			if err != nil {
				return err
			}
			if m.size += len(text) + len(name); t.Name.Local == "value" && m.size <= MaxRowBytes {
				m.set(name, text)
			}
		}
	}
}

func (m *placemark) set(name, text string) {
	if name != "" && text != "" {
		setProperty(m.properties, name, text)
	}
}

// kmlPoint reads longitude, latitude and perhaps altitude. 0 as altitude is what
// writers give who know none, and stays.
func kmlPoint(text, separator string) foundPoint {
	var p foundPoint
	fields := strings.Split(text, separator)
	if separator == " " {
		fields = strings.Fields(text)
	}
	if len(fields) < 2 || len(fields) > 3 {
		return foundPoint{text: fields, err: fmt.Errorf("the coordinates are %s: they must be longitude, latitude and perhaps altitude", Quote(text))}
	}
	for axis, field := range fields {
		f, err := number(strings.TrimSpace(field))
		if err == nil {
			err = event.CheckCoordinate(axis, f)
		}
		if err != nil {
			return foundPoint{text: fields, err: fmt.Errorf("the coordinates are %s: %w", Quote(text), err)}
		}
		p.position = append(p.position, f)
	}
	return p
}

// track takes the times and positions of a gx:Track together.
func (m *placemark) track() {
	switch {
	case len(m.coords) > maxTrack:
		m.points = append(m.points, foundPoint{err: fmt.Errorf("the track has more than %d points", maxTrack)})
	case len(m.whens) != len(m.coords) && len(m.whens) > 0:
		m.points = append(m.points, foundPoint{err: fmt.Errorf("the track has %d times for %d positions", len(m.whens), len(m.coords))})
	default:
		for i, coord := range m.coords {
			p := kmlPoint(coord, " ")
			if len(m.whens) > 0 {
				p.time = m.whens[i]
			}
			m.points = append(m.points, p)
		}
	}
	m.whens, m.coords, m.time = nil, nil, ""
}

// finish gives each point what the Placemark says of all.
func (m *placemark) finish() []foundPoint {
	if len(m.points) == 0 {
		why := errors.New("the Placemark has no position")
		if m.lines {
			why = errors.New("the Placemark has a line or an area, but Cairn takes points: Point and gx:Track")
		}
		m.points = []foundPoint{{err: why}}
	}
	for i := range m.points {
		p := &m.points[i]
		p.properties = m.properties
		if p.time == "" {
			p.time = m.time
		}
		if m.size > MaxRowBytes || len(m.points) > 1 && m.size > maxTrackText {
			p.err = fmt.Errorf("what describes it is larger than %d bytes, or of a track than %d", MaxRowBytes, maxTrackText)
		}
	}
	return m.points
}
