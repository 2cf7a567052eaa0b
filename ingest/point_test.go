package ingest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cairn/bus"
	"cairn/event"
	"cairn/ingest/format"
)

const paris = `{"longitude": 2.3522, "latitude": 48.8566, "name": "Paris"}`

func TestPointFeature(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"least", `{"longitude":1,"latitude":-2.50}`, `"geometry":{"type":"Point","coordinates":[1,-2.5]},"properties":{}}`},
		{"name", paris, `"coordinates":[2.3522,48.8566]},"properties":{"name":"Paris"}}`},
		{"all", ` {"id":"a/b","longitude":180,"latitude":-90,"altitude":-3.5,"name":"n","time":"2026-01-02T03:04:05.1234567+01:00","properties":{ "a" : [1, 2], "b": 1.10 }} `,
			`"id":"a/b","geometry":{"type":"Point","coordinates":[180,-90,-3.5]},"properties":{"name":"n","a":[1,2],"b":1.10},"time":"2026-01-02T02:04:05.123456Z"}`},
		{"numeric id", `{"id":42,"longitude":0,"latitude":0}`, `"id":42,"geometry":`},
		{"nulls", `{"id":null,"longitude":0,"latitude":0,"altitude":null,"name":null,"time":null,"properties":null}`, `"point":{"type":"Feature","geometry":{"type":"Point","coordinates":[0,0]},"properties":{}}`},
		{"same name twice", `{"longitude":0,"latitude":0,"name":"\u0041","properties":{"name":"A"}}`, `"properties":{"name":"A"}}`},
		{"name and empty properties", `{"longitude":0,"latitude":0,"properties":{ },"name":"A"}`, `"properties":{"name":"A"}}`},
		{"escaped field", `{"longitud\u0065":0,"latitude":0}`, `"coordinates":[0,0]`},
		{"newline in string", `{"longitude":0,"latitude":0,"name":"a\nb 😀"}`, `"name":"a\nb 😀"`},
		{"large numbers stay", `{"longitude":0,"latitude":0,"properties":{"n":12345678901234567890.10}}`, `"n":12345678901234567890.10`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var d format.PointDecoder
			var e event.Event
			if err := d.Decode([]byte(test.in), &e.Point); err != nil {
				t.Fatal(err)
			}
			line := string(event.AppendEvent(nil, &e))
			if !strings.Contains(line, test.want) {
				t.Errorf("got  %s\nwant %s", line, test.want)
			}
		})
	}
}

