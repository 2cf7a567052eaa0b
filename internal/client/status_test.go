package client

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

const someStatus = `{"ingest":{"ready":true,"queue":{"bytes":1073741824,"messages":0,"oldest_seconds":75.5},"sequence":199568,"error":null},
	"note":"","query":{"replicas":[{"name":"a","lag_ms":12.5},{"name":"b","lag_ms":0}],"parked":[],"uptime":"26h3m4.5s","started":"2026-11-21T22:43:01Z"},
	"role":"serve","version":"v0.1.0"}`

func TestStatus(t *testing.T) {
	s := serve(t, respond(http.StatusOK, someStatus))
	var out bytes.Buffer
	if err := Status(context.Background(), s.URL, &out); err != nil {
		t.Fatal(err)
	}
	if path := s.seen()[0].path; path != "/status" {
		t.Errorf("asked for %s", path)
	}
	golden(t, testdata(t, "status.golden"), out.String())
}

func TestStatusErrors(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, test := range []struct {
		name, url string
		want      []string
	}{
		{"not reachable", closed.URL, []string{"nothing answers at " + closed.URL, "cairn serve", "make run"}},
		{"problem", serve(t, respond(http.StatusServiceUnavailable, `{"detail":"starting"}`)).URL, []string{"503 Service Unavailable: starting"}},
		{"no JSON", serve(t, respond(http.StatusOK, `<html>`)).URL, []string{"is not the status of Cairn"}},
		{"no object", serve(t, respond(http.StatusOK, `7`)).URL, []string{"is not the status of Cairn"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			err := Status(context.Background(), test.url, &out)
			if err == nil || out.Len() > 0 {
				t.Fatalf("got %v and %q", err, out.String())
			}
			mustContain(t, err.Error(), test.want...)
		})
	}
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte(someStatus))
	f.Add([]byte(`{"a":[[[{"b":1e400}]]],"c_seconds":-1e300}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, _ = renderStatus(raw)
	})
}

func TestReadable(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 7: "7 ns", 250 * time.Microsecond: "250 µs", 12*time.Millisecond + 560*time.Microsecond: "12.5 ms", 250 * time.Millisecond: "250 ms",
		6*time.Second + 130*time.Millisecond: "6.1 s", 59*time.Second + 999*time.Millisecond: "59.9 s",
		time.Minute: "1 min", 125 * time.Second: "2 min 5 s", 26 * time.Hour: "1 d 2 h", -time.Second: "-1 s",
	} {
		if got := readableDuration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	for number, want := range map[string]string{
		"0": "0", "999": "999", "1000": "1,000", "-1234567.891": "-1,234,567.891", "1e9": "1e9",
	} {
		if got := groupDigits(number); got != want {
			t.Errorf("%s: got %q, want %q", number, got, want)
		}
	}
	for _, test := range []struct {
		rows int64
		took time.Duration
		want string
	}{
		{199568, 6100 * time.Millisecond, "32,700 rows/s"}, {1, 12 * time.Millisecond, "83 rows/s"},
		{0, time.Second, "0 rows/s"}, {999, time.Second, "999 rows/s"}, {1234567, time.Second, "1,230,000 rows/s"},
	} {
		if got := rate(test.rows, test.took); got != test.want {
			t.Errorf("%d in %v: got %q, want %q", test.rows, test.took, got, test.want)
		}
	}
}
