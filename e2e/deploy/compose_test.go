//go:build e2edeploy

package deploy

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

const (
	// patience bounds the wait for what takes a moment on an idle machine.
	patience = 3 * time.Minute
	// replicas is what docker-compose.yml says.
	replicas = 3

	paris = `{"longitude":2.3522,"latitude":48.8566,"name":"Paris"}`
)

// A stack is docker-compose.yml, started.
type stack struct {
	t     testing.TB
	name  string   // of the project
	files []string // to put over each other
	env   []string
	base  string // http://host:port of the proxy
	queue string // host:port of the queue
}

// newStack is one that has nothing yet. What it makes is gone after the test.
func newStack(t testing.TB, name string) *stack {
	t.Helper()
	port, queue := freePort(t), freePort(t)
	s := &stack{t: t, name: project + name, files: []string{"docker-compose.yml"}, base: "http://127.0.0.1:" + port, queue: "127.0.0.1:" + queue,
		env: []string{"CAIRN_VERSION=e2e", "CAIRN_PORT=" + port, "CAIRN_NATS_PORT=" + queue, "CAIRN_LOG_LEVEL=warn"}}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.try("logs", "--no-color", "--tail", "30")
			t.Log(out)
		}
		if out, err := s.try("down", "--volumes", "--timeout", "5"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	return s
}

func freePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(testrig.FreePort(t))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// try runs docker compose, in whichever form there is.
func (s *stack) try(args ...string) (string, error) {
	line := []string{"docker", "compose"}
	if _, err := command("docker", "compose", "version"); err != nil {
		line = []string{"docker-compose"}
	}
	line = append(line, "--project-name", s.name)
	for _, f := range s.files {
		line = append(line, "--file", f)
	}
	line = append(line, args...)
	return commandIn(root, commandBound, s.env, line[0], line[1:]...)
}

