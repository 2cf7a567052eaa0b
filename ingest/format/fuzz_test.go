package format

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
	"cairn/internal/corpus"
	"cairn/internal/web"
)

// checkEvent is what must hold for all that is accepted: it is one line, of at
// most event.MaxEventBytes, and reads back as the same event.
func checkEvent(t *testing.T, p *event.Point) {
	t.Helper()
	e := event.Event{ID: event.RowsOf(event.Upload, "", "key").Key(1), Type: event.Created, Received: time.Unix(1795300000, 0).UTC(), Point: *p}
	line := event.AppendEvent(nil, &e)
	if len(line) > event.MaxEventBytes {
		return // ingest refuses it
	}
	if bytes.IndexByte(line, '\n') != len(line)-1 || !utf8.Valid(line) {
		t.Fatalf("not one line of text: %q", line)
	}
	if !jsontext.Value(line).IsValid() {
		t.Fatalf("not JSON: %q", line)
	}
	var d event.Decoder
	var back event.Event
	if err := d.Event(line, &back); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	again := event.AppendEvent(nil, &back)
	// The bus copies a time from the properties; here it may not be known yet.
	if back.Point.Time.IsZero() == e.Point.Time.IsZero() && !bytes.Equal(line, again) {
		t.Fatalf("it changes on its way:\n%q\n%q", line, again)
	}
	switch {
	case back.ID != e.ID, back.Point.Position != e.Point.Position,
		math.Float64bits(back.Point.Altitude) != math.Float64bits(e.Point.Altitude) && !math.IsNaN(e.Point.Altitude),
		string(back.Point.Properties) != string(e.Point.Properties),
		string(back.Point.Members) != string(e.Point.Members),
		string(back.Point.ExternalID) != string(e.Point.ExternalID),
		!e.Point.Time.IsZero() && !back.Point.Time.Equal(e.Point.Time):
		t.Fatalf("it reads back as another:\n%+v\n%+v", e, back)
	}
	var k compactor
	if err := k.point(&back.Point); err != nil {
		t.Fatalf("what came back cannot be stored: %v: %q", err, line)
	}
}

// checkRows reads a body to its end.
func checkRows(t *testing.T, body []byte, k Kind, o Options) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(body))
	source, err := Open(r, k, o)
	for i := 0; err == nil; i++ {
		if raw, ok := Single(source); ok {
			var d FeatureDecoder
			var p event.Point
			if d.Decode(raw, &p) == nil {
				checkEvent(t, &p)
			}
			return
		}
		if i > len(body)+1 {
			t.Fatal("it does not end")
		}
		var p event.Point
		err = source.Next(&p)
		var wrong *event.FieldError
		if err == nil {
			checkEvent(t, &p)
		} else if errors.As(err, &wrong) {
			if wrong.Reason == "" {
				t.Fatal("no reason")
			}
			err = nil
		}
	}
	var problem *web.Problem
	if err != io.EOF && (!errors.As(err, &problem) || problem.Status < 400 || problem.Status >= 500) {
		t.Fatalf("a body must not be our fault: %v", err)
	}
}

const paris = `{"longitude": 2.3522, "latitude": 48.8566, "name": "Paris"}`

func feature(id, properties string) string {
	return `{"type":"Feature","id":` + id + `,"geometry":{"type":"Point","coordinates":[1.5,2.5]},"properties":` + properties + `}`
}

