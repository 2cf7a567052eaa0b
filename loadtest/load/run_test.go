package load

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A server in the tests lives, as the load does, in the time of a synctest
// bubble: it answers after a delay that is known exactly, and hours pass in
// milliseconds. The network is pipes.
type server struct {
	mu     sync.Mutex
	names  map[string]point
	listed []string
	drop   func(n int) bool // acknowledged, then lost
	posted int
	delay  func(*http.Request) time.Duration
	status func(*http.Request) int
	bare   bool          // gives no address for a point, as the tutorial's
	hidden time.Duration // until a point can be read
	end    chan struct{}
}

type point struct {
	Longitude, Latitude float64
	Name, ID            string
	at                  time.Time
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.delay != nil {
		select {
		case <-time.After(s.delay(r)):
		case <-s.end: // of the test
			return
		}
	}
	if s.status != nil {
		if code := s.status(r); code != 0 {
			w.WriteHeader(code)
			if code != http.StatusNotModified {
				fmt.Fprintln(w, "so it is")
			}
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.Method == http.MethodPost:
		s.post(w, r)
	case r.URL.Path == "/points":
		from := 0
		if !s.bare { // the newest only, as Cairn has it
			from = max(0, len(s.listed)-10)
		}
		w.Header().Set("ETag", `"1"`)
		fmt.Fprintf(w, `{"features":[%s]}`, strings.Join(s.listed[from:], ","))
	default:
		p, ok := s.names[strings.TrimPrefix(r.URL.Path, "/points/")]
		if !ok || time.Since(p.at) < s.hidden {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `{"geometry":{"coordinates":[%v,%v]}}`, p.Longitude, p.Latitude)
	}
}

func (s *server) post(w http.ResponseWriter, r *http.Request) {
	d := json.NewDecoder(r.Body)
	for d.More() {
		p := point{at: time.Now()}
		if err := d.Decode(&p); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if p.ID == "" {
			p.ID = p.Name
		}
		s.posted++
		if s.drop == nil || !s.drop(s.posted) {
			s.names[p.ID] = p
			s.listed = append(s.listed, `{"id":"`+p.ID+`","name":"`+p.Name+`"}`)
		}
		if !s.bare {
			w.Header().Set("Location", "/points/"+p.ID+"?min_position=1")
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p pipes) dial(context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	p.conns <- there
	return here, nil
}

// against runs the load on a server in a bubble.
func against(t *testing.T, s *server, change func(*Config), check func(*testing.T, *Result)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.names, s.end = map[string]point{}, make(chan struct{})
		defer close(s.end)
		l := pipes{make(chan net.Conn), make(chan struct{})}
		h := &http.Server{Handler: s}
		go func() { _ = h.Serve(l) }()
		defer h.Close()
		c := Config{
			Target: Target{URL: &url.URL{Scheme: "http", Host: "target"}, Timeout: 30 * time.Second, Dial: l.dial},
			Plan:   Plan{Users: 300, SpawnRate: 3, Think: Span{time.Second, 3 * time.Second}, Duration: 160 * time.Second},
			Mix:    Mix{Get: 2, Post: 1, Newest: 1, GetPath: "/points", PostPath: "/point", BoxDegrees: 1},
			Name:   "test", Seed: 1, Keep: 1000,
		}
		change(&c)
		r, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		check(t, r)
	})
}

// near allows for chance, with a fixed seed, and the histogram's digits.
func near(t *testing.T, what string, got, want, share float64) {
	t.Helper()
	if math.Abs(got-want) > share*want {
		t.Errorf("%s: %g, not %g within %g %%", what, got, want, 100*share)
	}
}

func TestKnownDelaysAreReported(t *testing.T) {
	var slow atomic.Int64
	s := &server{delay: func(r *http.Request) time.Duration {
		if r.Method == http.MethodPost {
			return 100 * time.Millisecond
		}
		if slow.Add(1)%20 < 2 { // one in ten
			return 400 * time.Millisecond
		}
		return 40 * time.Millisecond
	}}
	against(t, s, func(*Config) {}, func(t *testing.T, r *Result) {
		get, _ := r.Kind(GetNewest)
		post, _ := r.Kind(PostPoint)
		near(t, "p50 of GET", get.P50, 40, 0.01)
		near(t, "p95 of GET", get.P95, 400, 0.01)
		near(t, "mean of GET", get.Mean, 76, 0.01)
		near(t, "p50 of POST", post.P50, 100, 0.01)
		near(t, "p99 of POST", post.P99, 100, 0.01)
		near(t, "GETs for each POST", float64(get.Requests)/float64(post.Requests), 2, 0.05)
		if r.All.Failures != 0 || r.Users != 300 || r.Tool.Limit != "" {
			t.Errorf("%d failures, %d users, %q", r.All.Failures, r.Users, r.Tool.Limit)
		}
		// 300 users who come evenly in 100 s and stay 60 s live 33,000 s, and
		// need 2 s and an answer for a request. Each begins with one.
		near(t, "requests", float64(r.All.Requests), 33_000/2.084+150, 0.01)
		near(t, "requests in a second of the plateau", r.Series[140].PerSecond, 300/2.084, 0.15)
		near(t, "users after 50 s", float64(r.Series[49].Users), 150, 0.02)
		if len(r.Series) != 160 {
			t.Errorf("%d intervals", len(r.Series))
		}
	})
}

// A server that stalls makes all wait who come meanwhile. A generator that waits
// with it would see one slow request and report a fine p99.
func TestOpenModelDoesNotOmitWhatWaits(t *testing.T) {
	s := &server{}
	var start time.Time
	s.delay = func(*http.Request) time.Duration {
		at := time.Since(start)
		if stall := 10 * time.Second; at >= stall && at < stall+2*time.Second {
			return stall + 2*time.Second - at
		}
		return time.Millisecond
	}
	against(t, s, func(c *Config) {
		start = time.Now()
		c.Plan = Plan{Rate: 100, Regular: true, Duration: 20 * time.Second}
	}, func(t *testing.T, r *Result) {
		near(t, "requests", float64(r.All.Requests), 2000, 0.001)
		// A tenth of the requests waits for 0 to 2 s, evenly.
		near(t, "p50", r.All.P50, 1, 0.01)
		near(t, "p95", r.All.P95, 1000, 0.02)
		near(t, "p99", r.All.P99, 1800, 0.02)
		near(t, "max", r.All.Max, 2000, 0.01)
	})
}

func TestWhatSettlesIsNotCounted(t *testing.T) {
	s := &server{}
	var start time.Time
	s.delay = func(*http.Request) time.Duration {
		if time.Since(start) < 5*time.Second {
			return 900 * time.Millisecond
		}
		return 10 * time.Millisecond
	}
	against(t, s, func(c *Config) {
		start = time.Now()
		c.Plan = c.Plan.Level(50, 20*time.Second)
	}, func(t *testing.T, r *Result) {
		near(t, "seconds", r.Seconds, 20, 0.001)
		near(t, "max", r.All.Max, 10, 0.01)
		near(t, "requests/s", r.All.PerSecond, 50/2.01, 0.05)
		near(t, "p50 at the beginning", r.Series[2].P50, 900, 0.01)
	})
}

func TestLostPointsAreFound(t *testing.T) {
	for _, bare := range []bool{false, true} {
		s := &server{bare: bare, drop: func(n int) bool { return n%50 == 0 }}
		against(t, s, func(c *Config) { c.Plan.Users, c.Keep, c.Mix.Bulk, c.Mix.BulkSize = 30, MaxKept, 0.1, 20 }, func(t *testing.T, r *Result) {
			v := r.Verify(t.Context())
			if int64(v.Checked) != v.Acknowledged || v.Missing != s.posted/50 || v.Different+v.Unknown != 0 || v.OK() {
				t.Errorf("bare %t: of %d points %d were lost; the verification says %+v", bare, s.posted, s.posted/50, v)
			}
		})
	}
}

func TestEverythingThere(t *testing.T) {
	s := &server{hidden: 45 * time.Millisecond}
	against(t, s, func(c *Config) { c.Plan.Users, c.Follow, c.Keep = 60, 1, 100 }, func(t *testing.T, r *Result) {
		if v := r.Verify(t.Context()); !v.OK() || v.Checked != 100 || v.Acknowledged != int64(s.posted) {
			t.Errorf("%+v", v)
		}
		see, _ := r.Kind(SeeOwn)
		post, _ := r.Kind(PostPoint)
		// It looks at 0, 10, 30 and 70 ms.
		near(t, "own write seen", see.P50, 70, 0.01)
		if see.Requests < post.Requests-5 || see.Failures > 0 {
			t.Errorf("%d of %d writes were looked for, %d in vain", see.Requests, post.Requests, see.Failures)
		}
	})
}

func TestAPointElsewhereIsDifferent(t *testing.T) {
	s := &server{}
	against(t, s, func(c *Config) { c.Plan.Users = 3 }, func(t *testing.T, r *Result) {
		for id, p := range s.names {
			p.Latitude += 1e-5
			s.names[id] = p
			break
		}
		if v := r.Verify(t.Context()); v.Different != 1 || v.Missing != 0 {
			t.Errorf("%+v", v)
		}
	})
}

func TestFailuresAreToldApart(t *testing.T) {
	var n atomic.Int64
	s := &server{
		delay: func(r *http.Request) time.Duration {
			if r.Method == http.MethodGet {
				if n.Add(1)%100 == 7 {
					return time.Minute
				}
			}
			return time.Millisecond
		},
		status: func(r *http.Request) int {
			if r.Method == http.MethodPost {
				return http.StatusTooManyRequests
			}
			return 0
		},
	}
	against(t, s, func(c *Config) { c.Plan.Users, c.Target.Timeout = 30, 5*time.Second }, func(t *testing.T, r *Result) {
		got := map[string]int64{}
		for _, f := range r.Failures {
			got[f.Kind+": "+f.What] = f.Count
		}
		post, _ := r.Kind(PostPoint)
		get, _ := r.Kind(GetNewest)
		if got["POST /point: 429 Too Many Requests"] != post.Requests || post.Requests == 0 || r.Failures[0].Example != "so it is\n" {
			t.Errorf("%v", r.Failures)
		}
		slow := got["GET /points: no answer within 5s"]
		near(t, "timeouts", float64(slow), float64(get.Requests)/100, 0.2)
		if r.All.Failures != post.Failures+get.Failures {
			t.Errorf("%d failures in all, of %d and %d", r.All.Failures, post.Failures, get.Failures)
		}
	})
}

func TestWhatHangsAtTheEndIsCutAndCounted(t *testing.T) {
	s := &server{delay: func(*http.Request) time.Duration { return time.Hour }}
	against(t, s, func(c *Config) {
		c.Plan = Plan{Users: 5, SpawnRate: 10, Duration: 8 * time.Second}
	}, func(t *testing.T, r *Result) {
		if len(r.Failures) != 1 && len(r.Failures) != 2 || r.All.Failures != 5 || !strings.Contains(r.Failures[0].What, "after the end of the run") {
			t.Errorf("%+v", r.Failures)
		}
		near(t, "seconds", r.Seconds, 8, 0.001)
		near(t, "max", r.All.Max, 18_000, 0.01)
	})
}

func TestAnInterruptedRunHasAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		l := pipes{make(chan net.Conn), make(chan struct{})}
		h := &http.Server{Handler: &server{names: map[string]point{}}}
		go func() { _ = h.Serve(l) }()
		defer h.Close()
		r, err := Run(ctx, Config{
			Target: Target{URL: &url.URL{Scheme: "http", Host: "target"}, Timeout: time.Second, Dial: l.dial},
			Plan:   Plan{Users: 10, SpawnRate: 10, Think: Span{time.Second, time.Second}, Duration: time.Hour},
			Mix:    Mix{Get: 1, Newest: 1, GetPath: "/points"},
		})
		if err != nil || !r.Interrupted {
			t.Fatalf("%v, %+v", err, r)
		}
		near(t, "seconds", r.Seconds, 10, 0.001)
		near(t, "requests", float64(r.All.Requests), 95, 0.1)
	})
}