func (s *stack) compose(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := command("docker", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// up starts all of it and waits until both roles answer through the proxy.
func (s *stack) up(args ...string) {
	s.t.Helper()
	s.compose(append([]string{"up", "--detach", "--no-build"}, args...)...)
	s.ready()
}

func (s *stack) ready() {
	s.t.Helper()
	testkit.Eventually(s.t, patience, "both roles answer through the proxy", func() bool {
		for _, path := range []string{"/readyz", "/point/none"} {
			a, err := testrig.Get(s.t.Context(), s.base+path)
			if err != nil || a.Status >= http.StatusInternalServerError {
				return false
			}
		}
		return true
	})
}

// containers are those of a service that run.
func (s *stack) containers(service string) []string {
	s.t.Helper()
	return strings.Fields(docker(s.t, "ps", "--quiet", "--filter", "label=com.docker.compose.project="+s.name, "--filter", "label=com.docker.compose.service="+service))
}

// served says how many query containers have answered reads of points.
func (s *stack) served() int {
	s.t.Helper()
	n := 0
	for _, c := range s.containers("query") {
		address := docker(s.t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", c)
		if testrig.Served(s.t, "http://"+net.JoinHostPort(address, "8082")) {
			n++
		}
	}
	return n
}

// password is that of a user of the queue.
func (s *stack) password(user string) string {
	s.t.Helper()
	out := strings.TrimSpace(s.compose("run", "--rm", "-T", "secrets", user))
	return out[strings.LastIndexByte(out, '\n')+1:] // what Compose itself says comes first
}

func TestCompose(t *testing.T) {
	for _, proxy := range []struct {
		name  string
		files []string
	}{
		{"haproxy", nil},
		{"nginx", []string{"deploy/nginx/compose.nginx.yml"}},
	} {
		t.Run(proxy.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting for containers
			s := newStack(t, proxy.name)
			s.files = append(s.files, proxy.files...)
			s.up()
			for _, step := range []struct {
				name string
				do   func(*stack, *testing.T)
			}{
				{"point", (*stack).point},
				{"map", (*stack).showsMap},
				{"nats", (*stack).inspects},
				{"scale", (*stack).scales},
				{"kill", (*stack).losesReplica},
				{"restart", (*stack).restarts},
				{"down", (*stack).comesBack},
			} {
				if !t.Run(step.name, func(t *testing.T) {
					outer := s.t
					s.t = t
					defer func() { s.t = outer }()
					step.do(s, t)
				}) {
					return
				}
			}
		})
	}
}

// A point goes in and comes out through the port in testrig.
func (s *stack) point(t *testing.T) {
	for _, path := range []string{"/point", "/points"} {
		a, one := testrig.MustPost(t, s.base+path, paris)
		var back testrig.Feature
		testrig.MustGet(t, s.base+a.Header.Get("Location"), &back)
		if back.ID != one.ID {
			t.Errorf("%s became %+v", a.Body, back)
		}
	}
	testkit.Eventually(t, patience, "every replica has served", func() bool {
		testrig.MustGet(t, s.base+"/points", nil)
		return s.served() == replicas
	})
	for service, user := range map[string]string{"ingest": "10001", "projector": "10002", "query": "10003"} {
		for _, c := range s.containers(service) {
			if got := docker(t, "inspect", "--format", "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}", c); got != user+" true" {
				t.Errorf("%s runs as %s", service, got)
			}
			testkit.Eventually(t, patience, service+" is healthy", func() bool {
				return docker(t, "inspect", "--format", "{{.State.Health.Status}}", c) == "healthy"
			})
		}
	}
}

// A browser at the port gets the map, with its library: the image was built with it.
func (s *stack) showsMap(t *testing.T) {
	for path, want := range map[string]string{"/?f=html": `id="map"`, "/lib/maplibre-gl-csp.js": "maplibre"} {
		a, err := testrig.Get(t.Context(), s.base+path)
		if err != nil || a.Status != http.StatusOK || !strings.Contains(string(a.Body), want) {
			t.Errorf("%s: %d %.100s %v", path, a.Status, a.Body, err)
		}
	}
}

// The read-only user looks into the queue from this machine and changes nothing;
// without a password nobody does.
func (s *stack) inspects(t *testing.T) {
	look := func(user, password string, args ...string) (string, error) {
		return command(nats, append([]string{"--server", "nats://" + s.queue, "--timeout", "2s", "--user", user, "--password", password}, args...)...)
	}
	password := s.password("inspect")
	out, err := look("inspect", password, "stream", "info", "POINTS")
	if err != nil || !strings.Contains(out, "Information for Stream POINTS") {
		t.Errorf("%v: %s", err, out)
	}
	for _, change := range [][]string{{"pub", "points.events", "x"}, {"stream", "purge", "-f", "POINTS"}, {"stream", "rm", "-f", "POINTS"}} {
		if out, err := look("inspect", password, change...); err == nil {
			t.Errorf("nats %v is not refused: %s", change, out)
		}
	}
	for user, wrong := range map[string]string{"inspect": "wrong", "projector": password} {
		if out, err := look(user, wrong, "stream", "info", "POINTS"); err == nil {
			t.Errorf("%s is let in: %s", user, out)
		}
	}
	if out, err := command(nats, "--server", "nats://"+s.queue, "--timeout", "2s", "stream", "info", "POINTS"); err == nil {
		t.Errorf("nobody is let in: %s", out)
	}
}

// Two more replicas serve soon after, two fewer are not missed; no read fails.
func (s *stack) scales(t *testing.T) {
	const more = replicas + 2
	reads := testrig.Read(s.base, 4)
	s.compose("up", "--detach", "--no-build", "--scale", fmt.Sprint("query=", more))
	testkit.Eventually(t, patience, fmt.Sprint(more, " replicas serve"), func() bool { return s.served() == more })
	s.compose("up", "--detach", "--no-build", "--scale", fmt.Sprint("query=", replicas))
	reads.Reach(t, 500)
	reads.Stop(t)
	if n := len(s.containers("query")); n != replicas {
		t.Errorf("%d replicas run", n)
	}
}

// A replica is killed while reads continue: none fails.
func (s *stack) losesReplica(t *testing.T) {
	reads := testrig.Read(s.base, 8)
	for _, c := range s.containers("query")[:replicas-1] {
		reads.Reach(t, 500)
		docker(t, "kill", c)
		reads.Reach(t, 500)
	}
	s.compose("up", "--detach", "--no-build")
	reads.Reach(t, 500)
	testkit.Eventually(t, patience, "all replicas serve again", func() bool { return s.served() == replicas })
	reads.Stop(t)
}

// Ingest and projector restart, in an orderly way or not, while points are
// written: none that was acknowledged is lost, and no read fails.
func (s *stack) restarts(t *testing.T) {
	l := testrig.NewLedger("restart")
	stop := l.Write(s.base, 8)
	defer stop()
	reads := testrig.Read(s.base, 2)
	const some = 200
	for _, service := range []string{"ingest", "projector"} {
		l.Reach(t, some)
		s.compose("restart", service)
		l.Reach(t, some)
		c := s.containers(service)[0]
		docker(t, "kill", c)
		docker(t, "start", c)
		l.Reach(t, some)
	}
	reads.Stop(t)
	stop()
	l.Verify(t, s.base)
}

// What was written is there after all containers are gone and recreated.
func (s *stack) comesBack(t *testing.T) {
	l := testrig.NewLedger("down")
	stop := l.Write(s.base, 4)
	l.Reach(t, 100)
	stop()
	before := len(testrig.AllPoints(t, s.base))
	s.compose("down")
	s.up()
	l.Verify(t, s.base)
	if after := len(testrig.AllPoints(t, s.base)); after < before {
		t.Errorf("%d points of %d are left", after, before)
	}
}

// The image is small, runs as nobody in particular, and says what it is.
func TestImage(t *testing.T) {
	const most = 64 << 20
	size, err := strconv.Atoi(docker(t, "image", "inspect", "--format", "{{.Size}}", builtImage))
	if err != nil || size > most {
		t.Errorf("the image has %d bytes, %v", size, err)
	}
	t.Logf("%.1f MB", float64(size)/1e6)
	var config struct {
		User        string
		Labels      map[string]string
		Healthcheck struct{ Test []string }
	}
	if err := json.Unmarshal([]byte(docker(t, "image", "inspect", "--format", "{{json .Config}}", builtImage)), &config); err != nil {
		t.Fatal(err)
	}
	if config.User != "65532:65532" || config.Labels["org.opencontainers.image.version"] != "e2e" || config.Healthcheck.Test[0] != "CMD" {
		t.Errorf("%+v", config)
	}
	out := docker(t, "run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", builtImage, "version")
	if !strings.Contains(out, "cairn e2e") {
		t.Error(out)
	}
}
