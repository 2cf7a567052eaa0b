package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// probeProcesses sees that nothing of the server listens but HTTP and the queue, and
// that nobody else can reach the database's socket.
func probeProcesses(t *testing.T, s *testrig.Server, data string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if err != nil {
		// The cluster's own folder is one deeper.
		found, _ := filepath.Glob(filepath.Join(data, "postgres", "*", "postmaster.pid"))
		if len(found) != 1 {
			t.Fatalf("no postmaster.pid under %s", data)
		}
		if text, err = os.ReadFile(found[0]); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(string(text), "\n") // PostgreSQL documentation, 66.1
	postmaster, err := strconv.Atoi(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	known := func(base string) string {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		return u.Port()
	}
	for _, port := range listening(t, s.PID()) {
		if port != known(s.Base) && port != known(s.NATS()) {
			t.Errorf("the server listens at port %s, too", port)
		}
	}
	if ports := listening(t, postmaster); len(ports) > 0 {
		t.Errorf("the database listens at ports %v", ports)
	}
	socket := lines[4]
	closed := false
	for dir := socket; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		closed = closed || info.Mode().Perm()&0o011 == 0
	}
	if !closed {
		t.Errorf("everybody can enter %s, where the database's socket is", socket)
	}
}

// listening are the TCP ports at which the process listens; see proc_net(5).
func listening(t *testing.T, pid int) (ports []string) {
	t.Helper()
	inodes := map[string]bool{}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("the files of process %d cannot be seen: %v", pid, err)
	}
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil && strings.HasPrefix(target, "socket:[") {
			inodes[strings.Trim(target[len("socket:"):], "[]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			const listens = "0A"
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != listens || !inodes[fields[9]] {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, strconv.FormatUint(port, 10))
		}
	}
	return ports
}

// scopeOf is what a route must ask for, by what it does.
func scopeOf(method, path string) string {
	switch {
	case path == "/livez" || path == "/readyz":
		return ""
	case path == "/status" || path == "/metrics":
		return "admin"
	case method == http.MethodPut || method == http.MethodPatch || method == http.MethodDelete:
		return "edit"
	case method == http.MethodPost || path == "/point/osmand" || strings.HasPrefix(path, "/point/uploads/"):
		return "write"
	}
	return "read"
}

// everyRouteByEveryScope asks every route that is described, by a key of each scope:
// one lets in, by what the route does, and the refusal of the others names it.
func everyRouteByEveryScope(t *testing.T, s *testrig.Server, data string) {
	t.Helper()
	var api struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	keys := map[string]string{}
	for _, scope := range []string{"read", "write", "edit", "admin"} {
		keys[scope] = addKey(t, s, data, "only-"+scope, scope)
	}
	testkit.Eventually(t, testrig.Patience, "the keys hold", func() bool {
		for _, key := range keys {
			if ask(t, http.MethodGet, s.Base+"/points", key, "").Status == http.StatusUnauthorized {
				return false
			}
		}
		return true
	})
	testrig.Parse(t, ask(t, http.MethodGet, s.Base+"/api?f=json", keys["read"], "").Body, &api)
	asked := 0
	for path, methods := range api.Paths {
		for method := range methods {
			method = strings.ToUpper(method)
			if !slices.Contains([]string{"GET", "POST", "PUT", "PATCH", "DELETE"}, method) {
				continue
			}
			needs, sent := scopeOf(method, path), method
			if path == "/stream" {
				sent = http.MethodHead // which ends
			}
			for scope, key := range keys {
				asked++
				a := ask(t, sent, s.Base+strings.NewReplacer("{", "", "}", "").Replace(path), key, "")
				refused := a.Status == http.StatusForbidden && (sent == http.MethodHead || strings.Contains(string(a.Body), `"scope":"`+needs+`"`))
				in := a.Status != http.StatusForbidden && a.Status != http.StatusUnauthorized
				if want := needs == "" || needs == scope; want != in || !in && !refused {
					t.Errorf("%s %s by %s: %d %.200s; it is for %q", method, path, scope, a.Status, a.Body, needs)
				}
			}
		}
	}
	if asked < 100 {
		t.Errorf("only %d requests were made", asked)
	}
	for _, scope := range []string{"read", "write", "edit", "admin"} {
		if p, code := run(t, "keys", "rm", "only-"+scope, "--data", data, "--nats-url", s.NATS()); code != 0 {
			t.Error(p.Stderr.Tail())
		}
	}
}
