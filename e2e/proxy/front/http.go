package front

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
)

// requestTimeout is longer than any answer may take here.
const requestTimeout = 60 * time.Second

var client = &http.Client{
	Timeout:   requestTimeout,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	// A test sees what the proxy says.
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
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	return read(response)
}

func read(response *http.Response) (Answer, error) {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return Answer{response.StatusCode, response.Header, body}, err
}

// SendAlone is Send on a connection of its own. A request that expects to be told
// whether to go on (RFC 9110, section 10.1.1) waits for that.
func SendAlone(request *http.Request) (Answer, error) {
	request.Close = true
	fresh := &http.Transport{ExpectContinueTimeout: requestTimeout}
	defer fresh.CloseIdleConnections()
	response, err := (&http.Client{Timeout: requestTimeout, Transport: fresh}).Do(request)
	if err != nil {
		return Answer{}, err
	}
	return read(response)
}

// Get is Do for a GET.
func Get(ctx context.Context, url string) (Answer, error) {
	return Do(ctx, http.MethodGet, url, "", nil)
}

// MustGet is Get that has to succeed, and reads JSON into out where out is not
// nil.
func MustGet(t testing.TB, url string, out any) {
	t.Helper()
	a, err := Get(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != http.StatusOK {
		t.Fatalf("GET %s: %d %s", url, a.Status, a.Body)
	}
	if out == nil {
		return
	}
	decoder := json.NewDecoder(bytes.NewReader(a.Body))
	decoder.UseNumber() // every digit
	if err := decoder.Decode(out); err != nil {
		t.Fatalf("%v in %s", err, a.Body)
	}
}

// Accepted is the answer to a write.
type Accepted struct {
	ID       string
	Position int64
	Accepted int64
	Rejected int64
}

// MustPost writes one point, by JSON, at url and returns the answer.
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
	if err := json.Unmarshal(a.Body, &one); err != nil {
		t.Fatalf("%v in %s", err, a.Body)
	}
	return a, one
}

// A Feature is a point as it comes out.
type Feature struct {
	ID         any
	Position   int64
	Properties map[string]any
}

// pageLimit is the largest page there is.
const pageLimit = 10_000

// AllPoints pages through GET /points, newest first.
func AllPoints(t testing.TB, base string) []Feature {
	t.Helper()
	var all []Feature
	for next := fmt.Sprintf("/points?limit=%d", pageLimit); next != ""; {
		var page struct {
			Features []Feature
			Links    []struct{ Rel, Href string }
		}
		MustGet(t, base+next, &page)
		all = append(all, page.Features...)
		next = ""
		for _, l := range page.Links {
			if l.Rel == "next" {
				next = l.Href
			}
		}
	}
	return all
}

// Served tells whether the query replica at base, asked without a proxy between,
// has answered reads of points.
func Served(t testing.TB, base string) bool {
	t.Helper()
	a, err := Get(t.Context(), base+"/metrics")
	if err != nil || a.Status != http.StatusOK {
		return false
	}
	return strings.Contains(string(a.Body), `cairn_http_request_seconds_count{method="GET",route="/points",status="200"}`)
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
