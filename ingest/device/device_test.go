package device

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// at is the moment of nearly all messages below: epoch 1790000000.
const at = "2026-09-21T14:13:20Z"

type fixWant struct {
	device, time, lon, lat string
	properties             string // part of the Feature
}

func check(t *testing.T, fixes []Fix, err error, want ...fixWant) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(fixes) != len(want) {
		t.Fatalf("%d fixes, want %d", len(fixes), len(want))
	}
	for i, w := range want {
		f := fixes[i]
		var d event.Decoder
		var p event.Point
		if !jsontext.Value(f.Feature).IsValid() {
			t.Fatalf("not JSON: %s", f.Feature)
		}
		if err := d.Feature(f.Feature, &p); err != nil {
			t.Fatalf("the one reader refuses %s: %v", f.Feature, err)
		}
		when := ""
		if !f.Time.IsZero() {
			when = f.Time.Format(time.RFC3339Nano)
		}
		if f.Device != w.device || when != w.time || !p.Time.Equal(f.Time) {
			t.Errorf("device %q at %s (the point: %v), want %q at %s", f.Device, when, p.Time, w.device, w.time)
		}
		if w.device != "" && p.Name != w.device {
			t.Errorf("the name is %q, want %q", p.Name, w.device)
		}
		if !strings.Contains(string(f.Feature), `"coordinates":[`+w.lon+","+w.lat) {
			t.Errorf("the place is not %s %s: %s", w.lon, w.lat, f.Feature)
		}
		if !strings.Contains(string(f.Feature), w.properties) {
			t.Errorf("%s does not have %s", f.Feature, w.properties)
		}
	}
}

func TestOwnTracks(t *testing.T) {
	location := `{"_type":"location","acc":12,"alt":153,"batt":56,"bs":1,"conn":"w","lat":48.8566,"lon":2.3522,"t":"u","tid":"JJ","tst":1790000000,"vac":4,"vel":0}`
	for _, c := range []struct {
		name, body, user, device string
		want                     []fixWant
	}{
		{"location", location, "jane", "phone", []fixWant{{"jane/phone", at, "2.3522", "48.8566,153", `"acc":12,"alt":153,"batt":56`}}},
		{"by tid", location, "", "", []fixWant{{"JJ", at, "2.3522", "48.8566", `"tid":"JJ"`}}},
		{"topic wins", `{"_type":"location","lat":1,"lon":2,"tst":1790000000,"topic":"owntracks/jim/watch"}`, "jane", "phone", []fixWant{{"jim/watch", at, "2", "1", `"topic"`}}},
		{"an array", "[" + location + "," + location + "]", "u", "d", []fixWant{{"u/d", at, "2.3522", "48.8566", ""}, {"u/d", at, "2.3522", "48.8566", ""}}},
		{"transition", `{"_type":"transition","event":"enter","desc":"home","lat":1.5,"lon":2.5,"tst":1790000000,"wtst":1,"tid":"x"}`, "u", "d", []fixWant{{"u/d", at, "2.5", "1.5", `"event":"enter","desc":"home"`}}},
		{"waypoint", `{"_type":"waypoint","desc":"home","lat":1,"lon":2,"rad":50,"tst":1790000000}`, "u", "d", []fixWant{{"u/d/home", at, "2", "1", `"rad":50`}}},
		{"waypoint of a beacon", `{"_type":"waypoint","desc":"x","uuid":"y","tst":1}`, "u", "d", nil},
		{"waypoints", `{"_type":"waypoints","waypoints":[{"_type":"waypoint","desc":"a","lat":1,"lon":2,"tst":1790000000}]}`, "u", "d", []fixWant{{"u/d/a", at, "2", "1", `"desc":"a"`}}},
		{"lwt", `{"_type":"lwt","tst":1790000000}`, "u", "d", nil},
		{"status", `{"_type":"status","iOS":{}}`, "u", "d", nil},
		{"nothing", "", "u", "d", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			fixes, err := OwnTracks([]byte(c.body), c.user, c.device)
			check(t, fixes, err, c.want...)
		})
	}
	for name, body := range map[string]string{
		"encrypted": `{"_type":"encrypted","data":"x"}`, "no type": `{"lat":1,"lon":2}`, "a number for a type": `{"_type":0,"lat":1,"lon":2}`, "true for a type": `{"_type":true,"lat":1,"lon":2}`, "no place": `{"_type":"location","tst":1}`,
		"a text for a place": `{"_type":"location","lat":"1","lon":"2","tst":1}`, "no object": `7`, "no JSON": `{`, "a bad time": `{"_type":"location","lat":1,"lon":2,"tst":"soon"}`, "a list for a time": `{"_type":"location","lat":1,"lon":2,"tst":[]}`, "the year 10000": `{"_type":"location","lat":1,"lon":2,"tst":253402300800000}`,
		"no list of waypoints": `{"_type":"waypoints","waypoints":1}`, "a list in a list": `[{"_type":"waypoints","waypoints":[{"_type":"waypoints"}]}]`,
	} {
		t.Run(name, func(t *testing.T) { refused(t, func() ([]Fix, error) { return OwnTracks([]byte(body), "", "") }) })
	}
	for name, sender := range map[string][2]string{"user": {"\xe9", "x"}, "device": {"u", "\xe9"}} {
		t.Run(name+" not UTF-8", func(t *testing.T) {
			refused(t, func() ([]Fix, error) { return OwnTracks([]byte(location), sender[0], sender[1]) })
		})
	}
}

