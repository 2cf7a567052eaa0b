package format

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"

	"cairn/event"
)

// gpx reads an element of GPX 1.0 or 1.1: the points wpt, rtept and trkpt, and
// what stands around them.
func (x *xmlReader) gpx(start xml.StartElement) (err error) {
	switch start.Name.Local {
	case "trk", "rte":
		x.track, x.trackErr, x.segment = "", nil, 0
	case "trkseg":
		x.segment++
	case "name":
		err = x.trackName()
	case "metadata", "extensions", "link", "author", "bounds":
		_, err = x.text()
	case "wpt", "rtept", "trkpt":
		var found foundPoint
		if found, err = x.gpxPoint(start); err == nil {
			x.pending = append(x.pending, found)
		}
	}
	return err
}

// trackName reads the name that all points of a track or route get. One that is too long
// to be theirs stays away: it would be there as often as there are points, and these are
// 30 bytes each.
func (x *xmlReader) trackName() (err error) {
	if x.track, err = x.text(); err == nil && utf8.RuneCountInString(x.track) > event.MaxNameRunes {
		x.track = ""
		x.trackErr = x.options.Warnings.add(x.number+1, "name", leftOut, fmt.Sprintf("the name of a track has at most %d characters, so the points of this one go without", event.MaxNameRunes))
	}
	return err
}

// gpxPoint reads one point to its end. A point of a track without a name of its
// own has the track's.
func (x *xmlReader) gpxPoint(start xml.StartElement) (foundPoint, error) {
	found := foundPoint{properties: map[string]any{"gpx": start.Name.Local}}
	if x.segment > 0 && start.Name.Local == "trkpt" {
		found.properties["segment"] = x.segment
	}
	for axis, name := range []string{"lon", "lat"} {
		text := strings.TrimSpace(attribute(start, name))
		f, err := number(text)
		if err == nil {
			err = event.CheckCoordinate(axis, f)
		}
		if err != nil && found.err == nil {
			found.err = fmt.Errorf("the %s is %s: %w", tableParameters[axis], Quote(text), err)
		}
		found.position, found.text = append(found.position, f), append(found.text, text)
	}
	size := 0
	for {
		t, err := x.token()
		if err != nil {
			return found, x.cut(err)
		}
		switch t := t.(type) {
		case xml.EndElement:
			if t.Name.Local == start.Name.Local {
				if start.Name.Local == "wpt" {
					return found, nil
				}
				if _, named := found.properties["name"]; !named && x.track != "" {
					found.properties["name"] = x.track
				}
				found.err = cmp.Or(found.err, x.trackErr)
				return found, nil
			}
		case xml.StartElement:
			if t.Name.Local == "extensions" || strings.HasSuffix(t.Name.Local, "Extension") {
				continue // what is in it counts as the point's own
			}
			if err := x.gpxLeaves(&found, t, &size); err != nil {
				return found, err
			}
		}
	}
}

// gpxLeaves reads an element of a point: those within it that have no others are its
// fields, as an address has.
func (x *xmlReader) gpxLeaves(found *foundPoint, start xml.StartElement, size *int) error {
	href := attribute(start, "href")
	text := []byte(href)
	for nested := false; ; {
		t, err := x.token()
		if err != nil {
			return x.cut(err)
		}
		switch t := t.(type) {
		case xml.CharData:
			if len(text)+len(t) <= MaxRowBytes && href == "" {
				text = append(text, t...)
			}
		case xml.StartElement:
			nested = true
			child := found
			if href != "" { // the text and the type of a link
				child = &foundPoint{properties: map[string]any{}}
			}
			if err := x.gpxLeaves(child, t, size); err != nil {
				return err
			}
		case xml.EndElement:
			if nested && href == "" {
				return nil
			}
			if *size += len(text) + len(start.Name.Local); *size > MaxRowBytes {
				found.err = ErrRowSize
			} else if err := x.gpxField(found, start.Name.Local, strings.TrimSpace(string(text))); err != nil {
				found.err = err
			}
			return nil
		}
	}
}

func (x *xmlReader) gpxField(found *foundPoint, name, text string) error {
	switch {
	case text == "":
	case name == "ele" && len(found.position) == 2:
		f, err := number(text)
		if err == nil {
			err = event.CheckCoordinate(2, f)
		}
		if err != nil {
			found.properties[name] = text
			return x.options.Warnings.add(x.number+1, name, notANumber, Quote(text)+": "+err.Error())
		}
		found.position = append(found.position, f)
	case name == "time":
		found.time = text
	default:
		setProperty(found.properties, name, text)
	}
	return nil
}
