package format

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// A fix is a point of a Google Timeline, as much of it as all the forms have.
type fix struct {
	lon, lat, alt float64
	place         string // as text, where it is no numbers; "" else
	time          string
	kind          string
	details       map[string]any
}

// A timeline turns one element of a Google Timeline export into its points:
//
//	Records.json                 {"locations": [{"latitudeE7": …, "longitudeE7": …, "timestamp": …}]}
//	Semantic Location History    {"timelineObjects": [{"placeVisit": …}, {"activitySegment": …}]}
//	on the device, Android       {"semanticSegments": [{"timelinePath": [{"point": "48.85°, 2.35°", …}]}, {"visit": …}, {"activity": …}]}
//	on the device, iOS           [{"visit": {"topCandidate": {"placeLocation": "geo:48.85,2.35"}}, "startTime": …}, …]
type timeline struct {
	fixes   []fix
	last    *fix // that next was about
	compact compactor
}

// isTimeline tells an element of one by the names that it has.
func isTimeline(raw jsontext.Value) bool {
	if bytes.HasPrefix(raw, []byte(`{"type"`)) {
		return false
	}
	if bytes.Contains(raw, []byte(`"latitudeE7"`)) {
		return true
	}
	return bytes.Contains(raw, []byte(`"startTime"`)) &&
		(bytes.Contains(raw, []byte(`"visit"`)) || bytes.Contains(raw, []byte(`"activity"`)) || bytes.Contains(raw, []byte(`"timelinePath"`)) ||
			bytes.Contains(raw, []byte(`"timelineMemory"`)))
}

// e7 is a position in ten-millionths of a degree.
type e7 struct {
	LatitudeE7  *int64 `json:"latitudeE7"`
	LongitudeE7 *int64 `json:"longitudeE7"`
	LatE7       *int64 `json:"latE7"`
	LngE7       *int64 `json:"lngE7"`
	Name        string `json:"name"`
	Timestamp   string `json:"timestamp"`
	TimestampMS string `json:"timestampMs"`
}

func (e *e7) fix(kind, when string) (fix, bool) {
	lat, lon := e.LatitudeE7, e.LongitudeE7
	if lat == nil || lon == nil {
		lat, lon = e.LatE7, e.LngE7
	}
	if lat == nil || lon == nil {
		return fix{}, false
	}
	for _, own := range []string{e.Timestamp, e.TimestampMS} {
		if own != "" {
			when = own
		}
	}
	f := fix{lon: unsigned(*lon) / 1e7, lat: unsigned(*lat) / 1e7, alt: math.NaN(), kind: kind, time: when, details: map[string]any{}}
	if e.Name != "" {
		f.details["name"] = e.Name
	}
	return f, true
}

// unsigned fixes the positions west of 0 that some exports have as if their 32
// bits had no sign.
func unsigned(n int64) float64 {
	if n > 1800000000 {
		n -= 1 << 32
	}
	return float64(n)
}

// A latLng is a place as text, or an object that has it.
type latLng string

func (l *latLng) UnmarshalJSON(raw []byte) error {
	if raw[0] == '"' {
		return json.Unmarshal(raw, (*string)(l))
	}
	var object struct {
		LatLng string `json:"latLng"`
	}
	err := json.Unmarshal(raw, &object)
	*l = latLng(object.LatLng)
	return err
}

type candidate struct {
	Type          string `json:"type"`
	SemanticType  string `json:"semanticType"`
	PlaceLocation latLng `json:"placeLocation"`
}

// An element is any of a Timeline's.
type element struct {
	e7
	Altitude *float64 `json:"altitude"`
	Accuracy *float64 `json:"accuracy"`

	PlaceVisit *struct {
		Location e7       `json:"location"`
		Duration duration `json:"duration"`
	} `json:"placeVisit"`
	ActivitySegment *struct {
		Start        e7       `json:"startLocation"`
		End          e7       `json:"endLocation"`
		Duration     duration `json:"duration"`
		ActivityType string   `json:"activityType"`
		Path         struct {
			Points []e7 `json:"points"`
		} `json:"simplifiedRawPath"`
	} `json:"activitySegment"`

	StartTime string `json:"startTime"`
	EndTime   string `json:"endTime"`
	Visit     *struct {
		Top candidate `json:"topCandidate"`
	} `json:"visit"`
	Activity *struct {
		Start latLng    `json:"start"`
		End   latLng    `json:"end"`
		Top   candidate `json:"topCandidate"`
	} `json:"activity"`
	TimelinePath []struct {
		Point   latLng      `json:"point"`
		Time    string      `json:"time"`
		Minutes json.Number `json:"durationMinutesOffsetFromStartTime"`
	} `json:"timelinePath"`
	Position *struct {
		LatLng    latLng   `json:"LatLng"`
		Altitude  *float64 `json:"altitudeMeters"`
		Accuracy  *float64 `json:"accuracyMeters"`
		Timestamp string   `json:"timestamp"`
	} `json:"position"`
}

type duration struct {
	Start   string `json:"startTimestamp"`
	End     string `json:"endTimestamp"`
	StartMS string `json:"startTimestampMs"`
	EndMS   string `json:"endTimestampMs"`
}