func refused(t *testing.T, read func() ([]Fix, error)) {
	t.Helper()
	fixes, err := read()
	var field *event.FieldError
	if !errors.As(err, &field) || field.Reason == "" {
		t.Errorf("%d fixes, error %v: want a reason", len(fixes), err)
	}
}

func TestOverland(t *testing.T) {
	body := `{"locations":[
		{"type":"Feature","geometry":{"type":"Point","coordinates":[-122.03,37.33]},"properties":{"timestamp":"2026-09-21T14:13:20Z","altitude":30,"speed":4,"horizontal_accuracy":10,"battery_state":"unplugged","battery_level":0.8,"wifi":"home","motion":["driving"],"device_id":"phone"}},
		{"type":"Feature","geometry":{"type":"Point","coordinates":[-122.04,37.34]},"properties":{"timestamp":"2026-09-21T07:13:21-0700","device_id":""}}],
		"current":{"type":"Feature"},"trip":{}}`
	fixes, err := Overland([]byte(body))
	check(t, fixes, err,
		fixWant{"phone", at, "-122.03", "37.33", `"battery_level":0.8`},
		fixWant{"", "2026-09-21T14:13:21Z", "-122.04", "37.34", `"device_id":""`})
	fixes, err = Overland([]byte(`{"locations":[{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":{"timestamp":1790000000,"device_id":"phone","name":""}}]}`))
	check(t, fixes, err, fixWant{"phone", at, "1", "2", `"properties":{"name":"phone","timestamp":1790000000,"device_id":"phone"}`})
	fixes, err = Overland([]byte(`{"locations":[]}`))
	check(t, fixes, err)
	for name, body := range map[string]string{
		"no locations": `{}`, "no array": `{"locations":{}}`, "no geometry": `{"locations":[{"type":"Feature","properties":{}}]}`,
		"a bad time": `{"locations":[{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":{"timestamp":"x"}}]}`,
	} {
		t.Run(name, func(t *testing.T) { refused(t, func() ([]Fix, error) { return Overland([]byte(body)) }) })
	}
}

