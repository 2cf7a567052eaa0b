package event_test

import (
	"fmt"
	"math"
	"time"

	"cairn/event"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/paulmach/orb"
)

// A Feature as a client sends it. What is refused says where it is wrong.
func ExampleDecoder_Feature() {
	var d event.Decoder
	var p event.Point
	err := d.Feature([]byte(`{"type": "Feature", "id": 42, "geometry": {"type": "Point", "coordinates": [2.3522, 48.8566, 35]},
		"properties": {"name": "Paris", "time": "2026-11-26T10:00:00Z"}}`), &p)
	fmt.Println(p.Name, p.Position, p.Altitude, string(p.ExternalID), err)

	err = d.Feature([]byte(`{"type": "Feature", "geometry": {"type": "Point", "coordinates": [2.3522, 98.8566]}, "properties": null}`), &p)
	fmt.Println(err)
	// Output:
	// Paris [2.3522 48.8566] 35 42 <nil>
	// /geometry/coordinates/1: the latitude must be from -90 to 90 degrees
}

// An envelope of the stream has one line for each event: AppendEvent writes it,
// Decoder.Event reads it.
func ExampleAppendEvent() {
	id := event.Key("42")
	line := event.AppendEvent(nil, &event.Event{
		ID: id, Type: event.Created, Received: time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC),
		Point: event.Point{ExternalID: jsontext.Value("42"), Position: orb.Point{2.3522, 48.8566}, Altitude: math.NaN(), Properties: jsontext.Value(`{"name":"Paris"}`)},
	})
	line = event.AppendEvent(line, &event.Event{ID: id, Type: event.Deleted, Received: time.Date(2026, 11, 26, 11, 0, 0, 0, time.UTC), If: event.IfRevision(event.At(1, 0))})
	fmt.Print(string(line))
	// Output:
	// {"id":"c570b2b4-debc-51b4-bdaa-0630153ef0e0","type":"created","received":"2026-11-26T10:00:00Z","point":{"type":"Feature","id":42,"geometry":{"type":"Point","coordinates":[2.3522,48.8566]},"properties":{"name":"Paris"}}}
	// {"id":"c570b2b4-debc-51b4-bdaa-0630153ef0e0","type":"deleted","received":"2026-11-26T11:00:00Z","if":4096}
}

// What nats stream get POINTS 1 shows, one line at a time.
func ExampleDecoder_Event() {
	const line = `{"id":"01a2006f-5a4f-7388-aa72-6cdd6fdf07a1","type":"deleted","received":"2026-11-21T22:43:01.5Z","if":4096}`
	var d event.Decoder
	var e event.Event
	if err := d.Event([]byte(line), &e); err != nil {
		fmt.Println(err)
		return
	}
	revision, conditional := e.If.Revision()
	fmt.Println(e.Type, e.ID, "if its revision is", revision, conditional)
	// Output: deleted 01a2006f-5a4f-7388-aa72-6cdd6fdf07a1 if its revision is 4096 true
}

// The position of the eighth event in the envelope that is message 42 of the stream.
func ExamplePosition() {
	p := event.At(42, 7)
	fmt.Println(int64(p), p.Sequence(), p.Index())
	// Output: 172039 42 7
}

// The key of the point that a client calls by an id of its own: a UUID is the key itself,
// anything else has a version 5 UUID.
func ExampleKey() {
	fmt.Println(event.Key("01a2006f-5a4f-7388-aa72-6cdd6fdf07a1"))
	fmt.Println(event.Key("42"))
	// Output:
	// 01a2006f-5a4f-7388-aa72-6cdd6fdf07a1
	// c570b2b4-debc-51b4-bdaa-0630153ef0e0
}

// The rows of an upload that is sent again have the ids of its first attempt.
func ExampleRowsOf() {
	first := event.RowsOf(event.Upload, "", "the import of Tuesday")
	again := event.RowsOf(event.Upload, "", "the import of Tuesday")
	other := event.RowsOf(event.Upload, "", "the import of Wednesday")
	fmt.Println(first.Key(17) == again.Key(17), first.Key(17) == other.Key(17))
	// Output: true false
}