// open reads an element. One that has no positions is no row, unless it has
// nothing that is known at all.
func (t *timeline) open(raw jsontext.Value) error {
	var e element
	t.fixes = nil
	if !raw.IsValid() { // encoding/json takes the last of two equal names, and fixes what is not UTF-8
		return notStrict(raw)
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return &event.FieldError{Reason: ClipReason("it is no part of a Google Timeline: " + err.Error())}
	}
	if f, ok := e.fix("record", ""); ok {
		t.add(f, e.Altitude, e.Accuracy)
	}
	if v := e.PlaceVisit; v != nil {
		if f, ok := v.Location.fix("visit", v.Duration.Start+v.Duration.StartMS); ok {
			t.add(f, nil, nil)
		}
	}
	if a := e.ActivitySegment; a != nil {
		for _, p := range a.Path.Points {
			if f, ok := p.fix("path", ""); ok {
				t.add(f, nil, nil)
			}
		}
		if f, ok := a.Start.fix("start", a.Duration.Start+a.Duration.StartMS); ok {
			f.details["activity"] = a.ActivityType
			t.add(f, nil, nil)
		}
		if f, ok := a.End.fix("end", a.Duration.End+a.Duration.EndMS); ok {
			f.details["activity"] = a.ActivityType
			t.add(f, nil, nil)
		}
	}
	t.device(&e)
	return nil
}

// notStrict says why JSON is not what RFC 7493 asks for.
func notStrict(raw jsontext.Value) error {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	if err := d.SkipValue(); err != nil {
		return event.AsFieldError(err)
	}
	return &event.FieldError{Reason: "not JSON"}
}

// device reads what the newer exports have.
func (t *timeline) device(e *element) {
	place := func(l latLng, kind, when string, details map[string]any) {
		if l != "" {
			t.add(fix{place: string(l), alt: math.NaN(), kind: kind, time: when, details: details}, nil, nil)
		}
	}
	for _, p := range e.TimelinePath {
		when := p.Time
		if start, err := event.ParseTime(e.StartTime); err == nil && when == "" {
			minutes, _ := p.Minutes.Float64()
			when = start.Add(time.Duration(minutes * float64(time.Minute))).Format(time.RFC3339Nano)
		}
		place(p.Point, "path", when, map[string]any{})
	}
	if v := e.Visit; v != nil {
		place(v.Top.PlaceLocation, "visit", e.StartTime, map[string]any{"place": v.Top.SemanticType})
	}
	if a := e.Activity; a != nil {
		place(a.Start, "start", e.StartTime, map[string]any{"activity": a.Top.Type})
		place(a.End, "end", e.EndTime, map[string]any{"activity": a.Top.Type})
	}
	if p := e.Position; p != nil && p.LatLng != "" {
		t.add(fix{place: string(p.LatLng), alt: math.NaN(), kind: "record", time: p.Timestamp, details: map[string]any{}}, p.Altitude, p.Accuracy)
	}
}

func (t *timeline) add(f fix, alt, accuracy *float64) {
	if alt != nil {
		f.alt = *alt
	}
	if accuracy != nil {
		f.details["accuracy"] = *accuracy
	}
	f.details["timeline"] = f.kind
	t.fixes = append(t.fixes, f)
}

func (t *timeline) more() bool { return len(t.fixes) > 0 }

// next makes a point of the first one.
func (t *timeline) next(o *Options, row int64, p *event.Point) error {
	f := t.fixes[0]
	t.fixes = t.fixes[1:]
	t.last = &f
	*p = event.Point{Altitude: math.NaN()}
	if f.place != "" {
		var err error
		if f.lon, f.lat, err = placeText(f.place); err != nil {
			return &event.FieldError{Reason: "the place is " + Quote(f.place) + ": " + err.Error()}
		}
	}
	numbers := []float64{f.lon, f.lat, f.alt}
	if math.IsNaN(f.alt) {
		numbers = numbers[:2]
	}
	if err := setPosition(p, numbers); err != nil {
		return &event.FieldError{Reason: err.Error()}
	}
	for name, value := range f.details {
		if value == "" {
			delete(f.details, name)
		}
	}
	if f.time != "" {
		if err := o.observe(p, row, "timestamp", f.time); err != nil {
			return err
		}
		if p.Time.IsZero() {
			f.details["timestamp"] = f.time
		}
	}
	p.Properties, _ = json.Marshal(f.details) // strings and finite numbers
	return t.compact.point(p)
}

// placeText reads "48.85°, 2.35°" and "geo:48.85,2.35": latitude first.
func placeText(s string) (lon, lat float64, err error) {
	s = strings.ReplaceAll(strings.TrimPrefix(s, "geo:"), "°", "")
	first, second, ok := strings.Cut(s, ",")
	if ok {
		if lat, err = strconv.ParseFloat(strings.TrimSpace(first), 64); err == nil {
			lon, err = strconv.ParseFloat(strings.TrimSpace(second), 64)
		}
	}
	if !ok || err != nil {
		return 0, 0, errNotNumber
	}
	return lon, lat, nil
}

// original is the fix as a Feature that can be corrected.
func (f *fix) original() []byte {
	p := foundPoint{position: []float64{f.lon, f.lat}, time: f.time, properties: f.details}
	if !math.IsNaN(f.alt) {
		p.position = append(p.position, f.alt)
	}
	if f.place != "" {
		p.text, p.err = []string{f.place}, errNotNumber
	}
	return p.original()
}
