//go:build e2eproxy

package proxy

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// client is the address that the client of these tests has.
const client = "127.0.0.77"

// A guarded fleet asks for keys or tokens.
type guarded struct {
	*fleet
	*running
	http *http.Client
	keys map[string]string // and tokens, by name
}

// startGuarded starts the roles behind a proxy. The flags say whom they let in.
func startGuarded(t *testing.T, start func(testing.TB, behind, ...string) *running, flags ...string) *guarded {
	t.Helper()
	f := startFleet(t, flags...)
	g := &guarded{fleet: f, keys: map[string]string{}, running: start(t, f.behind)}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	g.http = &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}, Timeout: patience}
	t.Cleanup(g.http.CloseIdleConnections)
	return g
}

// addKeys makes keys with these flags.
func (g *guarded) addKeys(t *testing.T, keys map[string][]string) {
	t.Helper()
	for name, flags := range keys {
		p := testrig.Command{Program: cairn, Args: append([]string{"keys", "add", name, "--data", g.data, "--nats-url", g.queue}, flags...)}.Start(t)
		if code := p.Wait(patience); code != 0 {
			t.Fatal(p.Stderr.Tail())
		}
		g.keys[name] = strings.TrimSpace(p.Stdout.String())
	}
	g.known(t)
}

// known waits until every role knows all keys and tokens.
func (g *guarded) known(t *testing.T) {
	t.Helper()
	for role := range g.roles {
		for name, key := range g.keys {
			testkit.Eventually(t, patience, role+" knows "+name, func() bool {
				a := g.ask(t, http.MethodGet, "http://"+g.commands[role].listen+"/metrics", "", "Authorization", "Bearer "+key)
				return a.Status == http.StatusOK || a.Status == http.StatusForbidden || a.Status == http.StatusTooManyRequests
			})
		}
	}
}

func (g *guarded) ask(t testing.TB, method, url, body string, fields ...string) Answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	response, err := g.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	a, err := testrig.ReadAll(response)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ways are those in which a key is sent: the URL, and the header fields.
func ways(target, key string) map[string][]string {
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	return map[string][]string{
		"bearer":    {target, "Authorization", "Bearer " + key},
		"basic":     {target, "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+key))},
		"parameter": {target + separator + "key=" + url.QueryEscape(key)},
	}
}

// Keys hold behind the proxies as they do without.
func TestKeys(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		g := startGuarded(t, start, "--auth", "keys")
		g.addKeys(t, map[string][]string{
			"reader": {"--scope", "read"}, "writer": {"--scope", "write"}, "editor": {"--scope", "edit"}, "slow": {"--scope", "read", "--rate", "1"},
			"boss": {"--scope", "read,write,admin"}, "east": {"--scope", "read", "--area=10,-80,170,80"}, "west": {"--scope", "read", "--area=-170,-80,-10,80"},
		})
		g.answersDoNotCross(t)
		g.eachIsForItsOwn(t)
		testkit.Eventually(t, patience, "the rate of a key is met", func() bool {
			a := g.ask(t, http.MethodGet, g.base+"/points", "", "Authorization", "Bearer "+g.keys["slow"])
			return a.Status == http.StatusTooManyRequests && a.Header.Get("Retry-After") != ""
		})
		g.logsAreClean(t)
	})
}

