package event

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/paulmach/orb"
)

func TestEventWireForm(t *testing.T) {
	e := Event{
		ID: uuid.MustParse("01935b2e-7f00-7abc-8def-0123456789ab"), Type: Created,
		Received: time.Date(2026, 11, 21, 22, 43, 1, 500_000_000, time.UTC),
		Point: Point{
			ExternalID: []byte(`"ci37868143"`), Position: orb.Point{2.3522, 48.8566}, Altitude: 26.49,
			Properties: []byte(`{"name":"Paris","mag":2.10}`), Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Members: []byte(`{"links":[1]}`),
		},
	}
	want := `{"id":"01935b2e-7f00-7abc-8def-0123456789ab","type":"created","received":"2026-11-21T22:43:01.5Z",` +
		`"point":{"type":"Feature","id":"ci37868143","geometry":{"type":"Point","coordinates":[2.3522,48.8566,26.49]},` +
		`"properties":{"name":"Paris","mag":2.10},"time":"2026-01-02T03:04:05Z","links":[1]}}` + "\n"
	line := AppendEvent(nil, &e)
	if string(line) != want {
		t.Fatalf("wire form:\n got %s\nwant %s", line, want)
	}
	var d Decoder
	var got Event
	if err := d.Event(line, &got); err != nil {
		t.Fatal(err)
	}
	if again := AppendEvent(nil, &got); string(again) != want {
		t.Errorf("decoded and encoded again:\n got %s\nwant %s", again, want)
	}
	if got.Point.Name != "Paris" {
		t.Errorf("name %q", got.Point.Name)
	}
}

