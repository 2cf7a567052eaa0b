package format

import (
	"encoding/xml"
	"fmt"
	"strings"

	"cairn/event"
)

// gpx reads an element of GPX 1.0 or 1.1: the points wpt, rtept and trkpt, and
// what stands around them.
func (x *xmlReader) gpx(start xml.StartElement) (err error) {
	switch start.Name.Local {
	case "trk", "rte":
		x.track, x.segment = "", 0
	case "trkseg":
		x.segment++
	case "name":
		x.track, err = x.text()
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
				if _, named := found.properties["name"]; !named && x.track != "" && start.Name.Local != "wpt" {
					found.properties["name"] = x.track
				}
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