// eachIsForItsOwn sees that a key or token lets do, in each way of sending it, what it is for.
func (g *guarded) eachIsForItsOwn(t *testing.T) {
	t.Helper()
	for _, tt := range []struct {
		method, path, body string
		key                string // that lets in
		status             int
	}{
		{"GET", "/points?limit=1", "", "reader", 200},
		{"POST", "/point", paris, "writer", 202},
		{"POST", "/points", paris, "writer", 202},
		{"PUT", "/points/x", paris, "editor", 202},
		{"DELETE", "/point/x", "", "editor", 202},
	} {
		for _, name := range []string{"reader", "writer", "editor"} {
			for way, how := range ways(g.base+tt.path, g.keys[name]) {
				a := g.ask(t, tt.method, how[0], tt.body, how[1:]...)
				want := http.StatusForbidden
				if name == tt.key {
					want = tt.status
				}
				if a.Status != want || want == http.StatusForbidden && !strings.Contains(string(a.Body), "this needs the scope") {
					t.Errorf("%s %s by %s as %s: %d %s, want %d", tt.method, tt.path, name, way, a.Status, a.Body, want)
				}
			}
		}
		for _, how := range [][]string{{}, {"Authorization", "Bearer cairn_nobody"}} {
			a := g.ask(t, tt.method, g.base+tt.path, tt.body, how...)
			if a.Status != http.StatusUnauthorized || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer ") || a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s with %q: %d %v %s", tt.method, tt.path, how, a.Status, a.Header, a.Body)
			}
		}
	}
}

// logsAreClean sees that the client is known by its address, and its keys are in no
// log, also where the proxy writes of what goes wrong.
func (g *guarded) logsAreClean(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, patience, "ingest's log has the client's address", func() bool {
		return strings.Contains(g.roles["ingest"].Stderr.String(), client)
	})
	for _, replica := range g.behind.query {
		g.roles[replica].Kill()
	}
	const asked = "/points?limit=7&key="
	testkit.Eventually(t, patience, "reads fail", func() bool {
		return g.ask(t, http.MethodGet, g.base+asked+g.keys["reader"]+"&name=x", "", "Referer", g.base+"/?key="+g.keys["writer"]).Status >= http.StatusInternalServerError
	})
	testkit.Eventually(t, patience, "the proxy writes of it", func() bool {
		return strings.Contains(g.Stdout.String()+g.Stderr.String(), "GET /points")
	})
	logs := g.Stdout.String() + g.Stderr.String()
	for role, run := range g.roles {
		logs += "\n" + role + ": " + run.Stdout.String() + run.Stderr.String()
	}
	for name, key := range g.keys {
		if i := strings.Index(logs, key); i >= 0 {
			t.Errorf("a log has the key of %s: %.300s", name, logs[max(0, i-200):])
		}
	}
}

// answersDoNotCross sees that what one asker was told is told to no other, however
// close behind one another, or at once, they ask the same.
func (g *guarded) answersDoNotCross(t *testing.T) {
	t.Helper()
	as := func(name string) []string { return []string{"Authorization", "Bearer " + g.keys[name]} }
	for i := range 20 {
		place, x := "east", 20+i
		if i%2 == 1 {
			place, x = "west", -20-i
		}
		point := fmt.Sprintf(`{"id":"%s-%d","name":"van","longitude":%d,"latitude":%d,"time":"2026-01-02T03:04:%02dZ"}`, place, i, x, i, i)
		if a := g.ask(t, http.MethodPost, g.base+"/point", point, append(as("boss"), "Prefer", "wait=20")...); a.Status/100 != 2 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	const rounds = 20
	words := []string{`"east-`, `"west-`, `"author"`}
	sees := map[string][]string{"boss": words, "east": {`"east-`}, "west": {`"west-`}}
	for _, path := range []string{"/points", "/collections/points/items", "/tracks/van", "/points.ndjson", "/points/east-0", "/points?numberMatched=true"} {
		var group sync.WaitGroup
		for name, own := range sees {
			group.Go(func() {
				for range rounds {
					a := g.ask(t, http.MethodGet, g.base+path, "", as(name)...)
					for _, word := range words {
						if a.Status == http.StatusOK && strings.Contains(string(a.Body), word) && !slices.Contains(own, word) {
							t.Errorf("GET %s by %s has %s: %.400s", path, name, word, a.Body)
							return
						}
					}
					if cached := a.Header.Get("Cache-Control"); cached != "no-store" && !strings.HasPrefix(cached, "private") {
						t.Errorf("GET %s by %s: another cache may keep it: %q", path, name, cached)
						return
					}
				}
			})
		}
		group.Wait()
	}
}
