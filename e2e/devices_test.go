package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A message is what a tracking program sends, in the form of its documentation.
type message struct {
	method, path, media, body string
	header                    []string
	answer                    string // all of its body
}

const form = "application/x-www-form-urlencoded"

// programs are devices with what each sends, in the order in which it comes in; the
// time and place of each fix, by time, are what is to come of it.
var programs = []struct {
	name, device string
	messages     []message
	track        string
}{
	{"OwnTracks in HTTP mode", "jane/nexus5", []message{
		{path: "/point/owntracks", media: "application/json", header: []string{"X-Limit-U", "jane", "X-Limit-D", "nexus5"}, answer: "[]",
			body: `{"_type":"location","acc":35,"alt":15,"batt":51,"bs":1,"cog":270,"conn":"w","created_at":1790000002,"lat":51.5033,"lon":-0.1195,"m":1,"rad":50,"t":"u","tid":"ne","tst":1790000000,"vac":12,"vel":4,"p":71.0,"inregions":["London"]}`},
		{path: "/point/owntracks", media: "application/json", header: []string{"X-Limit-U", "jane", "X-Limit-D", "nexus5"}, answer: "[]",
			body: `{"_type":"transition","acc":3.1,"desc":"Home","event":"leave","lat":51.5043,"lon":-0.1095,"tid":"ne","tst":1790000060,"wtst":1700000000,"t":"c"}`},
		{path: "/point/owntracks?u=jane&d=nexus5", media: "application/json", answer: "[]",
			body: `{"_type":"location","lat":51.5053,"lon":-0.0995,"tid":"ne","tst":1790000030,"topic":"owntracks/jane/nexus5"}`}, // late
		{path: "/point/owntracks", media: "application/json", header: []string{"X-Limit-U", "jane", "X-Limit-D", "nexus5"}, answer: "[]",
			body: `{"_type":"waypoint","desc":"Home","lat":40,"lon":10,"rad":100,"tst":1790009999}`},
		{path: "/point/owntracks", media: "application/json", answer: "[]", body: `{"_type":"lwt","tst":1790000001}`},
		{path: "/point/owntracks", media: "application/json", answer: "[]", body: `{"_type":"status","android":{"hib":0,"bo":1,"loc":0,"ps":0,"wifi":1}}`},
		{path: "/point/owntracks", media: "application/json", answer: "[]", body: `{"_type":"steps","tst":1790000100,"steps":45,"from":1790000000,"to":1790000090}`},
		{path: "/point/owntracks", media: "application/json", answer: "[]", body: `{"_type":"card","name":"Jane","tid":"ne","face":"iVBORw0KGgo="}`},
	}, "14:13:20 -0.1195 51.5033 15|14:13:50 -0.0995 51.5053|14:14:20 -0.1095 51.5043"},
	{"Overland", "overland-phone", []message{
		{path: "/point/overland", media: "application/json", answer: `{"result":"ok"}`,
			body: `{"locations":[
				{"type":"Feature","geometry":{"type":"Point","coordinates":[-122.030581,37.331800]},"properties":{"timestamp":"2026-09-21T14:14:20Z","altitude":0,"speed":4,"horizontal_accuracy":30,"vertical_accuracy":-1,"motion":["driving","stationary"],"pauses":false,"activity":"other_navigation","desired_accuracy":100,"deferred":1000,"significant_change":"disabled","locations_in_payload":2,"battery_state":"charging","battery_level":0.89,"device_id":"overland-phone","wifi":""}},
				{"type":"Feature","geometry":{"type":"Point","coordinates":[-122.030600,37.331900]},"properties":{"timestamp":"2026-09-21T14:13:20Z","speed":0,"battery_state":"unplugged","battery_level":0.80,"device_id":"overland-phone","wifi":"home"}}],
				"current":{"type":"Feature","geometry":{"type":"Point","coordinates":[0,0]},"properties":{}}}`},
		{path: "/point/overland", media: "application/json", answer: `{"result":"ok"}`, body: `{"locations":[]}`},
	}, "14:13:20 -122.0306 37.3319|14:14:20 -122.030581 37.3318"},
	{"Traccar Client until version 8", "123456", []message{
		{path: "/point/osmand?id=123456&timestamp=1790000000&lat=60.1&lon=24.9&speed=0.0&bearing=0.0&altitude=12.5&accuracy=15.0&batt=93.0", media: form},
		{path: "/point/osmand?id=123456&timestamp=1790000060&lat=60.2&lon=24.8&speed=5.4&bearing=90.0&altitude=0.0&accuracy=5.0&batt=92.0&charge=true&alarm=sos", media: form},
	}, "14:13:20 24.9 60.1 12.5|14:14:20 24.8 60.2 0"},
	{"Traccar Client from version 9 on", "98765432", []message{
		{path: "/point/osmand", media: "application/json",
			body: `{"location":{"timestamp":"2026-09-21T14:13:20.500Z","coords":{"latitude":59.3,"longitude":18.1,"accuracy":14.2,"speed":1.3,"heading":98.7,"altitude":24.1},"is_moving":true,"odometer":12345.6,"event":"motionchange","battery":{"level":0.83,"is_charging":false},"activity":{"type":"on_foot"},"extras":{}},"device_id":"98765432"}`},
	}, "14:13:20.5 18.1 59.3 24.1"},
	{"OsmAnd online tracking", "osmand-user", []message{
		{method: http.MethodGet, path: "/point/osmand?id=osmand-user&lat=50.45&lon=30.52&timestamp=1790000000123&hdop=4.5&altitude=170&speed=1.2&bearing=45"},
		{method: http.MethodGet, path: "/point/osmand?id=osmand-user&lat=50.46&lon=30.53&timestamp=1790000010123&hdop=4.5&altitude=171&speed=1.2&bearing=45"},
	}, "14:13:20.123 30.52 50.45 170|14:13:30.123 30.53 50.46 171"},
	{"GPSLogger's custom URL", "gpslogger-1", []message{
		{method: http.MethodGet, path: "/point/osmand?ser=gpslogger-1&lat=48.1&longitude=11.5&time=2026-09-21T14:13:20.000Z&alt=520.0&s=3.4&acc=6.0&dir=12.0&sat=9&batt=44.0&prov=gps&desc="},
		{path: "/point/osmand", media: form, body: "ser=gpslogger-1&lat=48.2&longitude=11.6&time=2026-09-21T14%3A14%3A20.000Z&alt=521.5&s=3.4&acc=6.0&batt=43.0"},
	}, "14:13:20 11.5 48.1 520|14:14:20 11.6 48.2 521.5"},
	{"GPSLogger's custom URL as it is, at its form", "jane-gpslogger", []message{
		{method: http.MethodGet, path: "/point/from/gpslogger/jane-gpslogger?lat=48.1&longitude=11.5&time=2026-09-21T14:13:20.000Z&s=3.4"},
		{path: "/point/from/gpslogger/jane-gpslogger", media: form, body: "lat=48.2&lon=11.6&sat=9&desc=&alt=521.5&acc=6.0&dir=12.0&prov=gps&spd=3.4&timestamp=1790000060&time=2026-09-21T14:14:20.000Z&batt=43.0&aid=e1f2a3&ser=unknown"},
	}, "14:13:20 11.5 48.1|14:14:20 11.6 48.2 521.5"},
	{"PhoneTrack", "jane-phonetrack", []message{
		{path: "/point/from/phonetrack/index.php/apps/phonetrack/logPost/0123456789abcdef/jane-phonetrack", media: form, answer: `{"done": 1, "friends": []}`,
			body: "acc=12.0&bat=80.5&speed=0.0&useragent=PhoneTrack-Android&lon=4.8&alt=170.2&bearing=0.0&sat=7&lat=45.7&timestamp=1790000000"},
		{path: "/point/from/phonetrack/index.php/apps/phonetrack/logPostMultiple/0123456789abcdef/jane-phonetrack", media: "application/json", answer: `{"done": 1, "friends": []}`,
			body: `{"points":[[45.8,4.9,1790000060,171.5,8,80,9,"PhoneTrack-Android",1.5,90],[45.9,5.0,1790000120,null,8,79,9,"PhoneTrack-Android",null,null]]}`},
	}, "14:13:20 4.8 45.7 170.2|14:14:20 4.9 45.8 171.5|14:15:20 5 45.9"},
	{"μlogger", "jane-ulogger", []message{
		{path: "/point/from/ulogger/jane-ulogger/client/index.php", media: form, answer: `{"error": false}`, body: "pass=secret&action=auth&user=jane"},
		{path: "/point/from/ulogger/jane-ulogger/client/index.php", media: form, answer: `{"error": false, "trackid": 1}`, body: "action=addtrack&track=Auto_2026.09.21_14.13.20"},
		{path: "/point/from/ulogger/jane-ulogger/client/index.php", media: form, answer: `{"error": false}`,
			body: "altitude=94.2606533826858&lon=7.25&speed=0.369515717029572&time=1790000000&action=addpos&trackid=1&lat=43.7&accuracy=48.0&provider=gps"},
		{path: "/point/from/ulogger/jane-ulogger/client/index.php", media: form, answer: `{"error": false}`,
			body: "lon=7.26&time=1790000060&action=addpos&trackid=1&lat=43.71&accuracy=12.0&provider=network"},
	}, "14:13:20 7.25 43.7 94.2606533826858|14:14:20 7.26 43.71"},
	{"PhoneTrack's custom log job", "phonetrack-1", []message{
		{method: http.MethodGet, path: "/point/osmand?device=phonetrack-1&lat=45.7&lon=4.8&alt=170.2&acc=12&bat=80.5&sat=7&speed=0&bearing=0&timestamp=1790000000"},
	}, "14:13:20 4.8 45.7 170.2"},
}

