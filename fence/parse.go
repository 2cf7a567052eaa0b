package fence

import (
	"slices"
	"strings"
	"unicode/utf8"

	"cairn/event"
	"cairn/internal/earth"

	"github.com/go-json-experiment/json/jsontext"
)

// A parser reads one fence.
type parser struct {
	json                *event.Reader
	fence               *Fence
	longitude, latitude *float64
	geometry            bool // there is one
	point               bool // which is a Point
	round               bool // there is a radius
	vertices            int
}

func (p *parser) feature() error {
	return p.json.Members(func(name []byte) (err error) {
		switch string(name) {
		case `"type"`:
			return p.text("Feature")
		case `"id"`:
			return p.text(p.fence.ID)
		case `"geometry"`:
			p.geometry = true
			return p.readGeometry()
		case `"longitude"`:
			p.longitude, err = p.degrees(180)
		case `"latitude"`:
			p.latitude, err = p.degrees(90)
		case `"radius"`:
			p.round = true
			p.fence.radius, err = p.json.Number()
			if r := p.fence.radius; err == nil && !(r >= MinMetres && r <= MaxMetres) {
				err = p.json.Fail("a radius is in metres, from %d to %d", MinMetres, int(MaxMetres))
			}
		case `"names"`:
			err = p.names()
		case `"properties"`:
			err = p.properties()
		default:
			return p.json.FailNext("a fence has no such member: what is yours goes into the properties")
		}
		return err
	})
}

// text reads a string that can only be one.
func (p *parser) text(want string) error {
	got, err := p.json.Text()
	if err == nil && got != want {
		err = p.json.Fail("it is %q, but it must be %q", clip(got), want)
	}
	return err
}

func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func (p *parser) degrees(most float64) (*float64, error) {
	n, err := p.json.Number()
	if err == nil && !(n >= -most && n <= most) {
		err = p.json.Fail("it is in degrees, from %v to %v", -most, most)
	}
	return &n, err
}

func (p *parser) names() error {
	return p.list("names are a list of text", func() error {
		name, err := p.json.Text()
		switch {
		case err != nil:
			return err
		case len(p.fence.Names) == MaxNames:
			return p.json.Fail("a fence is about at most %d names", MaxNames)
		case name == "" || utf8.RuneCountInString(name) > event.MaxNameRunes || strings.ContainsRune(name, 0):
			return p.json.Fail("a name has 1 to %d characters", event.MaxNameRunes)
		case strings.Contains(strings.TrimSuffix(name, "*"), "*"):
			return p.json.Fail("a * stands at the end only, for whatever follows")
		}
		p.fence.Names = append(p.fence.Names, name)
		return nil
	})
}

func (p *parser) properties() error {
	v, err := p.json.Value()
	switch {
	case err != nil:
		return err
	case v.Kind() == 'n':
		return nil
	case v.Kind() != '{':
		return p.json.Fail("properties are an object")
	case len(v) > MaxPropertyBytes:
		return p.json.Fail("properties have at most %d bytes", MaxPropertyBytes)
	}
	v = slices.Clone(v)
	if err := v.Compact(); err != nil {
		return err
	}
	p.fence.Properties = v
	return nil
}

// list calls item for each of a list's.
func (p *parser) list(what string, item func() error) error {
	if p.json.PeekKind() != '[' {
		return p.json.FailNext("%s", what)
	}
	if _, err := p.json.ReadToken(); err != nil {
		return err
	}
	for k := p.json.PeekKind(); k != ']' && k != jsontext.KindInvalid; k = p.json.PeekKind() {
		if err := item(); err != nil {
			return err
		}
	}
	_, err := p.json.ReadToken()
	return err
}

const geometries = "the geometry of a fence is a Polygon, a MultiPolygon, or a Point with a radius beside it"

// readGeometry reads one whose members come in any order.
func (p *parser) readGeometry() error {
	var kind string
	var coordinates jsontext.Value
	err := p.json.Members(func(name []byte) (err error) {
		switch string(name) {
		case `"type"`:
			kind, err = p.json.Text()
		case `"coordinates"`:
			coordinates, err = p.json.Value()
		case `"bbox"`:
			err = p.json.SkipValue()
		case `"crs"`, `"coordRefSys"`:
			var raw jsontext.Value
			if raw, err = p.json.Value(); err == nil && !event.IsCRS84(raw) {
				err = p.json.Fail("%s", event.NotCRS84)
			}
		default:
			err = p.json.FailNext("a geometry has type and coordinates")
		}
		return err
	})
	if err != nil {
		return err
	}
	if coordinates == nil {
		return p.json.Fail("it has no coordinates")
	}
	outer := p.json
	defer func() { p.json = outer }()
	p.json = new(event.Reader)
	p.json.Start(coordinates)
	switch kind {
	case "Point":
		p.point = true
		p.fence.center, err = p.place()
	case "Polygon":
		p.fence.single = true
		err = p.polygon()
	case "MultiPolygon":
		err = p.list("coordinates are a list of polygons", p.polygon)
		if err == nil && len(p.fence.polygons) == 0 {
			err = &event.FieldError{Pointer: "", Reason: "there is no polygon in it"}
		}
	default:
		return outer.Fail("%s", geometries)
	}
	return within("/geometry/coordinates", err)
}

// within puts the place of a part before that of what is wrong in it.
func within(at string, err error) error {
	if err == nil {
		return nil
	}
	err = event.AsFieldError(err)
	if f, ok := err.(*event.FieldError); ok { //nolint:errorlint // it was just made
		f.Pointer = at + f.Pointer
	}
	return err
}

func (p *parser) polygon() error {
	var rings [][]earth.Place
	err := p.list("a polygon is a list of rings, the outer one first", func() error {
		ring, err := p.ring()
		rings = append(rings, ring)
		return err
	})
	if err == nil && len(rings) == 0 {
		err = p.json.Fail("a polygon has a ring at least")
	}
	p.fence.polygons = append(p.fence.polygons, rings)
	return err
}

func (p *parser) ring() (ring []earth.Place, err error) {
	err = p.list("a ring is a list of positions", func() error {
		at, err := p.place()
		if err != nil {
			return err
		}
		if p.vertices++; p.vertices > MaxVertices {
			return p.json.Fail("a fence has at most %d vertices: simplify it", MaxVertices)
		}
		ring = append(ring, at)
		return nil
	})
	// RFC 7946, section 3.1.6.
	if err == nil && (len(ring) < 4 || ring[0] != ring[len(ring)-1]) {
		err = p.json.Fail("a ring has four positions at least, the last of which is the first again")
	}
	return ring, err
}

// place reads a position; an altitude says nothing of an area.
func (p *parser) place() (at earth.Place, err error) {
	n := 0
	err = p.list("a position is [longitude, latitude], in degrees", func() error {
		if n++; n > 3 {
			return p.json.FailNext("a position is [longitude, latitude], in degrees")
		}
		if n == 3 {
			_, err := p.json.Number()
			return err
		}
		d, err := p.degrees([]float64{180, 90}[n-1])
		if err == nil {
			at[n-1] = *d
		}
		return err
	})
	if err == nil && n < 2 {
		err = p.json.Fail("a position is [longitude, latitude], in degrees")
	}
	return at, err
}
