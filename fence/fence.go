// Package fence has the areas for which the projector reports who enters and leaves:
// an area and its parser (here), the search for the areas that contain a place ([Set]),
// and the report of a crossing ([Event]). It depends on neither database nor queue:
// ingest parses fences, the projector evaluates them, query shows them.
package fence

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"cairn/event"
	"cairn/internal/earth"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// MaxFences bounds how many there are: each costs some hundred bytes in memory and
	// nothing where no point comes near.
	MaxFences = 10_000
	// MaxVertices bounds one: what is finer is a coastline, and is simplified before.
	MaxVertices = 10_000
	// MaxAllVertices bounds those of all fences together: 16 MB in memory.
	MaxAllVertices = 1_000_000
	// MaxBytes bounds one as it is sent: 10,000 vertices with all their digits.
	MaxBytes = 512 << 10
	// MaxMetres bounds the radius of a circle, and MinMetres is finer than any receiver
	// of satellites tells.
	MaxMetres, MinMetres = earth.MaxMetres, 1
	// MaxNames bounds the names that one is about, and MaxPropertyBytes its properties.
	MaxNames, MaxPropertyBytes = 100, 16 << 10
	// MaxID bounds an id: it is in URLs and in messages.
	MaxID = 64
)

// A Fence is an area, and of which names it tells.
type Fence struct {
	ID string
	// Names are those that it is about, or their beginnings, with a * behind; none: all.
	Names []string
	// Properties is a JSON object, or nil: it is shown, and means nothing to Cairn.
	Properties jsontext.Value

	radius   float64 // of a circle, in metres; 0: it is polygons
	center   earth.Place
	polygons [][][]earth.Place
	single   bool // one polygon, which is shown as that
	boxes    []box
}

// CheckID says what is wrong with an id of a fence or a hook.
func CheckID(id string) error {
	letter := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
	}
	if id == "" || len(id) > MaxID || strings.ContainsFunc(id, func(c rune) bool { return !letter(c) }) {
		return fmt.Errorf("an id has 1 to %d letters a to z and A to Z, digits, - and _", MaxID)
	}
	return nil
}

// Parse reads a fence, a GeoJSON Feature:
//
//	{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[13.3, 52.5], …]]}, "names": ["bus-*"]}
//	{"type": "Feature", "geometry": {"type": "Point", "coordinates": [13.4, 52.5]}, "radius": 200}
//	{"longitude": 13.4, "latitude": 52.5, "radius": 200}
//
// What it refuses is a [*event.FieldError].
func Parse(id string, body []byte) (*Fence, error) {
	if err := CheckID(id); err != nil {
		return nil, &event.FieldError{Pointer: "/id", Reason: err.Error()}
	}
	if len(body) > MaxBytes {
		return nil, &event.FieldError{Reason: fmt.Sprintf("a fence has at most %d bytes", MaxBytes)}
	}
	p := &parser{json: new(event.Reader), fence: &Fence{ID: id}}
	p.json.Start(slices.Clone(body)) // the fence keeps parts of it
	if err := p.feature(); err != nil {
		return nil, event.AsFieldError(err)
	}
	if _, err := p.json.ReadToken(); err != io.EOF {
		return nil, &event.FieldError{Reason: "something follows the fence"}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	p.fence.bound()
	return p.fence, nil
}

// check is about what only all members together say.
func (p *parser) check() error {
	f := p.fence
	switch {
	case p.longitude != nil || p.latitude != nil:
		if p.geometry || p.longitude == nil || p.latitude == nil {
			return &event.FieldError{Reason: "it has longitude and latitude, for a circle, or a geometry"}
		}
		f.center = earth.Place{*p.longitude, *p.latitude}
		p.point = true
	case !p.geometry:
		return &event.FieldError{Reason: "it has no area: give longitude, latitude and radius in metres, or a geometry"}
	}
	switch {
	case p.point && !p.round:
		return &event.FieldError{Pointer: "/radius", Reason: "a circle needs a radius, in metres"}
	case !p.point && p.round:
		return &event.FieldError{Pointer: "/radius", Reason: "a radius belongs to a Point, or to longitude and latitude"}
	}
	return nil
}

// Vertices is how many the fence has.
func (f *Fence) Vertices() (n int) {
	for _, polygon := range f.polygons {
		for _, ring := range polygon {
			n += len(ring)
		}
	}
	return max(n, 1)
}

// Has tells whether a place is in the area, its edge included.
func (f *Fence) Has(p earth.Place) bool {
	if f.radius > 0 {
		return earth.Distance(f.center[0], f.center[1], p[0], p[1]) <= f.radius
	}
	for _, polygon := range f.polygons {
		if earth.SideOf(polygon, p) != earth.Outside {
			return true
		}
	}
	return false
}

// About tells whether the fence is about a name.
func (f *Fence) About(name string) bool {
	return len(f.Names) == 0 || slices.ContainsFunc(f.Names, func(pattern string) bool {
		if beginning, ok := strings.CutSuffix(pattern, "*"); ok {
			return strings.HasPrefix(name, beginning)
		}
		return name == pattern
	})
}

// Append appends the fence as a GeoJSON Feature, as Parse reads it.
func (f *Fence) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"Feature","id":"`...)
	dst = append(append(dst, f.ID...), `","geometry":`...)
	dst = f.appendGeometry(dst)
	dst = append(dst, `,"properties":`...)
	if f.Properties == nil {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, f.Properties...)
	}
	if f.radius > 0 {
		dst = event.AppendFloat(append(dst, `,"radius":`...), f.radius)
	}
	for i, name := range f.Names {
		if i == 0 {
			dst = append(dst, `,"names":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst, _ = jsontext.AppendQuote(dst, name) // it came as JSON
	}
	if len(f.Names) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

func (f *Fence) appendGeometry(dst []byte) []byte {
	if f.radius > 0 {
		return append(appendPlace(append(dst, `{"type":"Point","coordinates":`...), f.center), '}')
	}
	kind := "MultiPolygon"
	if f.single {
		kind = "Polygon"
	}
	dst = append(append(append(dst, `{"type":"`...), kind...), `","coordinates":`...)
	if f.single {
		return append(appendRings(dst, f.polygons[0]), '}')
	}
	for i, polygon := range f.polygons {
		dst = appendRings(append(dst, opening(i)), polygon)
	}
	return append(dst, "]}"...)
}

func appendRings(dst []byte, rings [][]earth.Place) []byte {
	for i, ring := range rings {
		dst = append(dst, opening(i))
		for j, p := range ring {
			dst = appendPlace(append(dst, opening(j)), p)
		}
		dst = append(dst, ']')
	}
	return append(dst, ']')
}

func appendPlace(dst []byte, p earth.Place) []byte {
	dst = event.AppendFloat(append(dst, '['), p[0])
	return append(event.AppendFloat(append(dst, ','), p[1]), ']')
}

// opening opens a list or goes on with it.
func opening(i int) byte {
	if i == 0 {
		return '['
	}
	return ','
}