func TestOsmAnd(t *testing.T) {
	for _, c := range []struct{ name, query string }{
		{"Traccar Client 8", "id=123456&timestamp=1790000000&lat=48.8566&lon=2.3522&speed=0.0&bearing=0.0&altitude=35.5&accuracy=12.0&batt=72.0"},
		{"milliseconds", "id=123456&timestamp=1790000000000&lat=48.8566&lon=2.3522&altitude=35.5"},
		{"ISO", "id=123456&timestamp=2026-09-21T14%3A13%3A20Z&lat=48.8566&lon=2.3522&altitude=35.5&hdop=1.2&valid=true"},
		{"ISO with a space", "id=123456&timestamp=2026-09-21+14%3A13%3A20&lat=48.8566&lon=2.3522&altitude=35.5"},
		{"one parameter for the place", "deviceid=123456&timestamp=1790000000&location=48.8566,2.3522&altitude=35.5"},
		{"GPSLogger", "device=123456&time=2026-09-21T14%3A13%3A20.000Z&lat=48.8566&lon=2.3522&alt=35.5&acc=5"},
		{"a plus sign and no zero", "id=123456&timestamp=1790000000&lat=%2B48.8566&lon=2.3522&alt=35.5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fixes, err := OsmAnd(c.query)
			check(t, fixes, err, fixWant{"123456", at, "2.3522", "48.8566,35.5", ""})
		})
	}
	fixes, err := OsmAnd("id=x&timestamp=1790000000&lat=1&lon=2&valid=false&hdop=1.5&altitude=n/a&note=a+b&key=secret")
	check(t, fixes, err, fixWant{"x", at, "2", "1", `{"name":"x","altitude":"n/a","hdop":1.5,"note":"a b","valid":false}`})
	fixes, err = OsmAnd("lat=1&lon=2&timestamp=1790000000&name=Rex&%C3%A9=1&%E9e=")
	refused(t, func() ([]Fix, error) { return fixes, err })
	fixes, err = OsmAnd("lat=1&lon=2&timestamp=1790000000&name=Rex&lat=1")
	check(t, fixes, err, fixWant{"", at, "2", "1", `{"name":"Rex"}`})
	fixes, err = OsmAnd("id=x&timestamp=1790000000&lat=1&lon=2&tag=b&tag=a&tag=b&n=1&n=x%22&n=&=0&=true&hdop=2&hdop=2")
	check(t, fixes, err, fixWant{"x", at, "2", "1", `{"name":"x","":[0,true],"hdop":2,"n":[1,"x\""],"tag":["b","a"]}`})
	for name, query := range map[string]string{"name not UTF-8": "\xad=0&lat=0&lon=0&\xf4=00", "value not UTF-8": "lat=0&lon=0&id=%E9", "second value not UTF-8": "lat=0&lon=0&a=1&a=%E9", "two devices": "lat=0&lon=0&id=a&id=b", "two latitudes": "lat=1&lat=2&lon=0", "no place": "id=1&timestamp=1", "words": "id=1&lat=north&lon=2", "bad time": "id=1&lat=1&lon=2&timestamp=yesterday", "bad query": "lat=%zz"} {
		t.Run(name, func(t *testing.T) { refused(t, func() ([]Fix, error) { return OsmAnd(query) }) })
	}
}

func TestTraccar(t *testing.T) {
	body := `{"location":{"timestamp":"2026-09-21T14:13:20.000Z","coords":{"latitude":48.8566,"longitude":2.3522,"accuracy":10.5,"speed":1.2,"heading":90,"altitude":35.5},
		"is_moving":true,"odometer":1200,"event":"motionchange","battery":{"level":0.9,"is_charging":false},"activity":{"type":"walking"},"extras":{}},"device_id":"48241179"}`
	fixes, err := Traccar([]byte(body))
	check(t, fixes, err, fixWant{"48241179", at, "2.3522", "48.8566,35.5", `"heading":90,"is_moving":true`})
	for name, body := range map[string]string{"no location": `{"device_id":"1"}`, "no coords": `{"location":{}}`, "no JSON": `id=1`} {
		t.Run(name, func(t *testing.T) { refused(t, func() ([]Fix, error) { return Traccar([]byte(body)) }) })
	}
}

