package ingest

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"cairn/event"

	"github.com/go-json-experiment/json/jsontext"
)

func sample(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Real rows go in as they are: each position, each property, each digit.
func TestRealTables(t *testing.T) {
	for name, columns := range map[string][2]string{
		"cities.csv":  {"longitude", "latitude"},
		"navaids.csv": {"longitude_deg", "latitude_deg"},
	} {
		t.Run(name, func(t *testing.T) {
			text := sample(t, name)
			records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			q := &fakeQueue{}
			a := post(t, serve(t, q, testLimits()), "/point", csvType, text)
			a.want(t, http.StatusAccepted, fmt.Sprintf(`{"accepted":%d,"rejected":0,`, len(records)-1))
			header := records[0]
			for i, e := range q.events(t) {
				checkRecord(t, header, records[i+1], columns, &e.Point)
			}
		})
	}
}

func checkRecord(t *testing.T, header, record []string, position [2]string, p *event.Point) {
	t.Helper()
	var properties map[string]json.RawMessage
	if err := json.Unmarshal(p.Properties, &properties); err != nil {
		t.Fatal(err)
	}
	for i, column := range header {
		switch {
		case column == position[0], column == position[1]:
			want, _ := strconv.ParseFloat(record[i], 64)
			index := 0
			if column == position[1] {
				index = 1
			}
			if p.Position[index] != want {
				t.Errorf("%v: %s is %v", record, column, p.Position[index])
			}
		case record[i] == "":
		default:
			got := string(properties[column])
			if strings.HasPrefix(got, `"`) {
				text, err := jsontext.AppendUnquote(nil, got)
				if err != nil {
					t.Fatal(err)
				}
				got = string(text)
			}
			if got != record[i] {
				t.Errorf("%v: %s is %s", record, column, got)
			}
			delete(properties, column)
			continue
		}
		if _, ok := properties[column]; ok {
			t.Errorf("%v: %s is a property", record, column)
		}
	}
	if len(properties) > 0 {
		t.Errorf("%v: more properties: %v", record, properties)
	}
}

func TestRealCollection(t *testing.T) {
	text := sample(t, "earthquakes.geojson")
	var want struct {
		Features []struct {
			ID       string
			Geometry struct{ Coordinates [3]float64 }
			// as it came, for every digit of it
			Properties json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	q := &fakeQueue{}
	address := serve(t, q, testLimits())
	post(t, address, "/point", geojson, text).want(t, http.StatusAccepted, fmt.Sprintf(`{"accepted":%d,"rejected":0,`, len(want.Features)))
	var lines strings.Builder
	for i, e := range q.events(t) {
		f := want.Features[i]
		if string(e.Point.ExternalID) != strconv.Quote(f.ID) || e.ID != event.Key(f.ID) {
			t.Errorf("the id %s became %s", f.ID, e.Point.ExternalID)
		}
		if got := [3]float64{e.Point.Position[0], e.Point.Position[1], e.Point.Altitude}; got != f.Geometry.Coordinates {
			t.Errorf("%s: coordinates %v, want %v", f.ID, got, f.Geometry.Coordinates)
		}
		if string(e.Point.Properties) != string(f.Properties) {
			t.Errorf("%s: properties\n%s\nwant\n%s", f.ID, e.Point.Properties, f.Properties)
		}
		var m map[string]any
		if err := json.Unmarshal(e.Point.Properties, &m); err != nil || len(m) != 26 {
			t.Errorf("%s: %d properties, %v", f.ID, len(m), err)
		}
		lines.WriteString(lineOf(q.lines[i]) + "\n")
	}
	// The other forms of GeoJSON make the same points.
	features := strings.Split(text[strings.Index(text, "{\"type\":\"Feature\","):strings.LastIndex(text, "]")], ",\n")
	last := len(features) - 1
	features[last] = strings.TrimSuffix(features[last][:strings.LastIndex(features[last], `"id":`)]+features[last][strings.LastIndex(features[last], `"id":`):strings.LastIndex(features[last], `}],`)+1], "\n")
	for contentType, body := range map[string]string{
		ndjson: strings.Join(features, "\n"),
		seq:    "\x1e" + strings.Join(features, "\n\x1e") + "\n",
	} {
		q := &fakeQueue{}
		post(t, serve(t, q, testLimits()), "/point", contentType, body).want(t, http.StatusAccepted, `"rejected":0`)
		var got strings.Builder
		for _, line := range q.lines {
			got.WriteString(lineOf(line) + "\n")
		}
		if !reflect.DeepEqual(got.String(), lines.String()) {
			t.Errorf("%s made other points", contentType)
		}
	}
}
