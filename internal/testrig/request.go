package testrig

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A Request is one body: one point or many.
type Request struct {
	Form   string
	Points []*Point
	Path   string // with the query
	Media  string
	Key    string // Idempotency-Key
	Body   []byte
}

// The forms that bodies come in.
const (
	FormPoint      = "json"
	FormFeature    = "feature"
	FormNDJSON     = "ndjson"
	FormCollection = "collection"
	FormCSV        = "csv"
)

// NewRequest is the body of these points.
func NewRequest(form, idempotencyKey string, points ...*Point) *Request {
	r := &Request{Form: form, Points: points, Path: "/point", Key: idempotencyKey}
	var b strings.Builder
	switch form {
	case FormPoint:
		r.Media = "application/json"
		b.Write(points[0].object())
	case FormFeature:
		r.Media = "application/geo+json"
		b.Write(points[0].feature())
	case FormNDJSON:
		r.Media = "application/x-ndjson"
		for i, p := range points {
			if i%2 == 0 {
				b.Write(p.object())
			} else {
				b.Write(p.feature())
			}
			b.WriteByte('\n')
		}
	case FormCollection:
		r.Media = "application/geo+json"
		b.WriteString(`{"type":"FeatureCollection","features":[`)
		for i, p := range points {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(p.feature())
		}
		b.WriteString("]}")
	case FormCSV:
		r.Media = "text/csv"
		if points[0].ID != "" {
			r.Path += "?id=code"
		}
		b.WriteString(tableOf(points))
	}
	r.Body = []byte(b.String())
	return r
}

func (p *Point) properties() map[string]any {
	m := map[string]any{"n": p.n}
	if p.Padding > 0 {
		m["pad"] = p.pad()
	}
	return m
}

func (p *Point) shownID() any {
	if p.number {
		return json.RawMessage(p.ID)
	}
	return p.ID
}

func (p *Point) object() []byte {
	m := map[string]any{"longitude": p.longitude, "latitude": p.latitude, "name": p.Name, "properties": p.properties()}
	if p.hasAltitude {
		m["altitude"] = p.altitude
	}
	if p.ID != "" {
		m["id"] = p.shownID()
	}
	return encoded(m)
}

func (p *Point) feature() []byte {
	coordinates := []float64{p.longitude, p.latitude}
	if p.hasAltitude {
		coordinates = append(coordinates, p.altitude)
	}
	properties := p.properties()
	properties["name"] = p.Name
	m := map[string]any{"type": "Feature", "geometry": map[string]any{"type": "Point", "coordinates": coordinates}, "properties": properties}
	if p.ID != "" {
		m["id"] = p.shownID()
	}
	return encoded(m)
}

func encoded(m map[string]any) []byte {
	b, _ := json.Marshal(m) // numbers, strings and maps of them
	return b
}

func tableOf(points []*Point) string {
	var b strings.Builder
	id := points[0].ID != ""
	b.WriteString("longitude,latitude,altitude,name,n")
	if id {
		b.WriteString(",code")
	}
	b.WriteByte('\n')
	for _, p := range points {
		altitude := ""
		if p.hasAltitude {
			altitude = fmt.Sprint(p.altitude)
		}
		fmt.Fprintf(&b, "%v,%v,%s,%s,%d", p.longitude, p.latitude, altitude, p.Name, p.n)
		if id {
			b.WriteString("," + p.ID)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