// A fix that is sent again has the key that it had; another device's or moment's
// has another, and a device's keys rise with time.
func TestKeys(t *testing.T) {
	moment := time.Date(2026, 9, 21, 14, 13, 20, 0, time.UTC)
	a := Fix{Program: "osmand", Device: "x", Time: moment}
	key, ok := a.Key()
	again, _ := (&Fix{Program: "osmand", Device: "x", Time: moment, Feature: []byte("y")}).Key()
	if !ok || key != again || key.Version() != 8 {
		t.Errorf("%v and %v (version %d)", key, again, key.Version())
	}
	later, _ := (&Fix{Program: "osmand", Device: "x", Time: moment.Add(time.Second)}).Key()
	if strings.Compare(key.String(), later.String()) >= 0 || key.String()[:20] != later.String()[:20] {
		t.Errorf("%v is not beside and before %v", key, later)
	}
	for name, other := range map[string]Fix{"device": {Program: "osmand", Device: "y", Time: moment}, "program": {Program: "overland", Device: "x", Time: moment}} {
		if k, _ := other.Key(); k == key {
			t.Errorf("another %s has the same key", name)
		}
	}
	for _, f := range []Fix{{Program: "osmand", Time: moment}, {Program: "osmand", Device: "x"}} {
		if _, ok := f.Key(); ok {
			t.Errorf("%+v has a key", f)
		}
	}
}

func FuzzOwnTracks(f *testing.F) {
	f.Add([]byte(`{"_type":"location","lat":1,"lon":2,"tst":1790000000,"tid":"x","alt":1e308}`))
	f.Add([]byte(`[{"_type":"waypoints","waypoints":[{"_type":"waypoint","lat":1,"lon":2}]}]`))
	fuzz(f, func(b []byte) ([]Fix, error) { return OwnTracks(b, "u", "d") })
}

func FuzzOverland(f *testing.F) {
	f.Add([]byte(`{"locations":[{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":{"timestamp":"2026-09-21T14:13:20Z","device_id":"x","name":null}}]}`))
	fuzz(f, Overland)
}

func FuzzOsmAnd(f *testing.F) {
	f.Add([]byte("id=1&lat=1&lon=2&timestamp=1790000000&hdop=01"))
	f.Add([]byte("\xad=0&lat=0&lon=0&\xf4=00"))
	f.Add([]byte("lat=0&lon=0&name=a&%EF%BF%BD=1&%ff=2&a=1&a=1"))
	fuzz(f, func(b []byte) ([]Fix, error) { return OsmAnd(string(b)) })
}

func FuzzTraccar(f *testing.F) {
	f.Add([]byte(`{"location":{"timestamp":"x","name":"a","coords":{"latitude":1,"longitude":2,"name":"b"}},"device_id":"x","name":"c"}`))
	f.Add([]byte(`{"location":{"timestamp":"2026-09-21T14:13:20.000Z","coords":{"latitude":1,"longitude":2}},"device_id":"x"}`))
	fuzz(f, Traccar)
}

// Whatever comes in, what comes out is JSON.
func fuzz(f *testing.F, read func([]byte) ([]Fix, error)) {
	f.Fuzz(func(t *testing.T, b []byte) {
		fixes, err := read(b)
		checkFixes(t, fixes, err)
	})
}

func checkFixes(t *testing.T, fixes []Fix, err error) {
	t.Helper()
	if err != nil {
		if !utf8.ValidString(err.Error()) {
			t.Fatalf("the error is no text: %q", err)
		}
		return
	}
	for _, fix := range fixes {
		if !jsontext.Value(fix.Feature).IsValid() {
			t.Fatalf("not JSON: %q", fix.Feature)
		}
		if !utf8.ValidString(fix.Device) {
			t.Fatalf("the device is no text: %q", fix.Device)
		}
		fix.Key()
	}
}
