// Package event defines what happens to points: the event, its Position in the order
// of all events, its line in an envelope, and the one reader and writer of GeoJSON.
package event

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/paulmach/orb"
)

// The types of events. Each has the whole state of its point, never a change of
// it, so that any later part of the stream can be applied on its own.
const (
	Created = "created" // the point came in; one that is there already stays as it is
	Put     = "put"     // it is to be like this, whether it is there or not
	Deleted = "deleted" // it is to be gone; the event has no point
)

const (
	// MaxEventBytes bounds one encoded event, so that it always fits an
	// envelope and a page of answers.
	MaxEventBytes = 256 << 10
	// MaxNameRunes bounds what is copied into the column for names.
	MaxNameRunes = 255
)

// An Event is one line of an envelope: something that happened to a point.
//
//	{"id":"0193…","type":"created","received":"2026-11-21T22:43:01.5Z","point":{GeoJSON Feature}}
//	{"id":"0193…","type":"deleted","received":"2026-11-21T22:43:01.5Z","if":4096}
type Event struct {
	ID       uuid.UUID // the point's primary key
	Type     string
	Received time.Time // when the ingest service had read it, to the microsecond
	If       Condition // what has to hold for it to be applied
	Author   string    // the name of the key that wrote it; "" where there is none
	Point    Point     // not of a Deleted
}

// A Point is the GeoJSON Feature (RFC 7946, section 3.2) that came in. The raw
// fields hold JSON as it came, without insignificant white space.
type Point struct {
	// ExternalID is the id as the client gave it, a JSON string or number;
	// nil where it gave none.
	ExternalID jsontext.Value
	Position   orb.Point // longitude, latitude (RFC 7946, section 4: WGS 84, degrees)
	Altitude   float64   // metres above the ellipsoid; NaN where none was given
	// Properties is a JSON object, or nil for GeoJSON's null.
	Properties jsontext.Value
	// Time is when it was observed; zero where the client did not say.
	Time time.Time
	// Members is a JSON object of the Feature's foreign members (RFC 7946,
	// section 6.1), or nil where it has none.
	Members jsontext.Value
	// Name is what the Decoder found in the properties, "" where it found none.
	Name string
}

// HasAltitude reports whether the point came with an altitude.
func (p *Point) HasAltitude() bool { return !math.IsNaN(p.Altitude) }

// AppendEvent appends the event as one line, its newline included. The caller
// has checked the raw JSON in it; AppendEvent trusts it.
func AppendEvent(dst []byte, e *Event) []byte {
	dst = append(dst, `{"id":"`...)
	dst = appendUUID(dst, e.ID)
	dst = append(dst, `","type":"`...)
	dst = append(dst, e.Type...)
	dst = append(dst, `","received":"`...)
	dst = e.Received.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, '"')
	dst = e.If.append(dst)
	if e.Author != "" {
		dst = append(dst, `,"author":`...)
		dst = appendAuthor(dst, e.Author)
	}
	if e.Type == Deleted {
		return append(dst, '}', '\n')
	}
	dst = append(dst, `,"point":`...)
	dst = AppendFeature(dst, &e.Point)
	return append(dst, '}', '\n')
}

// AppendFeature appends the point as a GeoJSON Feature, trusting its raw JSON.
func AppendFeature(dst []byte, p *Point) []byte {
	dst = append(dst, `{"type":"Feature",`...)
	if p.ExternalID != nil {
		dst = append(dst, `"id":`...)
		dst = append(dst, p.ExternalID...)
		dst = append(dst, ',')
	}
	dst = append(dst, `"geometry":{"type":"Point","coordinates":[`...)
	dst = AppendFloat(dst, p.Position[0])
	dst = append(dst, ',')
	dst = AppendFloat(dst, p.Position[1])
	if p.HasAltitude() {
		dst = append(dst, ',')
		dst = AppendFloat(dst, p.Altitude)
	}
	dst = append(dst, `]},"properties":`...)
	if p.Properties == nil {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, p.Properties...)
	}
	if !p.Time.IsZero() {
		dst = append(dst, `,"time":"`...)
		dst = p.Time.AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, '"')
	}
	if len(p.Members) > len("{}") {
		dst = append(dst, ',')
		dst = append(dst, p.Members[1:len(p.Members)-1]...)
	}
	return append(dst, '}')
}

// appendString appends s as a JSON string. What is not UTF-8 in it is replaced.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "\uFFFD")) // fails for nothing else
	return dst
}

// appendAuthor appends a name as a JSON string. Those of keys need no look at each rune.
func appendAuthor(dst []byte, name string) []byte {
	for i := range len(name) {
		if c := name[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return appendString(dst, name)
		}
	}
	return append(append(append(dst, '"'), name...), '"')
}

// AppendFloat appends the shortest decimal that reads back as the same number,
// with an exponent only where a plain decimal would be very long.
func AppendFloat(dst []byte, f float64) []byte {
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}

func appendUUID(dst []byte, u uuid.UUID) []byte {
	var text [36]byte
	hex.Encode(text[:8], u[:4])
	hex.Encode(text[9:13], u[4:6])
	hex.Encode(text[14:18], u[6:8])
	hex.Encode(text[19:23], u[8:10])
	hex.Encode(text[24:], u[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return append(dst, text[:]...)
}
