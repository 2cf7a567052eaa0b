package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"cairn/bus"
	"cairn/internal/testkit"
)

const (
	// requestTimeout is longer than any answer may take here, and ends a
	// request to a process that is stopped.
	requestTimeout = 30 * time.Second
	// uploadTimeout is for a body of many megabytes.
	uploadTimeout = 5 * time.Minute
	// pageLimit is the largest page there is.
	pageLimit = 10_000
)

var httpClient = &http.Client{Timeout: requestTimeout}

// An answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func get(url string) (answer, error) {
	response, err := httpClient.Get(url)
	if err != nil {
		return answer{}, err
	}
	return readAll(response)
}

func post(url, contentType string, body io.Reader) (answer, error) {
	response, err := httpClient.Post(url, contentType, body)
	if err != nil {
		return answer{}, err
	}
	return readAll(response)
}

func readAll(response *http.Response) (answer, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, body}, err
}

// mustGet is get that has to succeed, and reads JSON into out.
func mustGet(t testing.TB, url string, out any) {
	t.Helper()
	a, err := get(url)
	if err != nil {
		t.Fatal(err)
	}
	if a.status != http.StatusOK {
		t.Fatalf("GET %s: %d %s", url, a.status, a.body)
	}
	parse(t, a.body, out)
}

// mustPost sends one point and returns the 202 and its members.
func mustPost(t testing.TB, base, point string) (answer, accepted) {
	t.Helper()
	a, err := post(base+"/point", "application/json", strings.NewReader(point))
	if err != nil {
		t.Fatal(err)
	}
	if a.status != http.StatusAccepted {
		t.Fatalf("POST %s: %d %s", point, a.status, a.body)
	}
	var one accepted
	parse(t, a.body, &one)
	return a, one
}

// accepted is the answer to one point, or to many.
type accepted struct {
	ID       any   `json:"id"`
	Position int64 `json:"position"`
	Accepted int64 `json:"accepted"`
	Rejected int64 `json:"rejected"`
}

// parse keeps every digit of a number.
func parse(t testing.TB, raw []byte, out any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(out); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
}

// A feature is a point as it comes out.
type feature struct {
	Type       string
	ID         any
	Geometry   geometry
	Properties map[string]any
	Position   int64
	Received   time.Time
	Time       *time.Time
}

type geometry struct {
	Type        string
	Coordinates []json.Number
}

// allPoints pages through GET /points and returns all there are, oldest first.
// Positions must fall from each to the next, so nothing comes twice.
func allPoints(t testing.TB, base string) []feature {
	t.Helper()
	var all []feature
	last := int64(0)
	next := fmt.Sprintf("/points?limit=%d", pageLimit)
	for next != "" {
		var page struct {
			Features []feature
			Links    []struct{ Rel, Href string }
		}
		mustGet(t, base+next, &page)
		next = ""
		for _, l := range page.Links {
			if l.Rel == "next" {
				next = l.Href
			}
		}
		for _, f := range page.Features {
			if last != 0 && f.Position >= last {
				t.Fatalf("position %d follows %d", f.Position, last)
			}
			last = f.Position
			all = append(all, f)
		}
	}
	for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
		all[i], all[j] = all[j], all[i]
	}
	return all
}

// A status is what GET /status says, as far as tests ask.
type status struct {
	Role    string
	Version string
	Query   struct {
		Database string
		Sequence uint64
		Parked   int64
	}
}

// settled waits until the database has everything that is in the queue now, and
// returns the status of the query role at base.
func settled(t testing.TB, queue, base string) status {
	t.Helper()
	last := lastSequence(t, queue)
	var s status
	testkit.Eventually(t, patience, fmt.Sprintf("message %d is in the database", last), func() bool {
		mustGet(t, base+"/status", &s)
		return s.Query.Sequence >= last
	})
	return s
}

// lastSequence is that of the stream's last message, by the queue itself: what
// a role says of the stream may be a second old.
func lastSequence(t testing.TB, queue string) uint64 {
	t.Helper()
	nc, err := nats.Connect(queue)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), bus.Stream)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq // asked for by Stream
}
