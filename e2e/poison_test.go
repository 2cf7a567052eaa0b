package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cairn/internal/testrig"
)

// poison is up to so many bytes of a number that takes 309 when jsonb has written it out.
func poison(bytes int, number, between string) string {
	return strings.TrimSuffix(strings.Repeat(number+between, bytes/(len(number)+len(between))), between)
}

const (
	// poisonBytes is nearly all that a row may have.
	poisonBytes = 240_000
	// mostRead is what any point may be when it is read: a row, as much again that
	// numbers grow by, and what jsonb puts between values.
	mostRead = 3 * 256 << 10
)

// A poisonedRequest brings numbers that grow when they are stored, in one of the ways in.
type poisonedRequest struct {
	name, method, path, media, body string
}

func poisoned() []poisonedRequest {
	list := "[" + poison(poisonBytes, "1e308", ",") + "]"
	names := &strings.Builder{}
	for i := range poisonBytes / 14 {
		fmt.Fprintf(names, `,"n%05d":1e308`, i)
	}
	feature := func(properties, members string) string {
		return `{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]},"properties":` + properties + members + `}`
	}
	plain := func(v string) string { return `{"longitude":1,"latitude":2,"properties":{"v":` + v + `}}` }
	cells := poison(poisonBytes, "1e308", ",")
	header := &strings.Builder{}
	for i := range strings.Count(cells, ",") + 1 {
		fmt.Fprintf(header, ",c%d", i)
	}
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	for name, value := range map[string]string{"longitude": "1", "latitude": "2", "v": list} {
		_ = parts.WriteField(name, value)
	}
	_ = parts.Close()
	kml := `<kml xmlns="http://www.opengis.net/kml/2.2"><Placemark><ExtendedData><Data name="v"><value>` + list + `</value></Data></ExtendedData><Point><coordinates>1,2</coordinates></Point></Placemark></kml>`
	gpx := `<gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1"><wpt lat="2" lon="1"><desc>` + list + `</desc><extensions><v>` + list[:poisonBytes/3] + `</v></extensions></wpt></gpx>`
	return []poisonedRequest{
		{"a list", http.MethodPost, "/point", "application/json", plain(list)},
		{"small numbers", http.MethodPost, "/point", "application/json", plain("[" + poison(poisonBytes, "1e-308", ",") + "]")},
		{"other spellings", http.MethodPost, "/point", "application/json", plain("[" + poison(poisonBytes, "-1.5E+0307", ",") + "]")},
		{"lists in lists", http.MethodPost, "/point", "application/json", plain("[" + poison(poisonBytes, "[[1e308]]", ",") + "]")},
		{"values of many names", http.MethodPost, "/point", "application/json", plain("{" + names.String()[1:] + "}")},
		{"members of the point", http.MethodPost, "/point", "application/json", `{"longitude":1,"latitude":2,"v":` + list + `}`},
		{"a Feature's properties", http.MethodPost, "/point", "application/geo+json", feature(`{"v":`+list+`}`, "")},
		{"a Feature's foreign members", http.MethodPost, "/point", "application/geo+json", feature(`{}`, `,"v":`+list)},
		{"both, each within bounds", http.MethodPost, "/point", "application/geo+json", feature(`{"v":[`+poison(850*6, "1e308", ",")+`]}`, `,"v":[`+poison(850*6, "1e308", ",")+`]`)},
		{"a collection", http.MethodPost, "/point", "application/geo+json", `{"type":"FeatureCollection","features":[` + feature(`{"v":`+list+`}`, "") + `]}`},
		{"lines", http.MethodPost, "/point", "application/x-ndjson", plain(list) + "\n" + plain(list) + "\n"},
		{"a table", http.MethodPost, "/point", "text/csv", "longitude,latitude" + header.String() + "\n1,2," + cells + "\n"},
		{"a form", http.MethodPost, "/point", "application/x-www-form-urlencoded", url.Values{"longitude": {"1"}, "latitude": {"2"}, "v": {list}}.Encode()},
		{"a form in parts", http.MethodPost, "/point", parts.FormDataContentType(), form.String()},
		{"KML", http.MethodPost, "/point", "application/vnd.google-earth.kml+xml", kml},
		{"GPX", http.MethodPost, "/point", "application/gpx+xml", gpx},
		{"PUT", http.MethodPut, "/point/put", "application/geo+json", feature(`{"v":`+list+`}`, "")},
		{"PATCH", http.MethodPatch, "/point/patched", "application/merge-patch+json", `{"properties":{"v":` + list + `}}`},
		{"a second PATCH within bounds", http.MethodPatch, "/point/patched", "application/merge-patch+json", `{"properties":{"a":[` + poison(800*6, "1e308", ",") + `]}}`},
		{"a third", http.MethodPatch, "/point/patched", "application/merge-patch+json", `{"properties":{"b":[` + poison(800*6, "1e308", ",") + `]}}`},
		{"an item", http.MethodPost, "/collections/points/items", "application/geo+json", feature(`{"v":`+list+`}`, "")},
		{"OwnTracks", http.MethodPost, "/point/owntracks?u=a&d=b", "application/json", `{"_type":"location","lat":1,"lon":2,"tst":1700000000,"v":` + list + `}`},
		{"Overland", http.MethodPost, "/point/overland", "application/json", `{"locations":[` + feature(`{"timestamp":"2026-01-01T00:00:00Z","v":`+list+`}`, "") + `]}`},
	}
}