func FuzzPoint(f *testing.F) {
	for _, seed := range []string{
		paris, `{"id":"a","longitude":180,"latitude":-90,"altitude":-3.5e-7,"name":"n","time":"2026-01-02T03:04:05.1234567+01:00","properties":{ "a" : [1, 2], "time":"2026-01-02T03:04:05Z" }}`,
		`{"lat":1,"type":"Feature"}`, `{"name":"\u0000\ud83d\ude00","properties":{"name":"x"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d PointDecoder
		var p event.Point
		if err := d.Decode(raw, &p); err == nil {
			checkEvent(t, &p)
		} else if _, ok := err.(*event.FieldError); !ok {
			t.Fatalf("%T: %v", err, err)
		}
	})
}

func FuzzCollection(f *testing.F) {
	one := feature(`"a"`, `{"a": [1, {"b":null}], "name":"x"}`)
	for _, seed := range []string{
		one, `{"type":"FeatureCollection","features":[` + one + `,7,` + one + `],"bbox":[1]}`,
		`{"features":[],"crs":null,"type":"FeatureCollection"}`,
		`{"type":"Feature","\u0074ime":"2026-01-02T03:04:05Z","geometry":{"type":"Point","coordinates":[1,2,3]},"properties":{"time":"2026-01-02T03:04:05Z"},"x":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) { checkRows(t, body, GeoJSON, Options{}) })
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(feature("1", "null") + "\n" + paris + "\r\n\nx\n"))
	f.Add([]byte(`{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":{"a": "b"},"id":3,"position":1}`))
	f.Fuzz(func(t *testing.T, body []byte) { checkRows(t, body, Lines, Options{}) })
}

func FuzzSequence(f *testing.F) {
	f.Add([]byte("\x1e" + feature("1", "null") + "\n\x1e\x1e" + paris + "\n\x1e{"))
	f.Fuzz(func(t *testing.T, body []byte) { checkRows(t, body, Sequence, Options{}) })
}