func TestPointRefused(t *testing.T) {
	valid := `"longitude":0,"latitude":0`
	tests := []struct{ in, pointer, reason string }{
		{``, "", "ends too early"},
		{`{`, "", "ends too early"},
		{`{"longitude":1`, "", "ends too early"},
		{`nope`, "", "not JSON"},
		{`"text"`, "", "one point is an object"},
		{`null`, "", "one point is an object"},
		{`[]`, "", "application/x-ndjson"},
		{`{} {}`, "", "something follows"},
		{`{}`, "", "it has no longitude"},
		{`{"longitude":0}`, "", "it has no latitude"},
		{`{"longitude":"1","latitude":0}`, "/longitude", "not a string: leave the quotes out"},
		{`{"longitude":null,"latitude":0}`, "/longitude", "must be a number"},
		{`{"longitude":NaN,"latitude":0}`, "/longitude", "not JSON"},
		{`{"longitude":1e999,"latitude":0}`, "/longitude", "out of range"},
		{`{"longitude":180.1,"latitude":0}`, "/longitude", "-180 to 180"},
		{`{"longitude":0,"latitude":-90.5}`, "/latitude", "-90 to 90"},
		{`{"longitude":1,"longitude":1,"latitude":0}`, "/longitude", "given twice"},
		{`{` + valid + `,"lattitude":1}`, "/lattitude", `unknown field "lattitude": did you mean "latitude"?`},
		{`{"lat":0,"latitude":0,"lng":0}`, "/latitude", "given twice, under another name"},
		{`{"lat":0,"x":0}`, "/x", `did you mean "longitude"?`},
		{`{"Longitude":0,"latitude":0}`, "/Longitude", `did you mean "longitude"?`},
		{`{` + valid + `,"title":1}`, "/title", `did you mean "name"?`},
		{`{` + valid + `,"timestamp":1}`, "/timestamp", `not a time that is understood`},
		{`{` + valid + `,"elevation":1}`, "/elevation", `did you mean "altitude"?`},
		{`{` + valid + `,"colour":1}`, "/colour", "the known ones are longitude"},
		{`{` + valid + `,"altitude":"3"}`, "/altitude", "must be a number"},
		{`{` + valid + `,"name":1}`, "/name", "must be a string"},
		{`{` + valid + `,"name":"` + strings.Repeat("é", 256) + `"}`, "/name", "256 characters; at most 255 are allowed: put the rest into the properties"},
		{`{` + valid + `,"name":"a\u0000"}`, "/properties/name", `\u0000 cannot be stored`},
		{`{` + valid + `,"name":"\ud800"}`, "/name", "surrogate"},
		{`{` + valid + ",\"name\":\"\xff\"}", "/name", "UTF-8"},
		{`{` + valid + `,"name":"a","properties":{"name":"b"}}`, "/properties/name", "another name"},
		{`{` + valid + `,"name":"a","properties":{"name":null}}`, "/properties/name", "another name"},
		{`{` + valid + `,"id":true}`, "/id", "string or a number"},
		{`{` + valid + `,"id":""}`, "/id", "1 to 255 bytes"},
		{`{` + valid + `,"id":"` + strings.Repeat("x", 256) + `"}`, "/id", "1 to 255 bytes"},
		{`{` + valid + `,"id":"a\u0000"}`, "/id", "control characters"},
		{`{` + valid + `,"id":"a\nb"}`, "/id", "control characters"},
		{`{` + valid + `,"id":1e999}`, "/id", "exponent"},
		{`{` + valid + `,"time":"yesterday"}`, "/time", "RFC 3339"},
		{`{` + valid + `,"time":true}`, "/time", "it must be a time such as"},
		{`{` + valid + `,"time":"0000-01-01T00:00:00+01:00"}`, "/time", "out of range"},
		{`{` + valid + `,"properties":[]}`, "/properties", "must be an object"},
		{`{` + valid + `,"properties":{"a":1,"a":2}}`, "/properties/a", "given twice"},
		{`{` + valid + `,"properties":{"a":[0,1e400]}}`, "/properties/a/1", "exponent"},
		{`{"type":"Feature"}`, "", "application/geo+json"},
		{`{"id":1,"geometry":{}}`, "", "application/geo+json"},
		{`{` + valid + `,"type":"car"}`, "/type", "unknown field"},
		{`{"bbox":[1],"type":"FeatureCollection"}`, "", "application/geo+json"},
	}
	var d format.PointDecoder
	for _, test := range tests {
		var p event.Point
		err := d.Decode([]byte(test.in), &p)
		f, ok := err.(*event.FieldError)
		if !ok {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		if f.Pointer != test.pointer || !strings.Contains(f.Reason, test.reason) {
			t.Errorf("%.80s: %q %q, want %q %q", test.in, f.Pointer, f.Reason, test.pointer, test.reason)
		}
	}
}

func TestPostPoint(t *testing.T) {
	q := &fakeQueue{}
	address := serve(t, q, testLimits())
	a := post(t, address, "/point", "application/json", paris)
	a.want(t, http.StatusAccepted)
	events := q.events(t)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	id := events[0].ID.String()
	if want := fmt.Sprintf("{\"id\":%q,\"position\":4096}\n", id); a.body != want {
		t.Errorf("body %s, want %s", a.body, want)
	}
	if got, want := a.header.Get("Location"), "/points/"+id+"?min_position=4096"; got != want {
		t.Errorf("Location %q, want %q", got, want)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	if events[0].Type != event.Created || events[0].Received.IsZero() {
		t.Errorf("event %+v", events[0])
	}
}

func TestPostPointIDs(t *testing.T) {
	q := &fakeQueue{}
	address := serve(t, q, testLimits())
	tests := []struct{ id, shown, location string }{
		{`42`, `42`, "/points/42?"},
		{`"ci37868143"`, `"ci37868143"`, "/points/ci37868143?"},
		{`"a/b c?d#é%"`, `"a/b c?d#é%"`, "/points/a%2Fb%20c%3Fd%23%C3%A9%25?"},
		{`".."`, `".."`, "/points/" + event.Key("..").String() + "?"},
		{`"00000000-0000-0000-0000-000000000000"`, `"00000000-0000-0000-0000-000000000000"`, "/points/00000000-0000-0000-0000-000000000000?"},
	}
	for _, test := range tests {
		a := post(t, address, "/points", "application/json; charset=UTF-8", `{"longitude":1,"latitude":2,"id":`+test.id+`}`)
		a.want(t, http.StatusAccepted, `{"id":`+test.shown+`,"position":`)
		if !strings.HasPrefix(a.header.Get("Location"), test.location) {
			t.Errorf("Location %q, want %q", a.header.Get("Location"), test.location)
		}
	}
	for i, e := range q.events(t) {
		text, _ := event.IDText(e.Point.ExternalID)
		if string(e.Point.ExternalID) != tests[i].id || e.ID != event.Key(text) {
			t.Errorf("event %v has the id %s", e.ID, e.Point.ExternalID)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	q := &fakeQueue{}
	address := serve(t, q, testLimits())
	for _, key := range []string{"abc-1", `"abc-1"`, `"abc\-1"`} {
		a := post(t, address, "/point", "application/json", paris, "Idempotency-Key", key)
		if key == `"abc\-1"` {
			a.want(t, http.StatusBadRequest, "Idempotency-Key must have 1 to 255")
			continue
		}
		a.want(t, http.StatusAccepted, event.RowsOf(event.OnePoint, "", "abc-1").Key(1).String())
	}
	for _, key := range []string{`""`, "a b", `"`, `"a`, `a"b"`, "é", strings.Repeat("x", 256), `"a"b"`} {
		if _, ok := parseKey([]byte(key)); ok != (key == `"a` || key == `"` || key == `a"b"`) {
			t.Errorf("parseKey(%s) is %v", key, ok)
		}
	}
	if key, ok := parseKey([]byte(`"a\"\\"`)); !ok || key != `a"\` {
		t.Errorf("parseKey: %q %v", key, ok)
	}
}

func TestPointQueueAnswers(t *testing.T) {
	var err error
	q := &fakeQueue{fail: func(int) error { return err }}
	address := serve(t, q, testLimits())
	tests := []struct {
		err    error
		status int
		retry  string
		text   string
	}{
		{bus.ErrBusy, http.StatusTooManyRequests, "1", "too many writes"},
		{bus.ErrFull, http.StatusServiceUnavailable, "5", "the queue is full"},
		{bus.ErrUnavailable, http.StatusServiceUnavailable, "2", "not reachable"},
		{bus.ErrUncertain, http.StatusServiceUnavailable, "2", `"id":7`},
	}
	for _, test := range tests {
		err = test.err
		a := post(t, address, "/point", "application/json", `{"longitude":1,"latitude":2,"id":7}`)
		a.want(t, test.status, test.text)
		if got := a.header.Get("Retry-After"); got != test.retry {
			t.Errorf("%v: Retry-After %q, want %q", test.err, got, test.retry)
		}
	}
}

func TestPointRequestsRefused(t *testing.T) {
	address := serve(t, &fakeQueue{}, testLimits())
	post(t, address, "/point", "", paris).want(t, http.StatusUnsupportedMediaType, "no Content-Type", "text/csv")
	a := post(t, address, "/point", "application/x-www-form-urlencoded", paris)
	a.want(t, http.StatusUnsupportedMediaType, "add -H 'Content-Type: application/json'")
	if a.header.Get("Accept") != format.AcceptedTypes {
		t.Errorf("Accept %q", a.header.Get("Accept"))
	}
	post(t, address, "/point", "application/json;;=", paris).want(t, http.StatusBadRequest, "Content-Type")
	post(t, address, "/point", "application/json; charset=klingon", paris).want(t, http.StatusUnsupportedMediaType, "charset")
	post(t, address, "/point?on_conflict=replace", "application/json", paris).want(t, http.StatusBadRequest, `did you mean "on-conflict"?`)
	post(t, address, "/point?on_conflict=replace", "text/csv", "lon,lat\n1,2\n").want(t, http.StatusBadRequest, `did you mean "on-conflict"?`)
	post(t, address, "/point?on%2Dconflict=panic", "application/json", paris).want(t, http.StatusBadRequest, "park, replace or skip")
	post(t, address, "/point?limt=1", "application/json", paris).want(t, http.StatusBadRequest, `unknown query parameter "limt"`)
	post(t, address, "/point?longitude=x", "application/json", paris).want(t, http.StatusBadRequest, "is for text/csv")
	post(t, address, "/point?a=%zz", "application/json", paris).want(t, http.StatusBadRequest, "cannot be read")
	a = post(t, address, "/point", "application/json", paris, "Content-Encoding", "br")
	a.want(t, http.StatusUnsupportedMediaType, "gzip, zstd")
	if a.header.Get("Accept-Encoding") != acceptedCodings {
		t.Errorf("Accept-Encoding %q", a.header.Get("Accept-Encoding"))
	}
	post(t, address, "/point", "application/json", paris, "Content-Encoding", "gzip, zstd").want(t, http.StatusUnsupportedMediaType)
	post(t, address, "/point", "application/json", `{"longitude":1,"latitude":2,"lattitude":3}`).want(t, http.StatusBadRequest,
		`"pointer":"/lattitude"`, `unknown field "lattitude": did you mean "latitude"?`)

	exact := `{"longitude":1,"latitude":2,"properties":{"x":"` + strings.Repeat("x", format.MaxPointBytes)
	exact = exact[:format.MaxPointBytes-3] + `"}}`
	post(t, address, "/point", "application/json", exact).want(t, http.StatusAccepted)
	post(t, address, "/point", "application/json", exact+" ").want(t, http.StatusRequestEntityTooLarge, fmt.Sprint(format.MaxPointBytes))
}
