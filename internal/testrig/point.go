package testrig

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"cairn/event"

	"github.com/google/uuid"
)

// A Point is told by its name, which nothing else has, and all its values
// follow from that: so the checker needs no copy of what was sent, and a point
// that came without an id is recognised too.
type Point struct {
	Name                          string
	Padding                       int       // bytes of a property that makes it large
	ID                            string    // as the client gives it; "" where it gives none
	number                        bool      // the id is a JSON number
	Key                           uuid.UUID // the primary key, where the client can know it
	longitude, latitude, altitude float64
	hasAltitude                   bool
	n                             int
}

// NewPoint is the point of that name.
func NewPoint(name string) *Point {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	bits := h.Sum64()
	return &Point{
		Name:      name,
		longitude: float64(bits%3_600_000)/10_000 - 180,
		latitude:  float64(bits>>22%1_800_000)/10_000 - 90,
		altitude:  float64(bits>>44%10_000) / 10,

		hasAltitude: bits&1 == 1,
		n:           int(bits >> 52),
	}
}

// Called gives it an id.
func (p *Point) Called(id string, number bool) *Point {
	p.ID, p.number, p.Key = id, number, event.Key(id)
	return p
}

// Keyed is what the row of a request with an Idempotency-Key is keyed by.
func (p *Point) Keyed(scope event.Scope, idempotencyKey string, row int) *Point {
	p.Key = event.RowsOf(scope, "", idempotencyKey).Key(int64(row))
	return p
}

func (p *Point) pad() string { return strings.Repeat("x", p.Padding) }

// Same says what differs between the point and the outcome; "" for nothing.
func (p *Point) Same(g *Got) string {
	wants := map[string]any{"name": p.Name, "n": p.n}
	if p.Padding > 0 {
		wants["pad"] = p.pad()
	}
	switch {
	case g.Longitude != p.longitude || g.Latitude != p.latitude:
		return fmt.Sprintf("it is at %v %v and was sent at %v %v", g.Longitude, g.Latitude, p.longitude, p.latitude)
	case (g.Altitude != nil) != p.hasAltitude || p.hasAltitude && *g.Altitude != p.altitude:
		return fmt.Sprintf("its altitude is %v and was sent as %v (%v)", g.Altitude, p.altitude, p.hasAltitude)
	case p.Key != uuid.Nil && g.Key != uuid.Nil && g.Key != p.Key:
		return fmt.Sprintf("its key is %s and should be %s", g.Key, p.Key)
	case p.ID != "" && g.ID != p.ID:
		return fmt.Sprintf("its id is %q and was sent as %q", g.ID, p.ID)
	case len(g.Properties) != len(wants):
		return fmt.Sprintf("its properties are %v", keysOf(g.Properties))
	}
	for k, v := range wants {
		if fmt.Sprint(g.Properties[k]) != fmt.Sprint(v) { // a number may be a json.Number
			return fmt.Sprintf("its property %s differs", k)
		}
	}
	return ""
}

func keysOf(m map[string]any) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

// A Got is a point as PostGIS or GET has it.
type Got struct {
	Key                 uuid.UUID // nil from GET
	ID                  string    // the client's, or the key's text
	Position, Revision  int64
	Longitude, Latitude float64
	Altitude            *float64
	Properties          map[string]any
}

// Name is what the point is told by.
func (g *Got) Name() string {
	name, _ := g.Properties["name"].(string)
	return name
}

// Got is the feature as it is compared.
func (f *Feature) Got() *Got {
	g := &Got{ID: fmt.Sprint(f.ID), Position: f.Position, Revision: f.Revision, Properties: f.Properties}
	number := func(i int) float64 {
		n, _ := strconv.ParseFloat(f.Geometry.Coordinates[i].String(), 64) // JSON has read it
		return n
	}
	if c := f.Geometry.Coordinates; len(c) >= 2 {
		g.Longitude, g.Latitude = number(0), number(1)
		if len(c) > 2 {
			altitude := number(2)
			g.Altitude = &altitude
		}
	}
	return g
}
