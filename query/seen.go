package query

import (
	"bytes"
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
	// maxSeen bounds the properties that schemas list: what a person can choose from.
	maxSeen = 500
)

// A sample is which properties the points that were looked at have.
type sample struct {
	mu   sync.Mutex
	at   time.Duration // on the tracker's clock
	seen uint64        // the sequence that it has seen at least
	rows []sampled     // nil: none was taken
}

// A sampled point. Its properties share their names with those of others.
type sampled struct {
	x, y       float64
	properties []ogc.Seen
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
		rows, err := s.takeSample()
		if err != nil {
			s.log.Warn("the schema lists the properties that were seen before", "error", err)
		} else {
			s.sample.rows, s.sample.at, s.sample.seen = rows, now, target
		}
	}
	types := map[string]string{}
	for i := range s.sample.rows {
		if r := &s.sample.rows[i]; v.sees(r.x, r.y) {
			for _, p := range r.properties {
				if known, ok := types[p.Name]; ok {
					p.Type = joinTypes(known, p.Type)
				}
				types[p.Name] = p.Type
			}
		}
	}
	out := make([]ogc.Seen, 0, len(types))
	for name, kind := range types {
		if kind == typeNull {
			kind = ""
		}
		kind, format, _ := strings.Cut(kind, " ")
		out = append(out, ogc.Seen{Name: name, Type: kind, Format: format})
	}
	slices.SortFunc(out, func(a, b ogc.Seen) int { return strings.Compare(a.Name, b.Name) })
	return out[:min(len(out), maxSeen)]
}

// Types in the words of JSON Schema, some with a format behind a space.
const (
	typeNull     = "null"
	typeString   = "string"
	typeDate     = "string date"
	typeDateTime = "string date-time"
	typeInteger  = "integer"
	typeNumber   = "number"
)

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

func (s *service) takeSample() ([]sampled, error) {
	ctx, cancel := s.bounded()
	defer cancel()
	rows, names := []sampled{}, map[string]string{}
	err := s.reader.Sample(ctx, func(r plan.Row) error {
		x, y := r[plan.SampleLongitude], r[plan.SampleLatitude]
		if len(x) != 8 || len(y) != 8 {
			return errRow
		}
		text, err := jsonb(r[plan.SampleProperties])
		if err != nil {
			return err
		}
		rows = append(rows, sampled{math.Float64frombits(binary.BigEndian.Uint64(x)), math.Float64frombits(binary.BigEndian.Uint64(y)), propertyTypes(text, names)})
		return nil
	})
	return rows, err
}

// propertyTypes reads an object; names has each name once.
func propertyTypes(object []byte, names map[string]string) (out []ogc.Seen) {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if _, err := d.ReadToken(); err != nil {
		return nil
	}
	for d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			break
		}
		name := token.String()
		if known, ok := names[name]; ok {
			name = known
		} else {
			names[name] = name
		}
		value, err := d.ReadValue()
		if err != nil {
			break
		}
		out = append(out, ogc.Seen{Name: name, Type: typeOf(value)})
	}
	return out
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
		return "boolean"
	case '{':
		return "object"
	case '[':
		return "array"
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
