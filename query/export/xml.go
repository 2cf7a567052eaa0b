package export

import (
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/query/plan"
)

// quote is a name as jsonb writes it.
func quote(name string) string {
	b, err := jsontext.AppendQuote(nil, name)
	if err != nil {
		return ""
	}
	return string(b)
}

// AppendXML appends text for an element or an attribute. What XML 1.0 has no way to
// write, section 2.2, becomes U+FFFD.
func AppendXML(dst, s []byte) []byte {
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		switch {
		case r == '<':
			dst = append(dst, "&lt;"...)
		case r == '>':
			dst = append(dst, "&gt;"...)
		case r == '&':
			dst = append(dst, "&amp;"...)
		case r == '"':
			dst = append(dst, "&quot;"...)
		case r == '\t' || r == '\n' || r == '\r' || r >= ' ' && r != 0xFFFE && r != 0xFFFF:
			dst = append(dst, s[:size]...)
		default:
			dst = append(dst, "\uFFFD"...)
		}
		s = s[size:]
	}
	return dst
}

func element(dst []byte, name string, content []byte) []byte {
	if len(content) == 0 {
		return dst
	}
	dst = append(append(append(dst, '<'), name...), '>')
	dst = AppendXML(dst, content)
	return append(append(append(dst, "</"...), name...), '>')
}

// named reports whether a property is wanted; nil wants all.
func named(wanted []string, name []byte) bool {
	return wanted == nil || slices.Contains(wanted, string(name))
}

// gpx writes waypoints of GPX 1.1. The element desc holds the properties, a line
// each.
type gpx struct{ wanted []string }

func (w *gpx) Begin(dst []byte) []byte {
	return append(dst, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		`<gpx version="1.1" creator="Cairn" xmlns="http://www.topografix.com/GPX/1/1">`+"\n"...)
}

func (w *gpx) End(dst []byte) ([]byte, error) { return append(dst, "</gpx>\n"...), nil }

func (w *gpx) Row(dst []byte, r plan.Row) ([]byte, error) {
	p, err := placeOf(r)
	if err != nil {
		return dst, err
	}
	dst = appendFloat(append(dst, `<wpt lat="`...), p.latitude)
	dst = appendFloat(append(dst, `" lon="`...), p.longitude)
	dst = append(dst, `">`...)
	if p.high {
		dst = append(appendFloat(append(dst, "<ele>"...), p.altitude), "</ele>"...)
	}
	if at, ok := r.Int64(plan.ColObserved); ok {
		dst = append(appendTime(append(dst, "<time>"...), at), "</time>"...)
	}
	name, err := nameOf(r)
	if err != nil {
		return dst, err
	}
	id, err := appendID(nil, r)
	if err != nil {
		return dst, err
	}
	if len(name) == 0 {
		name = id
	}
	dst = element(dst, "name", name)
	var lines []byte
	err = eachProperty(r, func(p property) {
		key := text(nil, p.name)
		if string(key) == "name" || !named(w.wanted, key) || string(p.value) == "null" {
			return
		}
		if len(lines) > 0 {
			lines = append(lines, '\n')
		}
		lines = text(append(append(lines, key...), ": "...), p.value)
	})
	dst = element(dst, "desc", lines)
	return append(element(dst, "src", id), "</wpt>\n"...), err
}

// kml writes placemarks of KML 2.2.
type kml struct{ wanted []string }

func (w *kml) Begin(dst []byte) []byte {
	return append(dst, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+
		`<kml xmlns="http://www.opengis.net/kml/2.2"><Document><name>Points</name>`+"\n"...)
}

func (w *kml) End(dst []byte) ([]byte, error) {
	return append(dst, "</Document></kml>\n"...), nil
}

func (w *kml) Row(dst []byte, r plan.Row) ([]byte, error) {
	p, err := placeOf(r)
	if err != nil {
		return dst, err
	}
	name, err := nameOf(r)
	if err != nil {
		return dst, err
	}
	dst = element(append(dst, "<Placemark>"...), "name", name)
	if at, ok := r.Int64(plan.ColObserved); ok {
		dst = append(appendTime(append(dst, "<TimeStamp><when>"...), at), "</when></TimeStamp>"...)
	}
	id, err := appendID(nil, r)
	if err != nil {
		return dst, err
	}
	dst = data(append(dst, "<ExtendedData>"...), []byte("id"), id)
	err = eachProperty(r, func(p property) {
		if key := text(nil, p.name); string(key) != "id" && named(w.wanted, key) && string(p.value) != "null" {
			dst = data(dst, key, text(nil, p.value))
		}
	})
	dst = append(dst, "</ExtendedData><Point>"...)
	if p.high {
		dst = append(dst, "<altitudeMode>absolute</altitudeMode>"...)
	}
	dst = appendFloat(append(dst, "<coordinates>"...), p.longitude)
	dst = appendFloat(append(dst, ','), p.latitude)
	if p.high {
		dst = appendFloat(append(dst, ','), p.altitude)
	}
	return append(dst, "</coordinates></Point></Placemark>\n"...), err
}

func data(dst, name, value []byte) []byte {
	dst = AppendXML(append(dst, `<Data name="`...), name)
	dst = AppendXML(append(dst, `"><value>`...), value)
	return append(dst, "</value></Data>"...)
}
