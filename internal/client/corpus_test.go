package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"cairn/event"
	"cairn/ingest/format"
	"cairn/internal/corpus"
)

// What people send, through cairn load. Its formats go by the files' names, so a
// Content-Type has no say, and a charset must be named.
func TestCorpus(t *testing.T) {
	folder, err := filepath.Abs("../../ingest/testdata/corpus")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range corpus.Read(t, folder) {
		if strings.HasPrefix(c.Type, "multipart/") || strings.Contains(c.Type, "charset") {
			continue
		}
		t.Run(c.File, func(t *testing.T) {
			var first *event.Point
			s := serve(t, func(w http.ResponseWriter, r *http.Request) { accepted(1)(w, r) })
			b := newBench(t, s.URL, c.File, string(c.Body))
			flags(t, &b.cfg, c.Query)
			err := b.load(context.Background())
			got := corpus.Outcome{Status: http.StatusAccepted, Text: b.out.String() + b.err.String(), Warned: strings.Contains(b.out.String(), ": warning: ")}
			if err != nil {
				got.Text += err.Error()
			}
			for _, call := range s.seen() {
				got.Accepted, first = readLines(t, call.body)
			}
			got.First = first
			for line := range strings.Lines(b.out.String()) {
				if strings.HasPrefix(line, c.File+": row ") {
					got.Rejected++
				}
			}
			if err != nil && !errors.Is(err, ErrOnlyRejected) || got.Accepted == 0 {
				c.Want = anyStatus(c.Want)
				got.Status = 0
			}
			c.Check(t, got)
		})
	}
}

// anyStatus is what must come of a case where there is no HTTP. The server's words
// for its parameters are flags here.
func anyStatus(want string) string {
	fields := strings.SplitN(want, " ", 3)
	if fields[0] != "refused" {
		return want
	}
	return "refused 0 " + strings.TrimPrefix(strings.TrimPrefix(fields[2], "header="), "one point is an object")
}

// flags sets those of the same names as the parameters.
func flags(t *testing.T, c *LoadConfig, query string) {
	t.Helper()
	values, err := url.ParseQuery(strings.ReplaceAll(query, ";", "%3B"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		switch name {
		case "longitude":
			c.Longitude = value[0]
		case "latitude":
			c.Latitude = value[0]
		case "geometry":
			c.Geometry = value[0]
		case "time":
			c.Time = value[0]
		case "id":
			c.ID = value[0]
		case "delimiter":
			c.Delimiter = value[0]
		case "charset":
			c.Charset = value[0]
		case "time-format":
			c.TimeFormat = value[0]
		case "time-zone":
			c.TimeZone = value[0]
		case "columns":
			c.Columns = strings.Split(value[0], ",")
		case "header":
			c.NoHeader = value[0] == "no"
		case "strict":
			c.Strict = true
		case "explode":
			c.Explode = true
		default:
			t.Fatalf("no flag for %q", name)
		}
	}
}

// readLines reads what was sent as the server would. An id that the row did not
// have is none.
func readLines(t *testing.T, body string) (n int64, first *event.Point) {
	t.Helper()
	rows, err := format.Open(bufio.NewReader(strings.NewReader(body)), format.Lines, format.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		var p event.Point
		if err = rows.Next(&p); err == io.EOF {
			return n, first
		}
		if err != nil {
			t.Fatalf("the server would refuse %q: %v", body, err)
		}
		if n++; n > 1 {
			continue
		}
		e := event.Event{ID: event.NewKey(), Type: event.Created, Received: p.Time.AddDate(1, 0, 0), Point: p}
		var d event.Decoder
		line := event.AppendEvent(nil, &e)
		var read event.Event
		if err := d.Event(bytes.TrimSuffix(line, []byte("\n")), &read); err != nil {
			t.Fatal(err)
		}
		first = &read.Point
	}
}