// Whatever way numbers that grow come in: what is stored is no larger than some rows when
// it is read, and no live stream is cut off. What is too large is refused, as are rows
// of uploads.
func TestPoisonedPoints(t *testing.T) {
	s := serve(t, testrig.PreparedFolder(t))
	live := openStream(t, s)
	if a, err := testrig.Do(t.Context(), http.MethodPut, s.Base+"/point/patched?", "application/json", strings.NewReader(paris)); err != nil || a.Status != http.StatusAccepted {
		t.Fatal(a.Status, err)
	}
	refused := 0
	for _, r := range poisoned() {
		a, err := testrig.Do(t.Context(), r.method, s.Base+r.path, r.media, strings.NewReader(r.body))
		if err != nil || a.Status >= 500 {
			t.Errorf("%s: %d %.200s %v", r.name, a.Status, a.Body, err)
		}
		if a.Status >= 400 || bytes.Contains(a.Body, []byte(`"rejected":`)) && !bytes.Contains(a.Body, []byte(`"rejected":0`)) {
			refused++
		} else {
			t.Logf("%s is taken: %d %.100s", r.name, a.Status, a.Body)
		}
	}
	if refused < 12 {
		t.Errorf("only %d were refused", refused)
	}
	testrig.MustPost(t, s.Base+"/point", `{"id":"last","longitude":1,"latitude":2}`)
	s.Settled()
	points := 0
	for line := ""; !strings.Contains(line, `"id":"last"`); {
		var err error
		if line, err = live.ReadString('\n'); err != nil {
			t.Fatalf("the live stream broke off: %v", err)
		}
		if len(line) > mostRead {
			t.Errorf("an event of %d bytes: %.300s", len(line), line)
		}
		if strings.HasPrefix(line, "data: ") {
			points++
		}
	}
	t.Logf("%d were refused, and %d events came", refused, points)
}

// openStream is a live stream that listens.
func openStream(t *testing.T, s *testrig.Server) *bufio.Reader {
	t.Helper()
	response, err := http.Get(s.Base + "/stream?since=0")
	if err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*testrig.Patience, func() { _ = response.Body.Close() })
	t.Cleanup(func() { timer.Stop(); _ = response.Body.Close() })
	return bufio.NewReaderSize(response.Body, 1<<20)
}