func FuzzTable(f *testing.F) {
	f.Add("", []byte("lon,lat,a,name\n1,2,007,\"x, \"\"y\"\"\"\n3,4,1.10,\n"))
	f.Add("longitude=a&latitude=b&id=c&time=d&name=e&strings=f&delimiter=;", []byte("a;b;c;d;e;f\n1;2;x;2026-01-02T03:04:05Z;n;5\n"))
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		if o, err := ParseOptions(Table, query); err == nil {
			checkRows(t, body, Table, o)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("longitude=a&delimiter=;&strings=a,b&time-format=%d.%m.%Y&time-zone=Europe/Paris&strict&charset=latin1")
	f.Add("a=%zz&&=&latitude")
	f.Add("time-format=%ڵ0")
	f.Add("time-format=%\xda")
	f.Fuzz(func(t *testing.T, query string) {
		for _, k := range []Kind{Table, Lines} {
			_, err := ParseOptions(k, query)
			var p *web.Problem
			if err != nil && (!errors.As(err, &p) || p.Status < 400 || p.Status > 415 || !utf8.ValidString(p.Detail)) {
				t.Fatalf("%v", err)
			}
		}
	})
}

func FuzzContentType(f *testing.F) {
	f.Add("text/csv; charset=utf-8; header=present")
	f.Fuzz(func(t *testing.T, contentType string) {
		m, err := ReadType(contentType)
		if err == nil && m.Kind == 0 {
			t.Fatal("no kind")
		}
	})
}

// corpusOf seeds a fuzzer with the inputs of one ending.
func corpusOf(f *testing.F, endings ...string) {
	f.Helper()
	for _, c := range corpus.Read(f, "../testdata/corpus") {
		for _, ending := range endings {
			if strings.HasSuffix(c.File, ending) {
				f.Add(c.Body)
			}
		}
	}
}

func FuzzJSON(f *testing.F) {
	corpusOf(f, ".json", ".geojson")
	f.Fuzz(func(t *testing.T, body []byte) {
		checkRows(t, body, JSON, Options{Warnings: &Warnings{}})
		checkRows(t, body, JSON, Options{Warnings: &Warnings{Strict: true}, explode: true})
	})
}

func FuzzGPX(f *testing.F) {
	corpusOf(f, ".gpx")
	f.Fuzz(func(t *testing.T, body []byte) { checkRows(t, body, GPX, Options{Warnings: &Warnings{}}) })
}

func FuzzKML(f *testing.F) {
	corpusOf(f, ".kml")
	f.Fuzz(func(t *testing.T, body []byte) { checkRows(t, body, KML, Options{Warnings: &Warnings{}}) })
}

func FuzzForm(f *testing.F) {
	corpusOf(f, ".form")
	f.Fuzz(func(t *testing.T, body []byte) {
		checkRows(t, body, Form, Options{Warnings: &Warnings{}, boundary: "XX"})
	})
}

func FuzzCSV(f *testing.F) {
	corpusOf(f, ".csv", ".tsv")
	f.Fuzz(func(t *testing.T, body []byte) { checkRows(t, body, Table, Options{Warnings: &Warnings{}}) })
}

func FuzzCharset(f *testing.F) {
	f.Add("windows-1252", []byte("lat,lon,name\n1,2,\xe9\n"))
	f.Add("utf-16", []byte("\xff\xfel\x00a\x00t\x00"))
	f.Fuzz(func(t *testing.T, charset string, body []byte) {
		o := Options{Warnings: &Warnings{}}
		if o.SetCharset(charset) == nil {
			checkRows(t, body, Table, o)
			checkRows(t, body, Lines, o)
		}
	})
}

// UTF-16 comes out as what it says, however it is cut into reads, or is refused.
func FuzzUTF16(f *testing.F) {
	for _, s := range []string{"l\x00a\x00", "\x3d\xd8\x00\xde", "\x3d\xd8", "\x00\xde\x3d\xd8", "\xfd\xff", "l\x00a", ""} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, big bool) {
		order, charset := binary.ByteOrder(binary.LittleEndian), "utf-16le"
		if big {
			order, charset = binary.BigEndian, "utf-16be"
		}
		if HasMark(body) {
			return // which says the order itself
		}
		units := make([]uint16, len(body)/2)
		whole := len(body)%2 == 0
		for i := range units {
			units[i] = order.Uint16(body[2*i:])
		}
		want := string(utf16.Decode(units))
		for i := 0; i < len(units); i++ {
			if utf16.IsSurrogate(rune(units[i])) {
				whole = whole && i+1 < len(units) && utf16.DecodeRune(rune(units[i]), rune(units[i+1])) != utf8.RuneError
				i++
			}
		}
		for _, r := range []io.Reader{bytes.NewReader(body), iotest.OneByteReader(bytes.NewReader(body))} {
			got, err := io.ReadAll(inUTF8(bufio.NewReader(r), &Options{charset: charset}))
			if whole != (err == nil) || err == nil && string(got) != want {
				t.Fatalf("%q: %q, %v; want %q, %v", body, got, err, want, whole)
			}
		}
	})
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-01-02T03:04:05Z", "2026-01-02 03:04", "1790000000.25", "20260102030405", "Fri, 02 Jan 2026 03:04:05 GMT", "2026:01:02 03:04:05,5 +0100"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c clock
		when, _, err := c.parse(s)
		if err != nil {
			return
		}
		if again, err := event.ParseTime(when.Format(time.RFC3339Nano)); err != nil || !again.Equal(when) {
			t.Fatalf("%q is %v, which is read back as %v, %v", s, when, again, err)
		}
	})
}

func FuzzCoordinate(f *testing.F) {
	for _, s := range []string{"48.85", "48,85", `48°51'24"N`, "N 48 51", "24s", "2°21′E", "-0.5°"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for axis := range 2 {
			got, err := coordinate(s, axis, true)
			if err == nil && event.CheckCoordinate(axis, got) != nil {
				t.Fatalf("%q is %v", s, got)
			}
		}
	})
}

func FuzzGeometry(f *testing.F) {
	for _, s := range []string{"POINT Z (1 2 3)", "SRID=4326;POINT(1 2)", "0101000020E6100000CDCCCCCCCCCC0240CDCCCCCCCC6C4840", `{"type":"Point","coordinates":[1,2]}`, "48.85 2.35 3 4", "48.85,2.35"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return
		}
		var d event.Decoder
		p := event.Point{Altitude: math.NaN()}
		if cellGeometry(s, true, true, &d, &p) == nil {
			p.Properties = []byte("{}")
			checkEvent(t, &p)
		}
	})
}
