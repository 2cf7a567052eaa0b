package testrig

import (
	"bytes"
	"context"
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
	// requestTimeout is longer than any answer may take here, and ends a request
	// to a process that is stopped.
	requestTimeout = 60 * time.Second
	// pageLimit is the largest page there is.
	pageLimit = 10_000
	// natsTimeout is for a connection to the queue.
	natsTimeout = 2 * time.Second
)

// HTTP is the client of all here: it follows no redirect, so that a test sees
// what a proxy says.
var HTTP = &http.Client{
	Timeout:       requestTimeout,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// An Answer is a response that was read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request and reads the answer.
func Do(ctx context.Context, method, url, contentType string, body io.Reader) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return Answer{}, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	return Send(request)
}

// Send sends a request and reads the answer.
func Send(request *http.Request) (Answer, error) {
	response, err := HTTP.Do(request)
	if err != nil {
		return Answer{}, err
	}
	return ReadAll(response)
}

// ReadAll reads the response to its end.
func ReadAll(response *http.Response) (Answer, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return Answer{response.StatusCode, response.Header, body}, err
}

// SendAlone is Send on a connection of its own. A request that expects to be told
// whether to continue (RFC 9110, section 10.1.1) waits for that.
func SendAlone(request *http.Request) (Answer, error) {
	request.Close = true
	fresh := &http.Transport{ExpectContinueTimeout: requestTimeout}
	defer fresh.CloseIdleConnections()
	response, err := (&http.Client{Timeout: requestTimeout, Transport: fresh}).Do(request)
	if err != nil {
		return Answer{}, err
	}
	return ReadAll(response)
}

// Get is Do for a GET.
func Get(ctx context.Context, url string) (Answer, error) {
	return Do(ctx, http.MethodGet, url, "", nil)
}

// GetJSON reads the JSON of a 200 into out.
func GetJSON(ctx context.Context, url string, out any) error {
	a, err := Get(ctx, url)
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("GET %s: %d %.200s", url, a.Status, a.Body)
	}
	if out == nil {
		return nil
	}
	return Decode(a.Body, out)
}

// Decode reads JSON and keeps every digit of a number.
func Decode(raw []byte, out any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(out); err != nil {
		return fmt.Errorf("%w in %.200s", err, raw)
	}
	return nil
}

// MustGet is GetJSON that has to succeed; out may be nil.
func MustGet(t testing.TB, url string, out any) {
	t.Helper()
	if err := GetJSON(t.Context(), url, out); err != nil {
		t.Fatal(err)
	}
}

// Parse is Decode that has to succeed.
func Parse(t testing.TB, raw []byte, out any) {
	t.Helper()
	if err := Decode(raw, out); err != nil {
		t.Fatal(err)
	}
}

// Accepted is the answer to one point, or to many.
type Accepted struct {
	ID       any
	Position int64
	Accepted int64
	Rejected int64
}

// MustPost writes one point, as JSON, at url and returns the 202 and its members.
func MustPost(t testing.TB, url, point string) (Answer, Accepted) {
	t.Helper()
	a, err := Do(t.Context(), http.MethodPost, url, "application/json", strings.NewReader(point))
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != http.StatusAccepted {
		t.Fatalf("POST %s: %d %s", url, a.Status, a.Body)
	}
	var one Accepted
	Parse(t, a.Body, &one)
	return a, one
}

// A Feature is a point as it comes out.
type Feature struct {
	Type       string
	ID         any
	Geometry   Geometry
	Properties map[string]any
	Position   int64
	Revision   int64
	Received   time.Time
	Time       *time.Time
}

// A Geometry keeps every digit.
type Geometry struct {
	Type        string
	Coordinates []json.Number
}

// A Page is an answer of GET /points.
type Page struct {
	Features []Feature
	Links    []struct{ Rel, Href string }
}

// Next is the URL of the page behind, "" at the end.
func (p *Page) Next() string {
	for _, l := range p.Links {
		if l.Rel == "next" {
			return l.Href
		}
	}
	return ""
}

// AllPoints pages through GET /points and returns all there are, oldest first.
// Positions must fall from each to the next, so nothing comes twice.
func AllPoints(t testing.TB, base string) []Feature {
	t.Helper()
	var newestFirst []Feature
	for next := fmt.Sprintf("%s/points?limit=%d", base, pageLimit); next != ""; {
		var page Page
		MustGet(t, next, &page)
		next = page.Next()
		if strings.HasPrefix(next, "/") { // version 0.1 had no absolute links
			next = base + next
		}
		for _, f := range page.Features {
			if n := len(newestFirst); n > 0 && f.Position >= newestFirst[n-1].Position {
				t.Fatalf("position %d follows %d", f.Position, newestFirst[n-1].Position)
			}
			newestFirst = append(newestFirst, f)
		}
	}
	all := make([]Feature, 0, len(newestFirst))
	for i := len(newestFirst) - 1; i >= 0; i-- {
		all = append(all, newestFirst[i])
	}
	return all
}

// A Status is what GET /status says, as far as is asked here.
type Status struct {
	Role    string
	Version string
	Query   struct {
		Database string
		Sequence uint64
		Parked   int64
	}
}

// Settled waits until the database has everything that is in the queue now, and
// returns the status of the query role at base.
func Settled(t testing.TB, queue, base string) Status {
	t.Helper()
	last, err := LastSequence(t.Context(), queue)
	if err != nil {
		t.Fatal(err)
	}
	var s Status
	testkit.Eventually(t, Patience, fmt.Sprintf("message %d is in the database", last), func() bool {
		MustGet(t, base+"/status", &s)
		return s.Query.Sequence >= last
	})
	return s
}

// LastSequence is that of the stream's last message, by the queue itself: what
// a role says of the stream may be a second old.
func LastSequence(ctx context.Context, queue string) (uint64, error) {
	nc, err := nats.Connect(queue, nats.Timeout(natsTimeout))
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	stream, err := js.Stream(ctx, bus.Stream)
	if err != nil {
		return 0, err
	}
	return stream.CachedInfo().State.LastSeq, nil // asked for by Stream
}

// ServedMetric counts a query replica's answered reads of points.
const ServedMetric = `cairn_http_request_seconds_count{method="GET",route="/points",status="200"}`

// Served reports whether the query replica at base, asked without a proxy between,
// has answered reads of points.
func Served(t testing.TB, base string) bool {
	t.Helper()
	a, err := Get(t.Context(), base+"/metrics")
	return err == nil && a.Status == http.StatusOK && strings.Contains(string(a.Body), ServedMetric)
}

// Metric is the line of the metric with this name and labels in the role's
// /metrics, "" without one.
func Metric(t testing.TB, base, name string) string {
	t.Helper()
	a, err := Get(t.Context(), base+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(a.Body)) {
		if strings.HasPrefix(line, name) {
			return line
		}
	}
	return ""
}