func TestChangesWireForm(t *testing.T) {
	const begin = `{"id":"01935b2e-7f00-7abc-8def-0123456789ab","type":`
	const received = `"received":"2026-11-21T22:43:01.5Z"`
	const point = `,"point":{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":null}}`
	e := Event{ID: uuid.MustParse("01935b2e-7f00-7abc-8def-0123456789ab"), Received: time.Date(2026, 11, 21, 22, 43, 1, 500_000_000, time.UTC),
		Point: Point{Position: orb.Point{1, 2}, Altitude: math.NaN()}}
	tests := []struct {
		name   string
		change func(e *Event)
		want   string
	}{
		{"put", func(e *Event) { e.Type = Put }, begin + `"put",` + received + point},
		{"put of a revision", func(e *Event) { e.Type, e.If = Put, IfRevision(4096) }, begin + `"put",` + received + `,"if":4096` + point},
		{"put of none", func(e *Event) { e.Type, e.If = Put, IfNone() }, begin + `"put",` + received + `,"if":"none"` + point},
		{"put by somebody", func(e *Event) { e.Type, e.Author = Put, `van "7"` }, begin + `"put",` + received + `,"author":"van \"7\""` + point},
		{"deleted", func(e *Event) { e.Type = Deleted }, begin + `"deleted",` + received + `}`},
		{"put within", func(e *Event) { e.Type, e.If = Put, e.If.Within(&Area{-5, 42.5, 9, 51}) }, begin + `"put",` + received + `,"if":{"within":[-5,42.5,9,51]}` + point},
		{"deleted within", func(e *Event) { e.Type, e.If = Deleted, IfRevision(7).Within(&Area{170, -1, -170, 1}) }, begin + `"deleted",` + received + `,"if":{"within":[170,-1,-170,1],"is":7}}`},
		{"deleted if it is there", func(e *Event) { e.Type, e.If = Deleted, IfAny() }, begin + `"deleted",` + received + `,"if":"any"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, got := e, Event{}
			tt.change(&e)
			line := AppendEvent(nil, &e)
			if string(line) != tt.want+"\n" {
				t.Fatalf("wire form:\n got %s\nwant %s", line, tt.want)
			}
			if err := new(Decoder).Event(line, &got); err != nil || got.If != e.If || got.Author != e.Author || got.Type != e.Type {
				t.Errorf("read back as %+v, %v", got, err)
			}
		})
	}
}

// What a newer version wrote is told apart from what nobody can read.
func TestEventsThatAreNotKnown(t *testing.T) {
	const begin, end = `{"id":"01935b2e-7f00-7abc-8def-0123456789ab","received":"2026-11-21T22:43:01Z"`, `"point":{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]}}}`
	tests := []struct {
		name, line string
		unknown    bool
	}{
		{"another type", begin + `,"type":"moved",` + end, true},
		{"another type without what we need", `{"type":"moved","what":7}`, true},
		{"another type with another point", begin + `,"type":"moved","point":[1,2]}`, true},
		{"another type with another id", `{"id":"0193","type":"moved"}`, true},
		{"another condition", begin + `,"type":"put","if":"unless",` + end, true},
		{"an area that is none", begin + `,"type":"put","if":{"within":[1,2,3]},` + end, true},
		{"an area upside down", begin + `,"type":"put","if":{"within":[1,2,3,1]},` + end, true},
		{"no area", begin + `,"type":"put","if":{"is":"any"},` + end, true},
		{"an area within an area", begin + `,"type":"put","if":{"within":[1,2,3,4],"is":{"within":[1,2,3,4]}},` + end, true},
		{"another member beside an area", begin + `,"type":"put","if":{"within":[1,2,3,4],"until":1},` + end, true},
		{"a condition that is no revision", begin + `,"type":"put","if":-1,` + end, true},
		{"no type", begin + `,` + end, false},
		{"no point", begin + `,"type":"put"}`, false},
		{"no id", `{"type":"deleted","received":"2026-11-21T22:43:01Z"}`, false},
		{"not JSON", `{"type":"deleted"`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var e Event
			var unknown *UnknownError
			err := new(Decoder).Event([]byte(tt.line), &e)
			if err == nil || errors.As(err, &unknown) != tt.unknown {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestEventWithoutTheOptionalParts(t *testing.T) {
	e := Event{ID: NewKey(), Type: Created, Received: time.Unix(0, 0).UTC(), Point: Point{Altitude: math.NaN()}}
	line := AppendEvent(nil, &e)
	var got Event
	if err := new(Decoder).Event(line, &got); err != nil {
		t.Fatal(err)
	}
	p := got.Point
	if p.Properties != nil || p.Members != nil || p.ExternalID != nil || p.HasAltitude() || !p.Time.IsZero() {
		t.Errorf("something appeared from nothing: %+v", p)
	}
}

func TestFeature(t *testing.T) {
	const geometry = `"geometry":{"type":"Point","coordinates":[1,2]}`
	tests := []struct{ name, in, pointer, reason string }{
		{"plain", `{"type":"Feature",` + geometry + `,"properties":{}}`, "", ""},
		{"no properties", `{"type":"Feature",` + geometry + `}`, "", ""},
		{"members in any order", `{"properties":null,` + geometry + `,"id":7,"type":"Feature"}`, "", ""},
		{"odd recognised properties are no reason", `{"type":"Feature",` + geometry + `,"properties":{"name":5,"title":{},"time":1517966773840}}`, "", ""},
		{"null id", `{"type":"Feature","id":null,` + geometry + `}`, "", ""},
		{"our own members", `{"type":"Feature",` + geometry + `,"position":4096,"received":"2026-01-01T00:00:00Z","time":"2026-01-01T00:00:00Z"}`, "", ""},

		{"not an object", `[1]`, "", "it must be an object"},
		{"broken", `{"type":"Feature",`, "", "not JSON"},
		{"more behind", `{"type":"Feature",` + geometry + `} {}`, "", "something follows"},
		{"a geometry", `{"type":"Point","coordinates":[1,2]}`, "/type", `must be a "Feature"`},
		{"no type", `{` + geometry + `}`, "", "no \"type\""},
		{"no geometry", `{"type":"Feature"}`, "", "no geometry"},
		{"null geometry", `{"type":"Feature","geometry":null}`, "/geometry", "no position"},
		{"a line", `{"type":"Feature","geometry":{"type":"LineString","coordinates":[[1,2],[3,4]]}}`, "/geometry/type", "LineString"},
		{"a string", `{"type":"Feature","geometry":{"type":"Point","coordinates":["1",2]}}`, "/geometry/coordinates/0", "not a string"},
		{"one number", `{"type":"Feature","geometry":{"type":"Point","coordinates":[1]}}`, "/geometry/coordinates", "two or three"},
		{"four numbers", `{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2,3,4]}}`, "/geometry/coordinates/3", "two or three"},
		{"longitude", `{"type":"Feature","geometry":{"type":"Point","coordinates":[180.1,2]}}`, "/geometry/coordinates/0", "longitude"},
		{"latitude", `{"type":"Feature","geometry":{"type":"Point","coordinates":[1,-91]}}`, "/geometry/coordinates/1", "latitude"},
		{"too large", `{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2,1e999]}}`, "/geometry/coordinates/2", "out of range"},
		{"id", `{"type":"Feature","id":true,` + geometry + `}`, "/id", "string or a number"},
		{"empty id", `{"type":"Feature","id":"",` + geometry + `}`, "/id", "1 to 255"},
		{"time", `{"type":"Feature",` + geometry + `,"time":"yesterday"}`, "/time", "RFC 3339"},
		{"properties", `{"type":"Feature",` + geometry + `,"properties":[]}`, "/properties", "object or null"},
		{"a name twice", `{"type":"Feature",` + geometry + `,"properties":{"a":1,"a":2}}`, "/properties/a", "duplicate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Point
			err := new(Decoder).Feature([]byte(tt.in), &p)
			if tt.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var field *FieldError
			if !errors.As(err, &field) {
				t.Fatalf("got %v, want a FieldError", err)
			}
			if field.Pointer != tt.pointer || !strings.Contains(field.Reason, tt.reason) {
				t.Errorf("got %q at %q, want …%q… at %q", field.Reason, field.Pointer, tt.reason, tt.pointer)
			}
		})
	}
}

func TestFeatureKeepsForeignMembers(t *testing.T) {
	var p Point
	in := `{"type":"Feature","bbox":[1,2,1,2],"geometry":{"type":"Point","coordinates":[1,2]},"properties":{ "time":"2026-01-01T00:00:00+01:00" },"links":{"a":1}}`
	if err := new(Decoder).Feature([]byte(in), &p); err != nil {
		t.Fatal(err)
	}
	if got, want := string(p.Members), `{"bbox":[1,2,1,2],"links":{"a":1}}`; got != want {
		t.Errorf("members %s, want %s", got, want)
	}
	if got, want := string(p.Properties), `{ "time":"2026-01-01T00:00:00+01:00" }`; got != want {
		t.Errorf("properties %s, want %s", got, want)
	}
	if want := time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC); !p.Time.Equal(want) {
		t.Errorf("time %v, want %v", p.Time, want)
	}
}

func TestKeys(t *testing.T) {
	const id = "01935b2e-7f00-7abc-8def-0123456789ab"
	if got := Key(strings.ToUpper(id)).String(); got != id {
		t.Errorf("a UUID must be its own key, got %s", got)
	}
	if Key("42") == Key("43") {
		t.Error("keys of other ids must be distinct")
	}
	// Part of the wire form: these must never change.
	if got, want := Key("ci37868143").String(), "b82bbeab-be94-5b19-86eb-84afaeebbaf0"; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
}

func TestRowKeys(t *testing.T) {
	// Part of the wire form: this must never change.
	if got, want := RowsOf(Upload, "", "k").Key(1).String(), "fb4890ba-808f-8022-9144-000000000001"; got != want {
		t.Errorf("row key %s, want %s", got, want)
	}
	seen := map[uuid.UUID]string{}
	for _, request := range []struct {
		scope       Scope
		author, key string
	}{{Upload, "", "k"}, {OnePoint, "", "k"}, {Upload, "a", "k"}, {Upload, "", "ak"}, {Upload, "", "k1"}} {
		rows := RowsOf(request.scope, request.author, request.key)
		var before uuid.UUID
		for row := int64(1); row <= 70_000; row++ {
			id := rows.Key(row)
			if id.Version() != 8 || id.Variant() != uuid.RFC4122 {
				t.Fatalf("%s is of version %d and variant %v", id, id.Version(), id.Variant())
			}
			if row > 1 && bytes.Compare(before[:], id[:]) >= 0 {
				t.Fatalf("row %d: %s is not above %s", row, id, before)
			}
			if other, twice := seen[id]; twice {
				t.Fatalf("row %d of %v has the key of %s", row, request, other)
			}
			seen[id] = fmt.Sprintf("row %d of %v", row, request)
			before = id
		}
	}
}

func TestNewKeysRise(t *testing.T) {
	const makers, each = 4, 20_000
	var group sync.WaitGroup
	made := make([][]uuid.UUID, makers)
	for i := range made {
		group.Go(func() {
			for range each {
				made[i] = append(made[i], NewKey())
			}
		})
	}
	group.Wait()
	for _, ids := range made {
		for i := 1; i < len(ids); i++ {
			if bytes.Compare(ids[i-1][:], ids[i][:]) >= 0 {
				t.Fatalf("%s came after %s", ids[i], ids[i-1])
			}
		}
	}
}

func TestPosition(t *testing.T) {
	p := At(42, 7)
	if p != 42<<12|7 || p.Sequence() != 42 || EndOf(42) != 42<<12|4095 {
		t.Errorf("position %d of sequence %d", p, p.Sequence())
	}
}

func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"id":"01935b2e-7f00-7abc-8def-0123456789ab","type":"created","received":"2026-11-21T22:43:01.5Z","point":{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":{"name":"x"}}}`))
	f.Add([]byte(`{"id":"","point":{}}`))
	f.Add([]byte(`{"id":"01935b2e-7f00-7abc-8def-0123456789ab","type":"put","received":"2026-11-21T22:43:01.5Z","if":"none","author":"a\"\ufffd","point":{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]}}}`))
	f.Add([]byte(`{"id":"01935b2e-7f00-7abc-8def-0123456789ab","type":"deleted","received":"2026-11-21T22:43:01.5Z","if":4096}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var d Decoder
		var e, again Event
		if d.Event(line, &e) != nil {
			return
		}
		encoded := AppendEvent(nil, &e)
		if err := d.Event(encoded[:len(encoded)-1], &again); err != nil {
			t.Fatalf("%s\nwas read, written as\n%s\nand not read again: %v", line, encoded, err)
		}
		if got := AppendEvent(nil, &again); string(got) != string(encoded) {
			t.Fatalf("written as\n%s\nand then as\n%s", encoded, got)
		}
	})
}

func BenchmarkDecodeEvent(b *testing.B) {
	line := []byte(`{"id":"01935b2e-7f00-7abc-8def-0123456789ab","type":"created","received":"2026-11-21T22:43:01.5Z","point":{"type":"Feature","geometry":{"type":"Point","coordinates":[1.66769,42.57688]},"properties":{"geonameid":3038999,"name":"Soldeu","country":"AD","population":602,"modified":"2017-11-06"}}}`)
	var d Decoder
	var e Event
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Event(line, &e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	e := Event{ID: NewKey(), Type: Created, Received: time.Now().UTC(), Point: Point{Altitude: math.NaN(), Position: orb.Point{1.66769, 42.57688}, Properties: []byte(`{"name":"Soldeu"}`)}}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendEvent(dst[:0], &e)
	}
}
