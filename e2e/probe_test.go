package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// probeProcesses sees that nothing of the server listens but HTTP, MQTT and the queue, and
// that nobody else can reach the database's socket.
func probeProcesses(t *testing.T, s *testrig.Server, data, mqtt string) {
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
		if port != known(s.Base) && port != known(s.NATS()) && port != known("mqtt://"+mqtt) {
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

// probePaths asks, without a key, for what a scanner asks for, and for every path in
// other spellings: only health is told.
func probePaths(t *testing.T, base string, paths []string) {
	t.Helper()
	scanned := append(slices.Clone(paths), "/", "/api", "/docs", "/openapi.json", "/swagger", "/debug/pprof/", "/debug/vars", "/.env", "/.git/config", "/healthz", "/health", "/static/app.js",
		"/lib/maplibre-gl.js", "/status", "/metrics", "/stream", "/stream?latest", "/latest", "/tracks", "/tracks/x", "/points.csv", "/points.parquet", "/points/x", "/point/uploads/x", "/favicon.ico", "/robots.txt",
		"/collections/points/tiles/WebMercatorQuad/0/0/0", "*")
	for _, path := range scanned {
		if path == "/livez" || path == "/readyz" {
			continue
		}
		path = strings.NewReplacer("{", "", "}", "").Replace(path)
		for i, spelling := range []string{path, path + "/", "/" + path, path + "?f=html", path + "?key=", path + "?key=cairn_", "/livez/.." + path, path + "%20", path + ";a=b", strings.ToUpper(path), "/x/../" + path} {
			methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND"}
			if i > 0 {
				methods = methods[:1]
			}
			for _, method := range methods {
				status, body := probe(t, base, method, spelling)
				switch status {
				case http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusNotImplemented:
				default:
					t.Errorf("%s %s without a key: %d %.200s", method, spelling, status, body)
				}
			}
		}
	}
}

// probe sends a request line as it is, on a connection of its own.
func probe(t *testing.T, base, method, target string) (status int, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(testrig.Patience))
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", method, target); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return answer.StatusCode, string(text)
}

// probeMQTT sees that nobody is let in without a key, whatever they say first.
func probeMQTT(t *testing.T, address string) {
	t.Helper()
	text := func(s string) string { return string(rune(0)) + string(rune(len(s))) + s }
	hello := func(flags byte, rest string) string {
		body := text("MQTT") + "\x04" + string(rune(flags)) + "\x00\x3c" + text("c") + rest
		return "\x10" + string(rune(len(body))) + body
	}
	const password, publish = 0x42, "\x32\x07\x00\x01a\x00\x01{}"
	for name, said := range map[string]string{
		"nobody": hello(2, "") + publish, "no packet": publish, "HTTP": "GET /points HTTP/1.1\r\n\r\n",
		"a subscription": "\x82\x06\x00\x01\x00\x01#\x00", "half a password": hello(password, text("x")) + publish,
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(testrig.Patience))
		_, _ = io.WriteString(conn, said)
		answer, _ := io.ReadAll(conn) // a reset is an end, too
		_ = conn.Close()
		if refused := len(answer) == 4 && answer[0] == 0x20 && (answer[3] == 4 || answer[3] == 5); len(answer) > 0 && !refused {
			t.Errorf("MQTT, %s: % x", name, answer)
		}
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

// scopeOf is what a route must ask for, by what it does; a list: all of it.
func scopeOf(method, path string) string {
	switch {
	case path == "/livez" || path == "/readyz":
		return ""
	case path == "/status" || path == "/metrics":
		return "admin"
	case strings.HasPrefix(path, "/hooks") && method == http.MethodGet:
		return "admin" // it sees what else the service talks to
	case strings.HasPrefix(path, "/hooks"):
		return "edit,admin"
	case method == http.MethodPut || method == http.MethodPatch || method == http.MethodDelete:
		return "edit"
	case method == http.MethodPost || path == "/point/osmand" || strings.HasPrefix(path, "/point/from/") || strings.HasPrefix(path, "/point/uploads/"):
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
