package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	programs "cairn/ingest/device"
	broker "cairn/ingest/mqtt"
)

// A server takes what the real readers of programs read, and tells where devices were.
type server struct {
	mu     sync.Mutex
	tracks map[string]map[time.Time][]float64
	taken  int

	refuse int                  // so many first requests and messages
	lose   func(taken int) bool // acknowledged, and gone
	move   float64              // degrees by which it stores a fix elsewhere
	stale  bool                 // /latest has the oldest
	tell   func(told int) int   // how often it sends a message, under an id each

	hook   string // where to
	inside map[string]bool
	told   int
}

func (s *server) take(fixes []programs.Fix, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse > 0 {
		s.refuse--
		return fmt.Errorf("not now")
	}
	if err != nil {
		return err
	}
	for _, f := range fixes {
		if s.taken++; s.lose != nil && s.lose(s.taken) {
			continue
		}
		var feature struct {
			Geometry struct{ Coordinates []float64 }
		}
		if err := json.Unmarshal(f.Feature, &feature); err != nil {
			return err
		}
		if s.tracks[f.Device] == nil {
			s.tracks[f.Device] = map[time.Time][]float64{}
		}
		c := feature.Geometry.Coordinates
		s.tracks[f.Device][f.Time] = []float64{c[0] + s.move, c[1]}
		if err := s.cross(f.Device, f.Time, c[0]-math.Floor(c[0]) > 0.5/step); err != nil {
			return err
		}
	}
	return nil
}

// cross tells the hook where a device is, if it was not there before.
func (s *server) cross(name string, at time.Time, inside bool) error {
	if s.hook == "" || s.inside[name] == inside {
		return nil
	}
	s.inside[name] = inside
	kind, times := "fence.leave", 1
	if inside {
		kind = "fence.enter"
	}
	if s.told++; s.tell != nil {
		times = s.tell(s.told)
	}
	for n := range times {
		res, err := http.Post(s.hook, "application/json", strings.NewReader(fmt.Sprintf(`{"type":%q,"timestamp":%q,"data":{"id":"%d-%d","name":%q}}`, kind, at.Format(time.RFC3339), s.told, n, name)))
		if err != nil {
			return err
		}
		_ = res.Body.Close()
	}
	return nil
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	answer := func(text string, err error) {
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, text)
	}
	switch {
	case r.URL.Path == "/point/osmand":
		answer("", s.take(programs.OsmAnd(r.URL.RawQuery)))
	case r.URL.Path == "/point/owntracks":
		answer("[]", s.take(programs.OwnTracks(body, r.Header.Get("X-Limit-U"), r.Header.Get("X-Limit-D"))))
	case r.URL.Path == "/point/overland":
		answer(`{"result":"ok"}`, s.take(programs.Overland(body)))
	case strings.HasPrefix(r.URL.Path, "/hooks/") && r.Method == http.MethodPut:
		var hook struct{ URL string }
		err := json.Unmarshal(body, &hook)
		s.hook = hook.URL
		answer("{}", err)
	case strings.HasPrefix(r.URL.Path, "/hooks/"), strings.HasPrefix(r.URL.Path, "/fences/"):
		answer("{}", nil)
	case r.URL.Path == "/latest":
		answer(s.latest(r.URL.Query().Get("name")), nil)
	default:
		answer(s.track(strings.TrimPrefix(r.URL.Path, "/tracks/")), nil)
	}
}

func (s *server) latest(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var at time.Time
	for t := range s.tracks[name] {
		if at.IsZero() || t.After(at) != s.stale {
			at = t
		}
	}
	return fmt.Sprintf(`{"features":[{"time":%q}]}`, at.Format(time.RFC3339))
}

func (s *server) track(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var places [][]float64
	var times []time.Time
	for at, place := range s.tracks[name] {
		places, times = append(places, place), append(times, at)
	}
	if len(places) == 1 {
		places, times = append(places, places[0]), append(times, times[0])
	}
	text, _ := json.Marshal(map[string]any{"geometry": map[string]any{"coordinates": places}, "properties": map[string]any{"coordTimes": times}})
	return string(text)
}

