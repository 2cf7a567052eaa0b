package query

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/query/ogc"
	"cairn/query/plan"
)

const (
	// seenFor is how long a sample serves: schemas change seldom, and a sample costs
	// the database some tens of milliseconds.
	seenFor = time.Minute
	// fewSampled is below how many points a sample is taken again whenever something has
	// changed: it is read in a moment, and one upload may change all of it. Who opens
	// a layer before its first points does not miss what they have.
	fewSampled = 256
	// maxSeen bounds the properties that schemas list, the most common ones: what a person
	// can choose from. No more of one point are looked at, for a point may have 25,000.
	maxSeen = 500
	// maxSeenNames bounds the different names in a sample, and maxSeenName each, in bytes.
	maxSeenNames = 16_384
	maxSeenName  = 255
	// maxSeenViews bounds the views for which what a sample says is kept.
	maxSeenViews = 64
)

// A sample is which properties the points that were looked at have.
type sample struct {
	mu    sync.Mutex
	at    time.Duration // on the tracker's clock
	seen  uint64        // the sequence that it has seen at least
	rows  []sampled     // nil: none was taken
	names []string
	views map[string][]ogc.Seen // what it says to views, by their keys
}

// A sampled point.
type sampled struct {
	x, y       float64
	properties []sampledProperty
}

// A sampledProperty is small: a sample has up to two million.
type sampledProperty struct {
	name uint16 // in the sample's names
	kind uint8  // in kinds
}

// seen are the properties that points have, of those that the view has. It never
// fails: a schema that lists less is better than none, and any property may be asked
// for whether it is listed or not.
func (s *service) seen(v view) []ogc.Seen {
	s.sample.mu.Lock() // the caller meanwhile wants the same
	defer s.sample.mu.Unlock()
	now, target := s.tracker.Now(), s.tracker.Target()
	changed := len(s.sample.rows) < fewSampled && target != s.sample.seen
	if s.sample.rows == nil || changed || now-s.sample.at > seenFor {
		rows, names, err := s.takeSample()
		if err != nil {
			s.log.Warn("the schema lists the properties that were seen before", "error", err)
		} else {
			s.sample.rows, s.sample.names, s.sample.at, s.sample.seen = rows, names, now, target
			s.sample.views = map[string][]ogc.Seen{}
		}
	}
	key := v.key()
	out, known := s.sample.views[key]
	if !known {
		out = s.sample.says(v)
		if s.sample.rows != nil && len(s.sample.views) < maxSeenViews {
			s.sample.views[key] = out
		}
	}
	return out
}

// says are the most common properties of the points that the view has, by their names.
func (s *sample) says(v view) []ogc.Seen {
	type common struct {
		ogc.Seen
		points int
	}
	all := make([]common, len(s.names))
	for i := range s.rows {
		r := &s.rows[i]
		if !v.sees(r.x, r.y) {
			continue
		}
		for _, p := range r.properties {
			c, kind := &all[p.name], kinds[p.kind]
			if c.points > 0 {
				kind = joinTypes(c.Type, kind)
			}
			c.Type, c.points = kind, c.points+1
		}
	}
	for i := range all {
		all[i].Name = s.names[i]
	}
	all = slices.DeleteFunc(all, func(c common) bool { return c.points == 0 })
	if len(all) > maxSeen {
		slices.SortFunc(all, func(a, b common) int { return cmp.Or(b.points-a.points, strings.Compare(a.Name, b.Name)) })
		all = all[:maxSeen]
	}
	out := make([]ogc.Seen, len(all))
	for i, c := range all {
		if c.Type == typeNull {
			c.Type = ""
		}
		kind, format, _ := strings.Cut(c.Type, " ")
		out[i] = ogc.Seen{Name: c.Name, Type: kind, Format: format}
	}
	slices.SortFunc(out, func(a, b ogc.Seen) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Types in the words of JSON Schema, some with a format behind a space.
const (
	typeNull     = "null"
	typeString   = "string"
	typeDate     = "string date"
	typeDateTime = "string date-time"
	typeInteger  = "integer"
	typeNumber   = "number"
	typeBoolean  = "boolean"
	typeObject   = "object"
	typeArray    = "array"
)

// kinds are what typeOf returns.
var kinds = [...]string{typeNull, typeString, typeDate, typeDateTime, typeInteger, typeNumber, typeBoolean, typeObject, typeArray}

// joinTypes is the type of what has either; "" where they have nothing in common.
func joinTypes(a, b string) string {
	switch {
	case a == b || b == typeNull:
		return a
	case a == typeNull:
		return b
	case a == typeInteger && b == typeNumber || a == typeNumber && b == typeInteger:
		return typeNumber
	case strings.HasPrefix(a, typeString) && strings.HasPrefix(b, typeString):
		return typeString // in no one format
	}
	return ""
}

func (s *service) takeSample() ([]sampled, []string, error) {
	ctx, cancel := s.bounded()
	defer cancel()
	rows, names := []sampled{}, &sampledNames{numbers: map[string]uint16{}}
	err := s.reader.Sample(ctx, func(r plan.Row) error {
		x, y := r[plan.SampleLongitude], r[plan.SampleLatitude]
		if len(x) != 8 || len(y) != 8 {
			return errRow
		}
		text, err := jsonb(r[plan.SampleProperties])
		if err != nil {
			return err
		}
		rows = append(rows, sampled{math.Float64frombits(binary.BigEndian.Uint64(x)), math.Float64frombits(binary.BigEndian.Uint64(y)), names.typesOf(text)})
		return nil
	})
	return rows, names.list, err
}

// sampledNames are the names in a sample, each once.
type sampledNames struct {
	list    []string
	numbers map[string]uint16
}

// number is that of a name; ok is false where there is no room for it.
func (n *sampledNames) number(name string) (number uint16, ok bool) {
	if number, ok = n.numbers[name]; ok {
		return number, true
	}
	// What has no name cannot be asked for.
	if name == "" || len(name) > maxSeenName || len(n.list) >= maxSeenNames {
		return 0, false
	}
	name = strings.Clone(name)
	number = uint16(len(n.list)) //nolint:gosec // bounded above
	n.list, n.numbers[name] = append(n.list, name), number
	return number, true
}

// typesOf reads an object, as far as it is looked at.
func (n *sampledNames) typesOf(object []byte) (out []sampledProperty) {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if _, err := d.ReadToken(); err != nil {
		return nil
	}
	for len(out) < maxSeen && d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			break
		}
		number, ok := n.number(token.String())
		value, err := d.ReadValue()
		if err != nil {
			break
		}
		if ok {
			out = append(out, sampledProperty{number, uint8(slices.Index(kinds[:], typeOf(value)))}) //nolint:gosec // one of few
		}
	}
	return slices.Clip(out)
}

// typeOf is what JSON Schema calls it.
func typeOf(value jsontext.Value) string {
	switch value.Kind() {
	case '"':
		text := value[1 : len(value)-1]
		if len(text) == len(time.DateOnly) && isTime(time.DateOnly, text) {
			return typeDate
		}
		if len(text) >= len("2026-11-21T22:43:01Z") && text[10] == 'T' && isTime(time.RFC3339, text) {
			return typeDateTime
		}
		return typeString
	case 't', 'f':
		return typeBoolean
	case '{':
		return typeObject
	case '[':
		return typeArray
	case '0':
		if !bytes.ContainsAny(value, ".eE") {
			return typeInteger
		}
		return typeNumber
	}
	return typeNull
}

func isTime(layout string, text []byte) bool {
	_, err := time.Parse(layout, string(text))
	return err == nil
}
