//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"

	"cairn/event"

	"github.com/google/uuid"
)

// A point is told by its name, which nothing else has, and all its values
// follow from that: so the checker needs no copy of what was sent, and a point
// that came without an id is recognised too.
type point struct {
	name                          string
	padding                       int       // bytes of a property that makes it large
	id                            string    // as the client gives it; "" where it gives none
	number                        bool      // the id is a JSON number
	key                           uuid.UUID // the primary key, where the client can know it
	longitude, latitude, altitude float64
	hasAltitude                   bool
	n                             int
}

func newPoint(name string) *point {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	bits := h.Sum64()
	return &point{
		name:      name,
		longitude: float64(bits%3_600_000)/10_000 - 180,
		latitude:  float64(bits>>22%1_800_000)/10_000 - 90,
		altitude:  float64(bits>>44%10_000) / 10,

		hasAltitude: bits&1 == 1,
		n:           int(bits >> 52),
	}
}

// called gives it an id.
func (p *point) called(id string, number bool) *point {
	p.id, p.number, p.key = id, number, event.Key(id)
	return p
}

// keyed is what the row of a request with an Idempotency-Key is keyed by.
func (p *point) keyed(scope event.Scope, idempotencyKey string, row int) *point {
	p.key = event.RowsOf(scope, "", idempotencyKey).Key(int64(row))
	return p
}

func (p *point) pad() string { return strings.Repeat("x", p.padding) }

// same tells what differs between the point and what came of it; "" for nothing.
func (p *point) same(g *got) string {
	wants := map[string]any{"name": p.name, "n": float64(p.n)}
	if p.padding > 0 {
		wants["pad"] = p.pad()
	}
	switch {
	case g.longitude != p.longitude || g.latitude != p.latitude:
		return fmt.Sprintf("it is at %v %v and was sent at %v %v", g.longitude, g.latitude, p.longitude, p.latitude)
	case (g.altitude != nil) != p.hasAltitude || p.hasAltitude && *g.altitude != p.altitude:
		return fmt.Sprintf("its altitude is %v and was sent as %v (%v)", g.altitude, p.altitude, p.hasAltitude)
	case p.key != uuid.Nil && g.key != uuid.Nil && g.key != p.key:
		return fmt.Sprintf("its key is %s and should be %s", g.key, p.key)
	case p.id != "" && g.id != p.id:
		return fmt.Sprintf("its id is %q and was sent as %q", g.id, p.id)
	case len(g.properties) != len(wants):
		return fmt.Sprintf("its properties are %v", keysOf(g.properties))
	}
	for k, v := range wants {
		if g.properties[k] != v {
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

// A got is a point as PostGIS or GET has it.
type got struct {
	key                 uuid.UUID // nil from GET
	id                  string    // the client's, or the key's text
	position            int64
	longitude, latitude float64
	altitude            *float64
	properties          map[string]any
}

func (g *got) name() string {
	name, _ := g.properties["name"].(string)
	return name
}

// A request is one body: one point or many.
type request struct {
	form   string
	points []*point
	path   string // with the query
	media  string
	key    string // Idempotency-Key
	body   []byte
}

// The forms that bodies come in.
const (
	formPoint      = "json"
	formFeature    = "feature"
	formNDJSON     = "ndjson"
	formCollection = "collection"
	formCSV        = "csv"
)

func newRequest(form, idempotencyKey string, points ...*point) *request {
	r := &request{form: form, points: points, path: "/point", key: idempotencyKey}
	var b strings.Builder
	switch form {
	case formPoint:
		r.media = "application/json"
		b.Write(points[0].object())
	case formFeature:
		r.media = "application/geo+json"
		b.Write(points[0].feature())
	case formNDJSON:
		r.media = "application/x-ndjson"
		for i, p := range points {
			if i%2 == 0 {
				b.Write(p.object())
			} else {
				b.Write(p.feature())
			}
			b.WriteByte('\n')
		}
	case formCollection:
		r.media = "application/geo+json"
		b.WriteString(`{"type":"FeatureCollection","features":[`)
		for i, p := range points {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(p.feature())
		}
		b.WriteString("]}")
	case formCSV:
		r.media = "text/csv"
		if points[0].id != "" {
			r.path += "?id=code"
		}
		b.WriteString(tableOf(points))
	}
	r.body = []byte(b.String())
	return r
}

func (p *point) properties() map[string]any {
	m := map[string]any{"n": p.n}
	if p.padding > 0 {
		m["pad"] = p.pad()
	}
	return m
}

func (p *point) shownID() any {
	if p.number {
		return json.RawMessage(p.id)
	}
	return p.id
}

func (p *point) object() []byte {
	m := map[string]any{"longitude": p.longitude, "latitude": p.latitude, "name": p.name, "properties": p.properties()}
	if p.hasAltitude {
		m["altitude"] = p.altitude
	}
	if p.id != "" {
		m["id"] = p.shownID()
	}
	return encoded(m)
}

func (p *point) feature() []byte {
	coordinates := []float64{p.longitude, p.latitude}
	if p.hasAltitude {
		coordinates = append(coordinates, p.altitude)
	}
	properties := p.properties()
	properties["name"] = p.name
	m := map[string]any{"type": "Feature", "geometry": map[string]any{"type": "Point", "coordinates": coordinates}, "properties": properties}
	if p.id != "" {
		m["id"] = p.shownID()
	}
	return encoded(m)
}

func encoded(m map[string]any) []byte {
	b, _ := json.Marshal(m) // numbers, strings and maps of them
	return b
}

func tableOf(points []*point) string {
	var b strings.Builder
	id := points[0].id != ""
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
		fmt.Fprintf(&b, "%v,%v,%s,%s,%d", p.longitude, p.latitude, altitude, p.name, p.n)
		if id {
			b.WriteString("," + p.id)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// A ledger knows what was sent and what of it was acknowledged.
type ledger struct {
	mu      sync.Mutex
	points  map[string]*entry // by name
	byTurn  []*turn           // in order for each writer
	singles []*entry          // acknowledged, for readers to look at
}

// An entry is a point that was sent.
type entry struct {
	*point
	acked    bool
	position int64 // that the acknowledgement named, for a single one
}

// A turn is one request until it was answered for good, of one writer. The
// writer's next one began after its end.
type turn struct {
	writer   string
	request  *request
	attempts int
	acked    bool
	position int64 // that the answer named: the request's last point's
	seen     bool  // the checker has looked at it
}

func newLedger() *ledger { return &ledger{points: map[string]*entry{}} }

// sending notes that the request's points may be there from now on.
func (l *ledger) sending(r *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range r.points {
		l.points[p.name] = &entry{point: p}
	}
}

// ended notes what became of a request.
func (l *ledger) ended(t *turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byTurn = append(l.byTurn, t)
	if !t.acked {
		return
	}
	for _, p := range t.request.points {
		l.points[p.name].acked = true
	}
	if len(t.request.points) == 1 {
		e := l.points[t.request.points[0].name]
		e.position = t.position
		l.singles = append(l.singles, e)
	}
}

// one is an acknowledged point, one of the newest; nil while there is none.
func (l *ledger) one(salt uint64) *entry {
	const newest = 50
	l.mu.Lock()
	defer l.mu.Unlock()
	n := uint64(min(len(l.singles), newest))
	if n == 0 {
		return nil
	}
	return l.singles[uint64(len(l.singles))-1-salt%n]
}