// start runs the server, and gives what devices need to know of it.
func (s *server) start(t *testing.T) Config {
	s.tracks, s.inside = map[string]map[time.Time][]float64{}, map[string]bool{}
	http := httptest.NewServer(s)
	t.Cleanup(http.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		ended <- broker.Serve(t.Context(), broker.Config{Listener: l, Log: slog.New(slog.DiscardHandler), Login: func(string, []byte) (broker.Publisher, error) {
			return func(topic string, payload []byte) error {
				user, name, _ := strings.Cut(strings.TrimPrefix(topic, "owntracks/"), "/")
				return s.take(programs.OwnTracks(payload, user, name))
			}, nil
		}})
	}()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(http.URL)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Target: u, MQTTAddress: l.Addr().String(), HTTP: 6, MQTT: 2, User: "load", Every: time.Second, Duration: 1200 * time.Millisecond,
		Timeout: 10 * time.Second, Asked: 30, Name: "run"}
}

// What every program sent and was acknowledged is found, also where the first answers
// were refusals; what a server lost, moved, or does not have in /latest is told.
func TestFleet(t *testing.T) {
	for _, c := range []struct {
		name   string
		server *server
		want   func(*Result, *Verification) bool
	}{
		{"a good server", &server{}, func(r *Result, v *Verification) bool { return v.OK() && r.Failures == 0 }},
		{"one that refuses at first", &server{refuse: 5}, func(r *Result, v *Verification) bool { return v.OK() && r.Failures > 0 && len(r.Reasons) > 0 }},
		{"one that loses", &server{lose: func(n int) bool { return n == 3 }}, func(_ *Result, v *Verification) bool { return v.Missing == 1 && v.Wrong == 0 }},
		{"one that moves", &server{move: 0.1}, func(r *Result, v *Verification) bool { return v.Wrong == r.Acked && v.Missing == 0 }},
		{"one whose newest is the oldest", &server{stale: true}, func(_ *Result, v *Verification) bool { return v.Behind > 0 && v.Missing+v.Wrong == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := c.server.start(t)
			config.settle = time.Second
			r, err := Run(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			if !c.want(r, r.Verified) || r.Verified.Unknown != 0 {
				t.Errorf("%+v, %+v", r, r.Verified)
			}
			if r.Made <= 8 || r.Acked != r.Made || len(r.Sent) != int(kinds) || len(r.Latest) != queryKinds || r.Dropped != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Each crossing of the fence is told to the hook; what is not told, or twice, is seen.
func TestCrossings(t *testing.T) {
	for _, c := range []struct {
		name   string
		server *server
		want   func(*Crossings) bool
	}{
		{"all are told", &server{}, func(c *Crossings) bool { return c.OK() && c.Took.Count == c.Arrived && c.Repeated == 0 }},
		{"one is not", &server{tell: func(n int) int { return min(n-1, 1) }}, func(c *Crossings) bool { return !c.OK() && c.Arrived == c.Acknowledged-1 && len(c.Examples) == 1 }},
		{"one is told twice", &server{tell: func(n int) int { return max(3-n, 1) }}, func(c *Crossings) bool { return !c.OK() && c.Twice == 1 && c.Arrived == c.Acknowledged }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := c.server.start(t)
			config.Hook, config.settle, config.period = "127.0.0.1:0", time.Second, 4
			r, err := Run(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			if r.Crossings == nil || !c.want(r.Crossings) || !r.Verified.OK() {
				t.Errorf("%+v, %+v", r.Crossings, r.Verified)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	good := Config{HTTP: 1, Every: time.Second, Duration: time.Minute}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]func(*Config){
		"nobody": func(c *Config) { c.HTTP = 0 }, "too many": func(c *Config) { c.MQTT = MaxDevices }, "a half second": func(c *Config) { c.Every = time.Second / 2 },
		"no time": func(c *Config) { c.Duration = time.Millisecond }, "fewer than none": func(c *Config) { c.MQTT = -1 },
	} {
		c := good
		if bad(&c); c.Validate() == nil {
			t.Errorf("%s: %+v is taken", name, c)
		}
	}
}
