package fence

import (
	"math"
	"strconv"
	"time"

	"cairn/event"

	"github.com/go-json-experiment/json/jsontext"
)

// An Event says that a name has entered or left an area: its newest point is in it now,
// and was not, or the reverse.
type Event struct {
	// Position is that of the event in the stream by which it came about, and N counts
	// those that came about by the same. Together they are its id.
	Position event.Position
	N        int
	Fence    string
	Name     string
	Entered  bool
	// Cause is what happened to the point: created, put or deleted.
	Cause string
	// Time is when the newest point was observed, else received; where none is left, when
	// the last was deleted.
	Time     time.Time
	Recorded time.Time // when the projector saw it
	// Point is the id of the newest point, as JSON; nil: the name has none any more.
	Point     jsontext.Value
	Longitude float64 // NaN where there is none
	Latitude  float64
}

// ID is the event's own. It is the same whenever the same events of the stream are
// applied again, as after a restored backup.
func (e *Event) ID() string {
	return strconv.FormatInt(int64(e.Position), 10) + "-" + strconv.Itoa(e.N)
}

// The kinds of events, as streams name them.
const (
	Enter = "enter"
	Leave = "leave"
)

// Kind is one of them.
func (e *Event) Kind() string {
	if e.Entered {
		return Enter
	}
	return Leave
}

// Append appends the event as streams, pages and webhooks have it: with type, timestamp
// and data, as Standard Webhooks recommends.
func (e *Event) Append(dst []byte) []byte {
	dst = append(append(dst, `{"type":"fence.`...), e.Kind()...)
	dst = appendTime(append(dst, `","timestamp":`...), e.Time)
	dst = append(append(dst, `,"data":{"id":"`...), e.ID()...)
	dst = append(append(dst, `","fence":"`...), e.Fence...)
	dst, _ = jsontext.AppendQuote(append(dst, `","name":`...), e.Name) // of a column: UTF-8
	dst = append(append(dst, `,"cause":"`...), e.Cause...)
	dst = strconv.AppendInt(append(dst, `","position":`...), int64(e.Position), 10)
	dst = appendTime(append(dst, `,"recorded":`...), e.Recorded)
	dst = append(dst, `,"point":`...)
	if e.Point == nil {
		return append(dst, `null,"geometry":null}}`...)
	}
	dst = append(append(dst, e.Point...), `,"geometry":`...)
	if math.IsNaN(e.Longitude) {
		return append(dst, `null}}`...)
	}
	dst = appendPlace(append(dst, `{"type":"Point","coordinates":`...), [2]float64{e.Longitude, e.Latitude})
	return append(dst, "}}}"...)
}

func appendTime(dst []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
}
