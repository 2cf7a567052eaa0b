package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cairn/internal/postgres"

	"cairn/internal/testrig"
)

const paris = `{"longitude": 2.3522, "latitude": 48.8566, "name": "Paris"}`

// What a newcomer does: start it on nothing, try what it prints, stop it, start
// it again.
func TestServeFromNothing(t *testing.T) {
	data := testrig.DataFolder(t)
	s := serve(t, data)
	t.Run("greeting", func(t *testing.T) { tryGreeting(t, s) })
	t.Run("location", func(t *testing.T) {
		a, one := testrig.MustPost(t, s.Base+"/point", paris)
		var f testrig.Feature
		testrig.MustGet(t, s.Base+a.Header.Get("Location"), &f)
		if f.ID != one.ID || f.Position != one.Position || f.Properties["name"] != "Paris" {
			t.Errorf("%+v came of %s", f, a.Body)
		}
		if c := f.Geometry.Coordinates; len(c) != 2 || c[0] != "2.3522" || c[1] != "48.8566" {
			t.Errorf("coordinates %v", c)
		}
	})
	before := testrig.AllPoints(t, s.Base)
	if len(before) == 0 {
		t.Fatal("no points")
	}
	s.Leave()
	if url, ok := postgres.Find(testrig.ClusterOf(data)); ok {
		t.Errorf("after the stop %s still runs", url)
	}
	if _, err := testrig.Get(t.Context(), s.Base+"/livez"); err == nil {
		t.Error("after the stop something still answers")
	}
	s = serve(t, data)
	if after := testrig.AllPoints(t, s.Base); len(after) != len(before) || after[0].ID != before[0].ID {
		t.Errorf("%d points before the restart, %d after", len(before), len(after))
	}
	s.Leave()
}

// tryGreeting runs every command that the greeting prints, as it is printed.
func tryGreeting(t *testing.T, s *testrig.Server) {
	commands := regexp.MustCompile(`(?m)^ +((?:curl|nats|\S*cairn) .*)$`).FindAllStringSubmatch(s.Stdout.String(), -1)
	shell := newShell(t)
	var id, position string
	var routes []string
	for _, c := range commands {
		line := c[1]
		line = strings.NewReplacer("FILE.csv", sample("cities.csv"), "FILE.geojson", sample("earthquakes.geojson")).Replace(line)
		if id != "" {
			line = strings.NewReplacer("/ID?", "/"+id+"?", "=N'", "="+position+"'").Replace(line)
		}
		route := routeOf(s.Base, c[1])
		routes = append(routes, route)
		out := shell.run(line)
		want, known := greetingShows[route]
		if !known {
			t.Errorf("the greeting has a command that this test does not know: %s", line)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s\nshows no %q but:\n%s", line, w, out)
			}
		}
		if route == "POST /point" {
			found := regexp.MustCompile(`"id":"([^"]+)","position":(\d+)`).FindStringSubmatch(out)
			if found == nil {
				t.Fatalf("no id and position in\n%s", out)
			}
			id, position = found[1], found[2]
		}
	}
	for route := range greetingShows {
		if !slices.Contains(routes, route) {
			t.Errorf("the greeting has nothing for %s", route)
		}
	}
}

// greetingShows is what each of the greeting's commands must show.
var greetingShows = map[string][]string{
	"POST /point":      {"HTTP/1.1 202 Accepted", "Location: /points/"},
	"/points/ID":       {`"type":"Feature"`, `"coordinates":[2.3522,48.8566]`, `"Paris"`},
	"/points?limit":    {`"type":"FeatureCollection"`, `"Paris"`},
	"/points?bbox":     {`"type":"FeatureCollection"`, `"Paris"`},
	"cairn load":       {"73 accepted, 0 rejected", "66 accepted, 0 rejected"},
	"/status":          {`"role":"serve"`, `"database":"reachable"`},
	"/readyz":          {"ready"},
	"/metrics":         {"# TYPE", "cairn_"},
	"nats stream info": {"Information for Stream POINTS", "Subjects: points.>"},
	"nats stream get":  {"Item: POINTS#1", `"name":"Paris"`},

	"nats consumer info": {"Information for Consumer POINTS > projector"},
}

// routeOf is the key in greetingShows of a command in the greeting.
func routeOf(base, line string) string {
	words := strings.Fields(line)
	switch {
	case filepath.Base(words[0]) == "cairn":
		return "cairn " + words[1]
	case words[0] == "nats":
		return regexp.MustCompile(`--server \S+ `).ReplaceAllString(strings.Join(words[:min(len(words), 5)], " "), "")
	case slices.Contains(words, "POST"):
		return "POST " + strings.TrimPrefix(words[slices.Index(words, "POST")+1], base)
	}
	path := strings.TrimPrefix(strings.Trim(words[1], "'"), base)
	if before, _, ok := strings.Cut(path, "="); ok {
		path = strings.TrimSuffix(before, "?min_position")
	}
	return path
}

// A shell has the programs under test in its PATH, and nobody's settings.
type shell struct {
	t   testing.TB
	env []string
}

func newShell(t testing.TB) *shell {
	t.Helper()
	home := t.TempDir()
	// curl says nothing and succeeds, whatever the status, unless it is told.
	if err := os.WriteFile(filepath.Join(home, ".curlrc"), []byte("fail\nsilent\nshow-error\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := strings.Join([]string{filepath.Dir(cairnProgram), filepath.Dir(natsProgram), os.Getenv("PATH")}, string(os.PathListSeparator))
	return &shell{t, []string{"HOME=" + home, "CURL_HOME=" + home, "XDG_CONFIG_HOME=" + home, "PATH=" + path}}
}

// run runs a line, which must succeed, and returns all it says.
func (s *shell) run(line string) string {
	s.t.Helper()
	out, code := s.try(line)
	if code != 0 {
		s.t.Errorf("%s\nends with code %d:\n%s", line, code, out)
	}
	return out
}

func (s *shell) try(line string) (out string, code int) {
	s.t.Helper()
	p := testrig.Command{Program: "/bin/sh", Args: []string{"-c", line}, Env: s.env}.Start(s.t)
	code = p.Wait(testrig.Patience)
	return p.Stdout.String() + p.Stderr.String(), code
}

// A stop from a service manager is as good as Ctrl-C, also with a client that
// keeps its connection.
func TestSIGTERM(t *testing.T) {
	s := testrig.Command{Program: cairnProgram, Args: []string{"serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", testrig.DataFolder(t)}}.Serve(t)
	if a, err := testrig.Get(t.Context(), s.Base+"/points"); err != nil || a.Status != http.StatusOK {
		t.Fatal(a.Status, err)
	}
	s.Signal(syscall.SIGTERM)
	if code := s.Wait(testrig.StopBound); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
