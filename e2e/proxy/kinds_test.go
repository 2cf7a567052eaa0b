//go:build e2eproxy

package proxy

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A behind is what a proxy has to know of the roles.
type behind struct {
	ingest    string   // host:port
	query     []string // addresses
	queryPort string
}

// A running proxy.
type running struct {
	*testrig.Run
	base  string // http://host:port
	names *names // nil where it does not ask one
}

// kinds are the proxies there are.
var kinds = []struct {
	name  string
	start func(t testing.TB, b behind, env ...string) *running
}{
	{"haproxy", startHAProxy},
	{"nginx", startNginx},
}

// each runs a test with each proxy.
func each(t *testing.T, test func(t *testing.T, start func(t testing.TB, b behind, env ...string) *running)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k.start) })
	}
}

func startHAProxy(t testing.TB, b behind, env ...string) *running {
	t.Helper()
	n := startNames(t)
	host, port, err := net.SplitHostPort(b.ingest)
	if err != nil {
		t.Fatal(err)
	}
	n.set("ingest.test", host)
	n.set("query.test", b.query...)
	listen := testrig.FreePort(t, "127.0.0.1")
	env = append([]string{
		"CAIRN_BIND=" + listen,
		"CAIRN_DNS=" + n.address,
		"CAIRN_INGEST=ingest.test:" + port,
		"CAIRN_QUERY=query.test:" + b.queryPort,
	}, env...)
	run := testrig.Command{Program: "haproxy", Args: []string{"-db", "-f", filepath.Join(root, "deploy/haproxy/haproxy.cfg")}, Env: env}.Start(t)
	return ready(t, &running{Run: run, base: "http://" + listen, names: n})
}

func startNginx(t testing.TB, b behind, env ...string) *running {
	t.Helper()
	listen := testrig.FreePort(t, "127.0.0.1")
	var query []string
	for _, a := range b.query {
		query = append(query, net.JoinHostPort(a, b.queryPort))
	}
	env = append([]string{
		"CAIRN_LISTEN=" + listen,
		"CAIRN_INGEST=" + b.ingest,
		"CAIRN_QUERY=" + strings.Join(query, " "),
		"CAIRN_RUN=" + testkit.Folder(t), // which Nginx's own user can enter
	}, env...)
	run := testrig.Command{Program: "sh", Args: []string{filepath.Join(root, "deploy/nginx/start.sh")}, Env: env}.Start(t)
	return ready(t, &running{Run: run, base: "http://" + listen})
}

// ready waits until both roles are reached through the proxy.
func ready(t testing.TB, r *running) *running {
	t.Helper()
	testkit.Eventually(t, patience, "the proxy reaches both roles", func() bool {
		for _, path := range []string{"/readyz", "/point/none"} {
			a, err := testrig.Get(t.Context(), r.base+path)
			if err != nil || a.Status >= http.StatusInternalServerError {
				return false
			}
		}
		return true
	})
	return r
}