func TestEveryKindAsksWhatItShould(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	s := &server{}
	s.status = func(r *http.Request) int {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("X-Test") != "yes" || r.Host != "target" {
			seen["wrong header"]++
		}
		switch {
		case r.Header.Get("If-None-Match") != "":
			seen["etag"]++
			return http.StatusNotModified
		case r.URL.Query().Has("bbox"):
			seen["bbox"]++
		case r.URL.Path != "/points" && r.Method == http.MethodGet:
			seen["point"]++
		}
		return 0
	}
	against(t, s, func(c *Config) {
		c.Plan.Users = 30
		c.Mix.Box, c.Mix.Point, c.Mix.Again, c.Mix.Limit = 1, 1, 1, 5
		c.Target.Header = [][2]string{{"X-Test", "yes"}}
	}, func(t *testing.T, r *Result) {
		for _, k := range []Kind{GetNewest, GetBox, GetPoint, GetAgain, PostPoint} {
			if s, ok := r.Kind(k); !ok || s.Failures > 0 {
				t.Errorf("%s: %+v, %v", k.name(&r.run.cfg.Mix), s, r.Failures)
			}
		}
		if seen["etag"] == 0 || seen["bbox"] == 0 || seen["point"] == 0 || seen["wrong header"] > 0 {
			t.Errorf("%v", seen)
		}
	})
}

func TestPlansThatCannotBe(t *testing.T) {
	good := Config{
		Target: Target{URL: &url.URL{Host: "x"}, Timeout: time.Second},
		Plan:   Plan{Users: 1, Duration: time.Second}, Mix: Mix{Get: 1, Newest: 1},
	}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for name, break1 := range map[string]func(*Config){
		"no target":        func(c *Config) { c.Target.URL = nil },
		"no timeout":       func(c *Config) { c.Target.Timeout = 0 },
		"only settling":    func(c *Config) { c.Plan.Settle = time.Second },
		"no users":         func(c *Config) { c.Plan.Users = 0 },
		"too many users":   func(c *Config) { c.Plan.Users = MaxUsers + 1 },
		"no weights":       func(c *Config) { c.Mix = Mix{} },
		"no queries":       func(c *Config) { c.Mix = Mix{Get: 1} },
		"a weight below 0": func(c *Config) { c.Mix.Post = -1 },
		"share above 1":    func(c *Config) { c.Follow = 1.1 },
		"think backwards":  func(c *Config) { c.Plan.Think = Span{2, 1} },
	} {
		c := good
		break1(&c)
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
