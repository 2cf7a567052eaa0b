// Package corpus reads ingest/testdata/corpus: small inputs of the kinds that
// people send, with the expected results. The tests of every way to write run all of
// them, so that no two ways differ.
package corpus

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/event"
)

// A Case is one input. Want is one of
//
//	ok N [at LONGITUDE LATITUDE [ALTITUDE]] [none] [name TEXT] [id TEXT] [time TIME] [untimed]
//	     [has PROPERTY] [lacks PROPERTY] [rejected N] [silent] [warn TEXT]
//	refused STATUS TEXT
//
// where N points were accepted and the rest, but for rejected and warn, is said
// of the first of them: none is without altitude, untimed without time, and
// silent without a warning.
type Case struct {
	File  string
	Body  []byte
	Type  string // Content-Type
	Query string // parameters, or the flags of the same names
	Want  string
}

// An Outcome is the result of a case.
type Outcome struct {
	Status   int // of HTTP
	Accepted int64
	Rejected int64
	First    *event.Point // nil where none was accepted
	Text     string       // all that was said, warnings and rejections included
	Warned   bool
}

var types = map[string]string{
	".csv": "text/csv", ".tsv": "text/tab-separated-values", ".json": "application/json", ".geojson": "application/geo+json",
	".ndjson": "application/x-ndjson", ".geojsons": "application/geo+json-seq",
	".xml": "application/xml", ".gpx": "application/gpx+xml", ".kml": "application/vnd.google-earth.kml+xml",
}

// TypeOf is the Content-Type that goes with a file's name.
func TypeOf(file string) string { return types[filepath.Ext(file)] }

// Read reads the cases in a folder.
func Read(t testing.TB, folder string) []Case {
	t.Helper()
	list, err := os.ReadFile(filepath.Join(folder, "cases.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []Case
	for _, line := range strings.Split(strings.TrimSpace(string(list)), "\n")[1:] {
		fields := strings.Split(line, "\t")
		if len(fields) != 4 {
			t.Fatalf("%d fields in %q", len(fields), line)
		}
		c := Case{File: fields[0], Type: fields[1], Query: strings.TrimPrefix(fields[2], "-"), Want: fields[3]}
		if c.Type == "-" {
			c.Type = types[filepath.Ext(c.File)]
		}
		if c.Body, err = os.ReadFile(filepath.Join(folder, c.File)); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	return cases
}

var keywords = []string{"at", "none", "name", "id", "time", "untimed", "has", "lacks", "rejected", "silent", "warn"}

// Check compares the outcome of a case with what must.
func (c *Case) Check(t testing.TB, got Outcome) {
	t.Helper()
	if refused, ok := strings.CutPrefix(c.Want, "refused "); ok {
		status, text, _ := strings.Cut(refused, " ")
		if want, _ := strconv.Atoi(status); got.Status != want || !strings.Contains(got.Text, text) {
			t.Errorf("%s: %d %s\nwant %s", c.File, got.Status, got.Text, c.Want)
		}
		return
	}
	words := strings.Fields(c.Want)[1:]
	if want, _ := strconv.ParseInt(words[0], 10, 64); got.Status >= 300 || got.Accepted != want || got.First == nil {
		t.Errorf("%s: %d, %d accepted: %s\nwant %s", c.File, got.Status, got.Accepted, got.Text, c.Want)
		return
	}
	rejected := int64(0)
	for words = words[1:]; len(words) > 0; {
		key, end := words[0], 1
		for end < len(words) && (key == "warn" || !slices.Contains(keywords, words[end])) {
			end++
		}
		value := strings.Join(words[1:end], " ")
		words = words[end:]
		if key == "rejected" {
			rejected, _ = strconv.ParseInt(value, 10, 64)
		} else if !got.holds(t, key, value) {
			t.Errorf("%s: not %s %s: %+v, properties %s, said %s", c.File, key, value, *got.First, got.First.Properties, got.Text)
		}
	}
	if got.Rejected != rejected {
		t.Errorf("%s: %d rejected, want %d: %s", c.File, got.Rejected, rejected, got.Text)
	}
}

// holds checks one thing that is said of the first point.
func (o *Outcome) holds(t testing.TB, key, value string) bool {
	t.Helper()
	p := o.First
	switch key {
	case "at":
		fields := strings.Fields(value)
		numbers := []float64{p.Position[0], p.Position[1], p.Altitude}
		for i, field := range fields {
			if want, err := strconv.ParseFloat(field, 64); err != nil || math.Abs(numbers[i]-want) > 1e-9 || math.IsNaN(numbers[i]) {
				return false
			}
		}
		return true
	case "none":
		return !p.HasAltitude()
	case "name":
		return p.Name == value
	case "id":
		text, err := event.IDText(p.ExternalID)
		return err == nil && text == value
	case "time":
		return p.Time.Format(time.RFC3339) == value
	case "untimed":
		return p.Time.IsZero()
	case "has", "lacks":
		all := string(p.Properties) + string(p.Members)
		return strings.Contains(all, `"`+value+`"`) == (key == "has")
	case "silent":
		return !o.Warned
	case "warn":
		return o.Warned && strings.Contains(o.Text, value)
	}
	t.Fatalf("%q is not known", key)
	return false
}
