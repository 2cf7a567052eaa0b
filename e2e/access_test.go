package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// ask makes a request with a key, or without, and further header fields.
func ask(t *testing.T, method, url, key, body string, fields ...string) testrig.Answer {
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
	for i := 0; i < len(fields); i += 2 {
		request.Header.Set(fields[i], fields[i+1])
	}
	a, err := testrig.SendAlone(request)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// addKey makes a key, with further flags.
func addKey(t *testing.T, s *testrig.Server, data, name, scope string, flags ...string) string {
	t.Helper()
	p, code := run(t, append([]string{"keys", "add", name, "--scope", scope, "--data", data, "--nats-url", s.NATS()}, flags...)...)
	if code != 0 {
		t.Fatal(p.Stderr.Tail())
	}
	return strings.TrimSpace(p.Stdout.String())
}

const (
	inArea, outArea        = `{"longitude":1,"latitude":20}`, `{"longitude":100,"latitude":-50}`
	inFeature              = `{"type":"Feature","geometry":{"type":"Point","coordinates":[1,20]},"properties":{}}`
	merge, feat, itemsPath = "application/merge-patch+json", "application/geo+json", "/collections/points/items"
)

// writesWithinAnArea are requests with a key for an area that has inside, not outside.
var writesWithinAnArea = []struct {
	name, method, path, media, body string
	status                          int
	field                           string
}{
	{"create outside", "POST", "/point", "application/json", outArea, 403, ""},
	{"create outside, as an item", "POST", itemsPath, feat, strings.Replace(inFeature, "1,20", "100,-50", 1), 403, ""},
	{"create inside", "POST", "/point", "application/json", inArea, 201, ""},
	{"a tracker outside", "GET", "/point/osmand?id=van&lat=-50&lon=100", "", "", 403, ""},
	{"replace outside by outside", "PUT", "/point/out", "application/json", outArea, 403, ""},
	{"bring in by its id", "PUT", "/point/out", "application/json", inArea, 403, ""},
	{"bring in, if it is there", "PUT", "/point/out", "application/json", inArea, 404, "If-Match: *"},
	{"bring in, as an item", "PUT", itemsPath + "/out", feat, inFeature, 404, ""},
	{"make, where one is outside", "PUT", "/point/out", "application/json", inArea, 412, "If-None-Match: *"},
	{"patch outside", "PATCH", "/point/out", merge, `{"properties":{"a":1}}`, 404, ""},
	{"patch outside, as an item", "PATCH", itemsPath + "/out", merge, `{"properties":{"a":1}}`, 404, ""},
	{"delete outside", "DELETE", "/point/out", "", "", 404, ""},
	{"delete outside, as an item", "DELETE", itemsPath + "/out", "", "", 404, ""},
	{"delete outside, under /points", "DELETE", "/points/out", "", "", 404, ""},
	{"delete what was deleted", "DELETE", "/point/gone", "", "", 404, ""},
	{"make inside", "PUT", "/point/in", "application/json", inArea, 201, ""},
	{"move out", "PUT", "/point/in", "application/json", outArea, 403, ""},
	{"patch out", "PATCH", "/point/in", merge, `{"geometry":{"coordinates":[100,-50]}}`, 403, ""},
	{"patch inside", "PATCH", "/point/in", merge, `{"properties":{"a":1}}`, 200, ""},
	{"move inside", "PUT", itemsPath + "/in", feat, strings.Replace(inFeature, "1,20", "2,21", 1), 204, ""},
	{"delete inside", "DELETE", "/point/in", "", "", 204, ""},
}

// Whoever has a key for an area creates, moves, changes and deletes nothing outside
// of it, by no route; inside, they may all that.
func TestWritesWithinAnArea(t *testing.T) {
	data := testrig.DataFolder(t)
	s := serve(t, data, "--auth", "keys", "--database-url", testkit.Postgres(t))
	all := addKey(t, s, data, "boss", "read,write,edit,admin")
	local := addKey(t, s, data, "local", "read,write,edit", "--area=-20,10,20,60")
	testkit.Eventually(t, testrig.Patience, "the keys hold", func() bool {
		return ask(t, http.MethodGet, s.Base+"/points", local, "").Status == http.StatusOK && ask(t, http.MethodGet, s.Base+"/status", all, "").Status == http.StatusOK
	})
	const wait = "wait=20"
	put := func(id, body string) {
		t.Helper()
		if a := ask(t, http.MethodPut, s.Base+"/point/"+id, all, body, "Prefer", wait); a.Status/100 != 2 {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	put("out", outArea)
	put("gone", inArea)
	if a := ask(t, http.MethodDelete, s.Base+"/point/gone", all, "", "Prefer", wait); a.Status != http.StatusNoContent {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	before := ask(t, http.MethodGet, s.Base+"/points/out", all, "")
	for _, tt := range writesWithinAnArea {
		t.Run(tt.name, func(t *testing.T) {
			fields := []string{"Content-Type", tt.media}
			if tt.media == "" {
				fields = nil
			}
			if name, value, ok := strings.Cut(tt.field, ": "); ok {
				fields = append(fields, name, value)
			}
			a := ask(t, tt.method, s.Base+tt.path, local, tt.body, append(fields, "Prefer", wait)...)
			if a.Status != tt.status && !(a.Status/100 == 2 && tt.status/100 == 2) {
				t.Errorf("%d %s, want %d", a.Status, a.Body, tt.status)
			}
			if strings.Contains(string(a.Body), `"revision"`) && a.Status >= 400 {
				t.Errorf("it tells of a point outside: %s", a.Body)
			}
		})
	}
	a := ask(t, http.MethodPost, s.Base+"/point?on-conflict=replace&id=id", local, "id,lat,lon\nout,20,1\nnew,-50,100\nnew,21,2\n", "Content-Type", "text/csv", "Prefer", wait)
	var told struct{ Rejected, Outside, Created int }
	testrig.Parse(t, a.Body, &told)
	if told.Rejected != 1 || told.Outside != 1 || told.Created != 1 {
		t.Errorf("an upload: %d %s", a.Status, a.Body)
	}
	if after := ask(t, http.MethodGet, s.Base+"/points/out", all, ""); string(after.Body) != string(before.Body) {
		t.Errorf("the point outside went from\n%s\nto\n%s", before.Body, after.Body)
	}
}

// With --auth keys, nothing but health is told to who has none; who has one may
// what it is for, and is the author of what it writes.
func TestAccessKeys(t *testing.T) {
	k := keyed{data: testrig.PreparedFolder(t), mqtt: testrig.FreePort(t)}
	k.s = serve(t, k.data, "--auth", "keys", "--mqtt-listen", k.mqtt)
	k.queue = k.s.NATS()
	k.all = addKey(t, k.s, k.data, "boss", "read,write,edit,admin")
	k.phone = addKey(t, k.s, k.data, "phone", "write")
	testkit.Eventually(t, testrig.Patience, "the keys hold", func() bool {
		return ask(t, http.MethodGet, k.s.Base+"/status", k.all, "").Status == http.StatusOK &&
			ask(t, http.MethodGet, k.s.Base+"/status", k.phone, "").Status == http.StatusForbidden
	})

	t.Run("probed without a key", k.probed)
	t.Run("written by a key", k.written)
	t.Run("taken away", k.removed)
	t.Run("listed for programs", k.listed)
	t.Run("every route by every scope", func(t *testing.T) { everyRouteByEveryScope(t, k.s, k.data) })
	if logged := k.s.Stderr.String(); strings.Contains(logged, k.all) || strings.Contains(logged, k.phone) {
		t.Error("the log has a key")
	}
}

// keyed is a server with two keys: one of every scope, and a phone's, which may only write.
type keyed struct {
	s                 *testrig.Server
	data, mqtt, queue string
	all, phone        string
}

// Without a key nothing is served but health: no route, no MQTT, no queue.
func (k *keyed) probed(t *testing.T) {
	var api struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	testrig.Parse(t, ask(t, http.MethodGet, k.s.Base+"/api?f=json", k.all, "").Body, &api)
	if len(api.Paths) < 5 {
		t.Fatalf("only %d paths are described", len(api.Paths))
	}
	var paths []string
	for path, methods := range api.Paths {
		paths = append(paths, path)
		for method := range methods {
			a := ask(t, strings.ToUpper(method), k.s.Base+strings.NewReplacer("{", "", "}", "").Replace(path), "", "")
			open := path == "/livez" || path == "/readyz"
			if open && a.Status != http.StatusOK || !open && a.Status != http.StatusUnauthorized {
				t.Errorf("%s %s without a key: %d %s", method, path, a.Status, a.Body)
			}
		}
	}
	for _, path := range []string{"/status", "/metrics", "/stream", "/points", "/points/x"} {
		if a := ask(t, http.MethodGet, k.s.Base+path, "", ""); a.Status != http.StatusUnauthorized || strings.Contains(string(a.Body), "sequence") {
			t.Errorf("GET %s without a key: %d %s", path, a.Status, a.Body)
		}
	}
	for _, options := range [][]nats.Option{nil, {nats.UserInfo("inspect", "")}, {nats.UserInfo("admin", "admin")}, {nats.Token("x")}} {
		if nc, err := nats.Connect(k.queue, options...); err == nil {
			nc.Close()
			t.Error("the queue lets somebody in who has no password")
		}
	}
	probePaths(t, k.s.Base, paths)
	probeMQTT(t, k.mqtt)
	probeProcesses(t, k.s, k.data, k.mqtt)
}

// A key creates points, which name it as their author, and changes none without the scope.
func (k *keyed) written(t *testing.T) {
	if a := ask(t, http.MethodPost, k.s.Base+"/point", k.phone, paris); a.Status != http.StatusAccepted {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a := ask(t, http.MethodPost, k.s.Base+"/point?on-conflict=replace", k.phone, paris); a.Status != http.StatusForbidden || !strings.Contains(string(a.Body), `"scope":"edit"`) {
		t.Errorf("replace: %d %s", a.Status, a.Body)
	}
	if a := ask(t, http.MethodDelete, k.s.Base+"/point/x", k.phone, ""); a.Status != http.StatusForbidden {
		t.Errorf("delete: %d %s", a.Status, a.Body)
	}
	out := newShell(t).run("nats --server " + k.queue + ` --user inspect --password "$(sed -n 's/^inspect //p' ` + k.data + `/nats-passwords)" stream get POINTS 1`)
	if !strings.Contains(out, `"author":"phone"`) {
		t.Errorf("the event has no author: %s", out)
	}
}

// A key that is removed is refused.
func (k *keyed) removed(t *testing.T) {
	if p, code := run(t, "keys", "rm", "phone", "--data", k.data, "--nats-url", k.queue); code != 0 {
		t.Fatal(p.Stderr.Tail())
	}
	testkit.Eventually(t, testrig.Patience, "it holds no more", func() bool {
		return ask(t, http.MethodPost, k.s.Base+"/point", k.phone, paris).Status == http.StatusUnauthorized
	})
	if p, code := run(t, "keys", "ls", "--data", k.data, "--nats-url", k.queue); code != 0 || !strings.Contains(p.Stdout.String(), "boss") || strings.Contains(p.Stdout.String(), "phone") || strings.Contains(p.Stdout.String(), k.all) {
		t.Errorf("code %d: %s", code, p.Stdout.String())
	}
}

// Keys are created and listed as JSON, without their secrets.
func (k *keyed) listed(t *testing.T) {
	p, code := run(t, "keys", "add", "van", "--scope", "write,read", "--area=170,-20,-170,20", "--rate", "3", "--expires", "1h", "--json", "--data", k.data, "--nats-url", k.queue)
	var made, listed struct {
		Name, Key string
		Scopes    []string
		Area      []float64
		Rate      int
		Expires   string
	}
	testrig.Parse(t, []byte(p.Stdout.String()), &made)
	if code != 0 || made.Name != "van" || !strings.HasPrefix(made.Key, "cairn_") || strings.Join(made.Scopes, ",") != "read,write" || len(made.Area) != 4 || made.Rate != 3 || made.Expires == "" {
		t.Errorf("code %d: %s", code, p.Stdout.String())
	}
	p, _ = run(t, "keys", "ls", "--json", "--data", k.data, "--nats-url", k.queue)
	var list []json.RawMessage
	testrig.Parse(t, []byte(p.Stdout.String()), &list)
	if len(list) != 2 {
		t.Fatalf("%s", p.Stdout.String())
	}
	testrig.Parse(t, list[1], &listed)
	if listed.Name != "van" || listed.Key != "" || listed.Rate != 3 {
		t.Errorf("%s", list[1])
	}
	for wrong, word := range map[string]string{"a.b": "letters", "van": "already"} {
		if p, code := run(t, "keys", "add", wrong, "--data", k.data, "--nats-url", k.queue); code == 0 || !strings.Contains(p.Stderr.String(), word) {
			t.Errorf("add %s: code %d: %s", wrong, code, p.Stderr.Tail())
		}
	}
	if p, code := run(t, "keys", "rm", "van", "nobody", "--data", k.data, "--nats-url", k.queue); code == 0 || !strings.Contains(p.Stderr.String(), "Removed van.") || !strings.Contains(p.Stderr.String(), "no key nobody") {
		t.Errorf("rm: code %d: %s", code, p.Stderr.Tail())
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

// Who may see and change fences and hooks. A key for an area sees none: they tell of all
// points.
func TestAccessToFencesAndHooks(t *testing.T) {
	data := testrig.DataFolder(t)
	s := serve(t, data, "--auth", "keys", "--database-url", testkit.Postgres(t))
	keys := map[string]string{"": ""}
	for name, scope := range map[string]string{"reader": "read", "writer": "write", "editor": "read,edit", "admin": "admin", "boss": "read,edit,admin"} {
		keys[name] = addKey(t, s, data, name, scope)
	}
	keys["local"] = addKey(t, s, data, "local", "read,edit,admin", "--area=-20,10,20,60")
	testkit.Eventually(t, testrig.Patience, "the keys hold", func() bool {
		return ask(t, http.MethodGet, s.Base+"/points", keys["local"], "").Status == http.StatusOK
	})
	const fence, hook = `{"longitude":1,"latitude":2,"radius":50}`, `{"url":"https://example.org/"}`
	for _, c := range []struct {
		method, path, body string
		may                string // those who may; all others are refused
	}{
		{http.MethodPut, "/fences/home", fence, "editor boss"},
		{http.MethodGet, "/fences", "", "reader editor boss"},
		{http.MethodGet, "/fences/home", "", "reader editor boss"},
		{http.MethodGet, "/fences/home/events", "", "reader editor boss"},
		{http.MethodPut, "/hooks/ops", hook, "boss"},
		{http.MethodGet, "/hooks", "", "admin boss"},
		{http.MethodGet, "/hooks/ops", "", "admin boss"},
		{http.MethodGet, "/hooks/ops/failed", "", "admin boss"},
		{http.MethodDelete, "/hooks/ops", "", "boss"},
	} {
		for name, key := range keys {
			want := http.StatusForbidden
			if name == "" {
				want = http.StatusUnauthorized
			}
			a := ask(t, c.method, s.Base+c.path, key, c.body)
			if may := strings.Contains(" "+c.may+" ", " "+name+" ") && name != ""; may != (a.Status/100 == 2) || !may && a.Status != want {
				t.Errorf("%s %s by %q: %d %s", c.method, c.path, name, a.Status, a.Body)
			}
		}
	}
	if a := ask(t, http.MethodGet, s.Base+"/stream?fences", keys["local"], ""); a.Status != http.StatusForbidden {
		t.Errorf("a stream to the key for an area: %d %s", a.Status, a.Body)
	}
}
