package ingest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn/event"
)

// withPhoto is a position of μlogger with its photo, of 3 MB.
var withPhoto = strings.ReplaceAll(`
------uLoggerBoundaryQ2Fpcm4
Content-Disposition: form-data; name="action"

addpos
------uLoggerBoundaryQ2Fpcm4
Content-Disposition: form-data; name="lat"

48.8566
------uLoggerBoundaryQ2Fpcm4
Content-Disposition: form-data; name="lon"

2.3522
------uLoggerBoundaryQ2Fpcm4
Content-Disposition: form-data; name="time"

1790000000
------uLoggerBoundaryQ2Fpcm4
Content-Disposition: form-data; name="comment"

a gate
------uLoggerBoundaryQ2Fpcm4
Content-Disposition: form-data; name="image"; filename="upload"
Content-Type: image/jpeg
Content-Transfer-Encoding: binary

`+strings.Repeat("\xff\xd8photo", 400_000)+`
------uLoggerBoundaryQ2Fpcm4--
`, "\n", "\r\n")

// What each program sends is stored, and answered as the program wants it.
func TestDevices(t *testing.T) {
	q := &fakeQueue{}
	address := serve(t, q, testLimits())
	const observed = "2026-09-21T14:13:20Z"
	for _, c := range []struct {
		name, method, path, contentType, body string
		headers                               []string
		answer, device, property              string
	}{
		{"OwnTracks", "POST", "/point/owntracks", "application/json",
			`{"_type":"location","lat":48.8566,"lon":2.3522,"tst":1790000000,"acc":12,"batt":56,"tid":"JJ","vel":3}`,
			[]string{"X-Limit-U", "jane", "X-Limit-D", "phone"}, `[]`, "jane/phone", `"batt":56`},
		{"OwnTracks with Basic", "POST", "/point/owntracks?d=phone", "application/json",
			`{"_type":"location","lat":48.8566,"lon":2.3522,"tst":1790000000}`,
			[]string{"Authorization", "Basic amFuZTpzZWNyZXQ="}, `[]`, "jane/phone", `"tst":1790000000`},
		{"Overland", "POST", "/point/overland", "application/json",
			`{"locations":[{"type":"Feature","geometry":{"type":"Point","coordinates":[2.3522,48.8566]},"properties":{"timestamp":"2026-09-21T14:13:20Z","device_id":"p1","battery_level":0.5}}]}`,
			nil, `{"result":"ok"}`, "p1", `"battery_level":0.5`},
		{"OsmAnd by GET", "GET", "/point/osmand?id=123&lat=48.8566&lon=2.3522&timestamp=1790000000&hdop=1.5&valid=true", "", "", nil, "", "123", `"hdop":1.5`},
		{"Traccar Client 8", "POST", "/point/osmand?id=123&lat=48.8566&lon=2.3522&timestamp=1790000000&batt=72.0", "application/x-www-form-urlencoded", "", nil, "", "123", `"batt":72.0`},
		{"a form", "POST", "/point/osmand", "application/x-www-form-urlencoded", "id=123&lat=48.8566&lon=2.3522&timestamp=1790000000000&bearing=90", nil, "", "123", `"bearing":90`},
		{"Traccar Client 9", "POST", "/point/osmand", "application/json",
			`{"location":{"timestamp":"2026-09-21T14:13:20.000Z","coords":{"latitude":48.8566,"longitude":2.3522,"accuracy":10},"battery":{"level":1}},"device_id":"123"}`,
			nil, "", "123", `"accuracy":10`},
		{"GPSLogger", "GET", "/point/from/gpslogger/jane?lat=48.8566&longitude=2.3522&time=2026-09-21T14:13:20.000Z&s=1.5", "", "", nil, "", "jane", `"s":1.5`},
		{"PhoneTrack", "POST", "/point/from/phonetrack/index.php/apps/phonetrack/logPost/0123abc/jane", "application/x-www-form-urlencoded", "lat=48.8566&lon=2.3522&timestamp=1790000000&acc=5.0&bat=80.0", nil, `{"done": 1, "friends": []}`, "jane", `"bat":80.0`},
		{"μlogger", "POST", "/point/from/ulogger/jane/client/index.php", "application/x-www-form-urlencoded", "lon=2.3522&time=1790000000&action=addpos&trackid=1&lat=48.8566&accuracy=5.0", nil, `{"error": false}`, "jane", `"accuracy":5.0`},
		{"μlogger with a photo", "POST", "/point/from/ulogger/jane/client/index.php", "multipart/form-data; boundary=----uLoggerBoundaryQ2Fpcm4", withPhoto, nil, `{"error": false}`, "jane", `"comment":"a gate"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(q.events(t))
			a := exchange(t, c.method, address, c.path, c.contentType, strings.NewReader(c.body), c.headers...)
			if a.status != http.StatusOK || strings.TrimSpace(a.body) != c.answer {
				t.Fatalf("%d %s", a.status, a.body)
			}
			events := q.events(t)[before:]
			if len(events) != 1 {
				t.Fatalf("%d events", len(events))
			}
			e := events[0]
			if e.Type != event.Created || e.Point.Name != c.device || e.Point.Position[0] != 2.3522 || e.Point.Time.Format(time.RFC3339) != observed ||
				!strings.Contains(string(e.Point.Properties), c.property) {
				t.Errorf("%s at %v, %v: %s", e.Point.Name, e.Point.Time, e.Point.Position, e.Point.Properties)
			}
		})
	}
}

// What is no position is answered as the program wants, and stores nothing; what is
// wrong is refused with a reason.
func TestDevicesWithoutAPlace(t *testing.T) {
	q := &fakeQueue{}
	address := serve(t, q, testLimits())
	for _, c := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"last will", "/point/owntracks", `{"_type":"lwt","tst":1790000000}`, 200, "[]"},
		{"nothing", "/point/owntracks", "", 200, "[]"},
		{"encrypted", "/point/owntracks", `{"_type":"encrypted","data":"x"}`, 400, "encryption key"},
		{"not OwnTracks", "/point/owntracks", `{"lat":1}`, 400, "_type"},
		{"a long user", "/point/owntracks?d=phone&u=" + strings.Repeat("u", 250), `{"_type":"waypoints","waypoints":[]}`, 400, "fewer than 255"},
		{"beyond the pole", "/point/owntracks", `{"_type":"location","lat":91,"lon":1,"tst":1}`, 400, "latitude"},
		{"an empty batch", "/point/overland", `{"locations":[]}`, 200, "ok"},
		{"not Overland", "/point/overland", `{}`, 400, "locations"},
		{"no place", "/point/osmand", "id=1", 400, "lat and lon"},
		{"μlogger logs in", "/point/from/ulogger/jane/client/index.php", "action=auth&user=jane&pass=x", 200, `"error": false`},
		{"μlogger begins a track", "/point/from/ulogger/jane/client/index.php", "action=addtrack&track=home", 200, `"trackid": 1`},
		{"no such form", "/point/from/tracker", "lat=1&lon=2", 404, "gpslogger, osmand, phonetrack, ulogger"},
		{"no such path", "/point/from/ulogger", "lat=1&lon=2", 404, "{device}/client/index.php"},
		{"a form without a place", "/point/from/gpslogger", "time=1", 400, "lat and lon"},
		{"too large", "/point/overland", strings.Repeat(" ", maxDeviceBytes+1), 413, "2 MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := exchange(t, "POST", address, c.path, "application/json", strings.NewReader(c.body))
			if c.path == "/point/osmand" || strings.HasPrefix(c.path, "/point/from/") {
				a = exchange(t, "POST", address, c.path, "application/x-www-form-urlencoded", strings.NewReader(c.body))
			}
			if a.status != c.status || !strings.Contains(a.body, c.says) {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	if a := exchange(t, "HEAD", address, "/point/from/gpslogger/jane?lat=1&lon=2", "", nil); a.status != http.StatusOK {
		t.Errorf("whether somebody is there: %d", a.status)
	}
	for says, body := range map[string]string{
		"cannot be read": "--b\r\nno form", "64 KiB": "--b\r\nContent-Disposition: form-data; name=\"comment\"\r\n\r\n" + strings.Repeat("x", maxFieldBytes+1) + "\r\n--b--\r\n",
	} {
		if a := exchange(t, "POST", address, "/point/from/ulogger/jane", "multipart/form-data; boundary=b", strings.NewReader(body)); a.status != http.StatusBadRequest || !strings.Contains(a.body, says) {
			t.Errorf("%.40q: %d %s", body, a.status, a.body)
		}
	}
	if n := len(q.events(t)); n != 0 {
		t.Errorf("%d events were stored", n)
	}
}

// A batch that is sent again because an answer was lost adds nothing, in the real
// database; a large one is stored whole.
func TestDevicesSendAgain(t *testing.T) {
	r := newReal(t)
	var batch strings.Builder
	batch.WriteString(`{"locations":[`)
	for i := range 1200 {
		if i > 0 {
			batch.WriteByte(',')
		}
		fmt.Fprintf(&batch, `{"type":"Feature","geometry":{"type":"Point","coordinates":[2,%d]},"properties":{"timestamp":%d,"device_id":"p1","speed":%d}}`, i%90, 1790000000+i, i)
	}
	batch.WriteString(`]}`)
	for range 2 {
		if a := r.do("POST", "/point/overland", "application/json", batch.String()); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	r.do("POST", "/point", "application/json", `{"longitude":1,"latitude":1,"id":"last"}`, "Prefer", "wait=20")
	if n := r.query("select count(*)::text from points"); n != "1201" {
		t.Errorf("%s points, want 1201", n)
	}
	if n := r.query("select count(*)::text from parked"); n != "0" {
		t.Errorf("%s parked", n)
	}
}
