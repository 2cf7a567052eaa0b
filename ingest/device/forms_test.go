package device

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// Each program's form takes what the program sends, and says what it waits for.
func TestForms(t *testing.T) {
	const gps = "lat=48.8566&lon=2.3522&sat=9&alt=35.5&acc=5.0&dir=12.5&prov=gps&spd=1.5&timestamp=1790000000&time=2026-09-21T14:13:20.000Z&timeoffset=2026-09-21T16:13:20.000+02:00&batt=44.0&aid=e1f2&ser=unknown&hdop=&desc="
	for _, c := range []struct {
		name, program string
		m             Message
		answer        string
		want          []fixWant
	}{
		{"GPSLogger's own URL", "gpslogger", Message{Path: "jane", Query: "lat=48.8566&longitude=2.3522&time=2026-09-21T14:13:20.000Z&s=1.5"}, "", []fixWant{{"jane", at, "2.3522", "48.8566", `{"name":"jane","s":1.5}`}}},
		{"GPSLogger, all parameters", "gpslogger", Message{Query: gps}, "", []fixWant{{"e1f2", at, "2.3522", "48.8566,35.5", `"acc":5.0,"batt":44.0,"dir":12.5,"prov":"gps","sat":9,"ser":"unknown","spd":1.5,"time":"2026-09-21T14:13:20.000Z"`}}},
		{"GPSLogger, a form", "gpslogger", Message{Path: "/jane/", Body: []byte(gps)}, "", []fixWant{{"jane", at, "2.3522", "48.8566,35.5", `"aid":"e1f2"`}}},
		{"GPSLogger, JSON", "gpslogger", Message{Path: "jane%2Fphone", Body: []byte(`{"lat":48.8566,"lon":"2.3522","timestamp":1790000000,"acc":5,"desc":null}`)}, "", []fixWant{{"jane/phone", at, "2.3522", "48.8566", `{"name":"jane/phone","acc":5}`}}},
		{"PhoneTrack, a position", "phonetrack", Message{Path: "index.php/apps/phonetrack/logPost/0123abc/jane", Body: []byte("lat=48.8566&lon=2.3522&alt=35.5&timestamp=1790000000&acc=5.0&bat=80.0&sat=7&useragent=PhoneTrack-Android&speed=1.5&bearing=90.0")},
			`{"done": 1, "friends": []}`, []fixWant{{"jane", at, "2.3522", "48.8566,35.5", `"bat":80.0,"bearing":90.0`}}},
		{"PhoneTrack, many", "phonetrack", Message{Path: "index.php/apps/phonetrack/logPostMultiple/0123abc/jane", Body: []byte(`{"points":[[48.8566,2.3522,1790000000,35.5,5,80,7,"PhoneTrack",1.5,90],[48.9,2.4,1790000001,null,null,null,null,null,null,null]]}`)},
			`{"done": 1, "friends": []}`, []fixWant{{"jane", at, "2.3522", "48.8566,35.5", `"acc":5,"bat":80,"sat":7,"useragent":"PhoneTrack"`}, {"jane", "2026-09-21T14:13:21Z", "2.4", "48.9", `{"name":"jane"}`}}},
		{"PhoneTrack, none", "phonetrack", Message{Path: "jane", Body: []byte(`{"points":[]}`)}, `{"done": 1, "friends": []}`, nil},
		{"μlogger logs in", "ulogger", Message{Path: "jane/client/index.php", Body: []byte("action=auth&user=jane&pass=secret")}, `{"error": false}`, nil},
		{"μlogger begins a track", "ulogger", Message{Path: "jane/client/index.php", Body: []byte("track=Auto_2026.09.21_14.13.20&action=addtrack")}, `{"error": false, "trackid": 1}`, nil},
		{"μlogger, a position", "ulogger", Message{Path: "jane/client/index.php", Body: []byte("altitude=35.5&lon=2.3522&speed=1.5&bearing=90.0&time=1790000000&action=addpos&trackid=1&lat=48.8566&accuracy=5.0&provider=gps")}, `{"error": false}`,
			[]fixWant{{"jane", at, "2.3522", "48.8566,35.5", `{"name":"jane","accuracy":5.0,"bearing":90.0,"provider":"gps","speed":1.5,"trackid":1}`}}},
		{"μlogger, its path in the query", "ulogger", Message{Path: "jane", Query: "/client/index.php", Body: []byte("lon=2.3522&time=1790000000&action=addpos&trackid=1&lat=48.8566")}, `{"error": false}`,
			[]fixWant{{"jane", at, "2.3522", "48.8566", `{"name":"jane","trackid":1}`}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fixes, answer, err := BuiltInForms(nil)[c.program].Read(c.m)
			check(t, fixes, err, c.want...)
			if string(answer) != c.answer {
				t.Errorf("the answer is %s, want %s", answer, c.answer)
			}
			for _, f := range fixes {
				if f.Program != c.program {
					t.Errorf("the program is %q", f.Program)
				}
			}
		})
	}
}

func TestFormsRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		program string
		m       Message
	}{
		"no place":               {"gpslogger", Message{Query: "time=1"}},
		"the device twice":       {"gpslogger", Message{Query: "lat=1&lon=2&aid=a&aid=b"}},
		"a path that is no text": {"gpslogger", Message{Path: "%ff", Query: "lat=1&lon=2"}},
		"a bad escape":           {"gpslogger", Message{Path: "%zz", Query: "lat=1&lon=2"}},
		"no JSON":                {"gpslogger", Message{Body: []byte(`{"lat":1`)}},
		"a place that is a list": {"gpslogger", Message{Body: []byte(`{"lat":[1],"lon":2}`)}},
		"rows that are none":     {"phonetrack", Message{Body: []byte(`{"points":{}}`)}},
		"a row that is none":     {"phonetrack", Message{Body: []byte(`{"points":[1]}`)}},
		"a row of too many":      {"phonetrack", Message{Body: []byte(`{"points":[[1,2,3,4,5,6,7,8,9,10,11]]}`)}},
		"a row without a place":  {"phonetrack", Message{Body: []byte(`{"points":[[1,2,3],[null,2,3]]}`)}},
		"a bad time":             {"ulogger", Message{Path: "jane", Body: []byte("action=addpos&lat=1&lon=2&time=now")}},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, func() ([]Fix, error) { f, _, err := BuiltInForms(nil)[c.program].Read(c.m); return f, err })
		})
	}
	for _, path := range []string{"", "a/b", "client/other.php", "/client/index.php/x", strings.Repeat("x", 2000)} {
		if _, _, err := BuiltInForms(nil)["ulogger"].Read(Message{Path: path}); !errors.Is(err, ErrNoPath) {
			t.Errorf("the path %.40q: %v", path, err)
		}
	}
}

// A file adds forms, or replaces those that are built in; what is wrong in it is told.
func TestReadForms(t *testing.T) {
	more, err := ReadForms([]byte(`{"tracker": {"place": ["pos"], "time": ["t"], "device": ["unit"], "drop": ["crc"], "paths": ["v1/{unit}"],
		"answers": [{"when": {"kind": "ping", "v": "1"}, "answer": "pong"}], "answer": {"status": "OK"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	forms := BuiltInForms(more)
	if forms["ulogger"] == nil {
		t.Error("the others are gone")
	}
	fixes, answer, err := forms["tracker"].Read(Message{Path: "v1/7", Query: "unit=7&pos=48.8566,2.3522&t=1790000000&crc=9&kind=pos"})
	check(t, fixes, err, fixWant{"7", at, "2.3522", "48.8566", `{"name":"7","kind":"pos"}`})
	if string(answer) != `{"status": "OK"}` {
		t.Errorf("the answer is %s", answer)
	}
	if fixes, answer, err = forms["tracker"].Read(Message{Path: "v1/7", Query: "kind=ping&v=1"}); err != nil || len(fixes) != 0 || string(answer) != `"pong"` {
		t.Errorf("a ping: %v, %s, %v", fixes, answer, err)
	}
	for says, text := range map[string]string{
		"EOF": "", "latitude": `{"x": {"longitude": ["x"]}}`, "unknown": `{"x": {"latitude": ["y"], "longitude": ["x"], "altitud": ["z"]}}`, "no name": `{"A b": {"place": ["x"]}}`,
		"null": `{"x": null}`, "rows": `{"x": {"place": ["x"], "rows": {"member": "x"}}}`, "when": `{"x": {"place": ["x"], "answers": [{"answer": 1}]}}`, "larger": strings.Repeat(" ", MaxFormsBytes+1),
	} {
		if _, err := ReadForms([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60s: %v, want a word of %q", text, err, says)
		}
	}
}

// Whatever comes in, what comes out is JSON, of every form that is built in.
func FuzzForms(f *testing.F) {
	f.Add("gpslogger", "jane%2Fphone", "lat=1&lon=2&timestamp=1790000000", []byte("a=1&a=2&%C3%A9="))
	f.Add("phonetrack", "index.php/apps/phonetrack/logPostMultiple/k/d", "", []byte(`{"points":[[1,2,3,null,"x",[1],{"a":1}]],"name":7}`))
	f.Add("ulogger", "jane/client/index.php", "/client/index.php", []byte("action=addpos&lat=1&lon=2&time=3&trackid=1"))
	f.Add("osmand", "", "location=1,2&id=x", []byte(`{"lat":1e400,"lon":"+.5","id":"\ud800"}`))
	f.Fuzz(func(t *testing.T, program, path, query string, body []byte) {
		form := BuiltInForms(nil)[program]
		if form == nil {
			return
		}
		fixes, answer, err := form.Read(Message{Path: path, Query: query, Body: body})
		checkFixes(t, fixes, err)
		if err == nil && len(answer) > 0 && !jsontext.Value(answer).IsValid() {
			t.Fatalf("the answer is no JSON: %q", answer)
		}
	})
}

// Whatever a file of forms has, what it reads is JSON.
func FuzzReadForms(f *testing.F) {
	f.Add(builtIn, "ulogger", "jane", "action=auth&lat=1&lon=2")
	f.Add([]byte(`{"x":{"place":["{a}","p"],"paths":["{a}/*"],"time":["t"],"device":["{a}"],"rows":{"member":"r","columns":["p","p"]},"answers":[{"when":{"{a}":"b"},"answer":[]}]}}`), "x", "b/c", `{"r":[["1,2","3,4"]]}`)
	f.Fuzz(func(t *testing.T, file []byte, program, path, body string) {
		forms, err := ReadForms(file)
		if err != nil || forms[program] == nil {
			return
		}
		fixes, _, err := forms[program].Read(Message{Path: path, Body: []byte(body)})
		checkFixes(t, fixes, err)
	})
}