// What each program sends is answered as it waits for it, and comes out where devices
// are asked for; what it sends again because an answer was lost adds nothing.
func TestDevicesComeOut(t *testing.T) {
	s := serve(t, testrig.PreparedFolder(t))
	defer s.Leave()
	for range 2 {
		for _, p := range programs {
			for _, m := range p.messages {
				m.send(t, s.Base, p.name)
			}
		}
	}
	latest := map[string]testrig.Feature{}
	testkit.Eventually(t, time.Minute, "all devices are in /latest", func() bool {
		var page testrig.Page
		testrig.MustGet(t, s.Base+"/latest", &page)
		for _, f := range page.Features {
			latest[fmt.Sprint(f.Properties["name"])] = f
		}
		return len(latest) == len(programs)+1
	})
	if f := latest["jane/nexus5/Home"]; len(f.Geometry.Coordinates) < 2 || f.Geometry.Coordinates[0] != "10" {
		t.Errorf("the waypoint: %+v", f)
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			var got []string
			testkit.Eventually(t, time.Minute, "the whole track", func() bool {
				got = trackOf(t, s.Base, p.device)
				return len(got) >= strings.Count(p.track, "|")+1
			})
			if strings.Join(got, "|") != p.track {
				t.Errorf("the track is\n%s\nwant\n%s", strings.Join(got, "|"), p.track)
			}
			c := latest[p.device].Geometry.Coordinates
			if len(c) < 2 || !strings.Contains(got[len(got)-1], fmt.Sprint(c[0], " ", c[1])) {
				t.Errorf("the newest is at %v", c)
			}
		})
	}
}

func (m message) send(t *testing.T, base, program string) {
	t.Helper()
	method := m.method
	if method == "" {
		method = http.MethodPost
	}
	a := write(t, method, base+m.path, m.media, m.body, m.header...)
	if a.Status != http.StatusOK || strings.TrimSpace(string(a.Body)) != m.answer {
		t.Fatalf("%s: %s %s: %d %s", program, method, m.path, a.Status, a.Body)
	}
}

// trackOf is a track as time, longitude, latitude and altitude of each fix.
func trackOf(t *testing.T, base, name string) (fixes []string) {
	t.Helper()
	a, err := testrig.Get(t.Context(), base+"/tracks/"+url.PathEscape(name)+"?f=csv")
	if err != nil {
		t.Fatal(err)
	}
	if a.Status == http.StatusNotFound {
		return nil
	}
	for i, line := range strings.Split(strings.TrimSpace(string(a.Body)), "\n") {
		cells := strings.Split(line, ",")
		if i == 0 || len(cells) < 4 {
			continue
		}
		_, at, _ := strings.Cut(strings.TrimSuffix(cells[0], "Z"), "T")
		fixes = append(fixes, strings.TrimSpace(at+" "+strings.Join(cells[1:4], " ")))
	}
	return fixes
}
