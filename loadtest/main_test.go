package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cairn/loadtest/load"
)

// server answers at once; every point that it takes is at its address.
func server(t *testing.T, status int) (string, *atomic.Int64) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		if status != 0 {
			w.WriteHeader(status)
		}
		fmt.Fprint(w, `{"features":[]}`)
	}))
	t.Cleanup(s.Close)
	return s.URL, &n
}

func TestExitCodes(t *testing.T) {
	good, asked := server(t, 0)
	bad, _ := server(t, http.StatusServiceUnavailable)
	short := []string{"--users=4", "--spawn-rate=100", "--think=10ms-30ms", "--duration=300ms", "--weights=get=1,post=0"}
	for _, c := range []struct {
		name string
		args []string
		code int
	}{
		{"all well", append(short, "--target="+good), exitOK},
		{"failures", append(short, "--target="+bad), exitFailed},
		{"failures that are allowed", append(short, "--target="+bad, "--failures=100%"), exitOK},
		{"too slow", append(short, "--target="+good, "--p95=1ns"), exitFailed},
		{"at a rate", append(short, "--target="+good, "--rate=50", "--ramp=0s", "--arrivals=even"), exitOK},
		{"devices and a rate", []string{"--devices=5", "--rate=5"}, exitUsage},
		{"devices more often than they can tell", []string{"--devices=5", "--every=100ms"}, exitUsage},
		{"no flag", []string{"--no-such-flag"}, exitUsage},
		{"no kind", []string{"--queries=oldest=1"}, exitUsage},
		{"no target", []string{"--target=ftp://x"}, exitUsage},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			var out bytes.Buffer
			if code := run(append(c.args, "--out="+folder), &out); code != c.code {
				t.Errorf("exit code %d, not %d\n%s", code, c.code, out.String())
			}
			if _, err := os.Stat(filepath.Join(folder, "index.html")); (err == nil) != (c.code != exitUsage) {
				t.Errorf("the report: %v", err)
			}
		})
	}
	if asked.Load() == 0 {
		t.Error("nothing was asked")
	}
}

func TestNobodyAtTheTarget(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	if code := run([]string{"--target=" + s.URL, "--out=" + t.TempDir()}, &bytes.Buffer{}); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

func TestDefaultsAreTheTutorials(t *testing.T) {
	var got *test
	f := parse(t)
	got, err := f.test(&bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	p, m := got.plan, got.mix
	if p.Users != 300 || p.SpawnRate != 3 || p.Think != (load.Span{Min: time.Second, Max: 3 * time.Second}) || p.Duration != 160*time.Second || p.Open() {
		t.Errorf("%+v", p)
	}
	if m.Get != 2*m.Post || m.Newest == 0 || m.Box+m.Point+m.Again+m.Bulk != 0 || got.targets[0].URL.String() != "http://127.0.0.1:8080" || got.targets[0].AcceptEncoding != "gzip" {
		t.Errorf("%+v, %+v", m, got.targets)
	}
	if !f.Failures.allows(0, 100) || f.Failures.allows(1, 1_000_000) || f.P95 != time.Second {
		t.Errorf("%+v, %v", f.Failures, f.P95)
	}
}

func parse(t *testing.T, args ...string) *flags {
	t.Helper()
	var f flags
	p, err := parser(&f)
	if err == nil {
		_, err = p.Parse(args)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &f
}

func TestFlagsOfTheirOwnSort(t *testing.T) {
	f := parse(t, "--think=2s", "--failures=2.5%", "--verify=all", "--queries=bbox=3,etag=1", "--header=A: b,c")
	got, err := f.test(&bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Think != (span{2 * time.Second, 2 * time.Second}) || !f.Failures.allows(25, 1000) || f.Failures.allows(26, 1000) || int(f.Verify) != load.MaxKept {
		t.Errorf("%+v", f)
	}
	if got.mix.Box != 3 || got.mix.Again != 1 || got.mix.Newest != 0 || got.targets[0].Header[0] != [2]string{"A", "b,c"} {
		t.Errorf("%+v, %+v", got.mix, got.targets)
	}
	for _, text := range []string{"", "3s-1s", "x-1s", "-1s", "1s-2s-3s"} {
		if err := new(span).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a span", text)
		}
	}
	for _, text := range []string{"", "-1", "x", "1.5", "-1%"} {
		if err := new(allowance).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is allowed", text)
		}
	}
}

func TestLinesFitTheTerminal(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"short", "short"},
		{"exactly10!", "exactly10!"},
		{"a line that is longer", "a line tha" + normal},
		{bold + "bold" + normal + " and longer", bold + "bold" + normal + " and l" + normal},
		{"░░░░░░░░░░░░", "░░░░░░░░░░" + normal},
	} {
		if got := cut(c.line, 10); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

func TestTheTableReplacesItself(t *testing.T) {
	var out bytes.Buffer
	d := &display{out: &out, terminal: true, size: func() (int, int) { return 100, 30 }}
	p := load.Progress{Sample: load.Sample{At: 5, Seconds: 1, Users: 15, PerSecond: 7}, Planned: 160 * time.Second, All: load.Stats{Name: "all", Requests: 35}}
	d.progress(p)
	lines := strings.Count(out.String(), "\n")
	out.Reset()
	d.progress(p)
	if want := fmt.Sprintf("\x1b[%dA\r", lines); !strings.HasPrefix(out.String(), want) || !strings.Contains(out.String(), "0:05 of 2:40") {
		t.Errorf("%q does not begin with %q", out.String(), want)
	}
}
