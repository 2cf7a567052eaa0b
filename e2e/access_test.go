package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// ask makes a request with a key, or without.
func ask(t *testing.T, method, url, key, body string) testrig.Answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	a, err := testrig.SendAlone(request)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// With --auth keys, nothing but health is told to who has none; who has one may
// what it is for, and is the author of what it writes.
func TestAccessKeys(t *testing.T) {
	data := testrig.DataFolder(t)
	s := serve(t, data, "--auth", "keys")
	queue := s.NATS()
	key := func(name, scope string) string {
		p, code := run(t, "keys", "add", name, "--scope", scope, "--data", data, "--nats-url", queue)
		if code != 0 {
			t.Fatal(p.Stderr.Tail())
		}
		return strings.TrimSpace(p.Stdout.String())
	}
	all := key("boss", "read,write,edit,admin")
	phone := key("phone", "write")
	testkit.Eventually(t, testrig.Patience, "the keys hold", func() bool {
		return ask(t, http.MethodGet, s.Base+"/status", all, "").Status == http.StatusOK
	})

	t.Run("probed without a key", func(t *testing.T) {
		var api struct {
			Paths map[string]map[string]json.RawMessage `json:"paths"`
		}
		testrig.Parse(t, ask(t, http.MethodGet, s.Base+"/api?f=json", all, "").Body, &api)
		if len(api.Paths) < 5 {
			t.Fatalf("only %d paths are described", len(api.Paths))
		}
		for path, methods := range api.Paths {
			for method := range methods {
				a := ask(t, strings.ToUpper(method), s.Base+strings.NewReplacer("{", "", "}", "").Replace(path), "", "")
				open := path == "/livez" || path == "/readyz"
				if open && a.Status != http.StatusOK || !open && a.Status != http.StatusUnauthorized {
					t.Errorf("%s %s without a key: %d %s", method, path, a.Status, a.Body)
				}
			}
		}
		for _, path := range []string{"/status", "/metrics", "/stream", "/points", "/points/x"} {
			if a := ask(t, http.MethodGet, s.Base+path, "", ""); a.Status != http.StatusUnauthorized || strings.Contains(string(a.Body), "sequence") {
				t.Errorf("GET %s without a key: %d %s", path, a.Status, a.Body)
			}
		}
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(queue, "nats://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	})
	t.Run("written by a key", func(t *testing.T) {
		if a := ask(t, http.MethodPost, s.Base+"/point", phone, paris); a.Status != http.StatusAccepted {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
		if a := ask(t, http.MethodPost, s.Base+"/point?on-conflict=replace", phone, paris); a.Status != http.StatusForbidden || !strings.Contains(string(a.Body), `"scope":"edit"`) {
			t.Errorf("replace: %d %s", a.Status, a.Body)
		}
		if a := ask(t, http.MethodDelete, s.Base+"/point/x", phone, ""); a.Status != http.StatusForbidden {
			t.Errorf("delete: %d %s", a.Status, a.Body)
		}
		out := newShell(t).run("nats --server " + queue + " stream get POINTS 1")
		if !strings.Contains(out, `"author":"phone"`) {
			t.Errorf("the event has no author: %s", out)
		}
	})
	t.Run("taken away", func(t *testing.T) {
		if p, code := run(t, "keys", "rm", "phone", "--data", data, "--nats-url", queue); code != 0 {
			t.Fatal(p.Stderr.Tail())
		}
		testkit.Eventually(t, testrig.Patience, "it holds no more", func() bool {
			return ask(t, http.MethodPost, s.Base+"/point", phone, paris).Status == http.StatusUnauthorized
		})
		if p, code := run(t, "keys", "ls", "--data", data, "--nats-url", queue); code != 0 || !strings.Contains(p.Stdout.String(), "boss") || strings.Contains(p.Stdout.String(), "phone") || strings.Contains(p.Stdout.String(), all) {
			t.Errorf("code %d: %s", code, p.Stdout.String())
		}
	})
	if logged := s.Stderr.String(); strings.Contains(logged, all) || strings.Contains(logged, phone) {
		t.Error("the log has a key")
	}
}

// Where other machines can connect, whom to let in must be chosen.
func TestOpenAddressWantsAChoice(t *testing.T) {
	for _, args := range [][]string{{"serve"}, {"ingest"}} {
		p, code := run(t, append(args, "--listen", "0.0.0.0:0", "--nats-listen", testrig.AnyPort, "--data", t.TempDir())...)
		if code != 2 || !strings.Contains(p.Stderr.String(), "--auth") {
			t.Errorf("%v: code %d: %s", args, code, p.Stderr.Tail())
		}
	}
}
