//go:build e2eproxy

package proxy

import (
	"net"
	"net/http"
	"slices"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A fleet is the three roles as processes, on addresses that stay the same over
// restarts.
type fleet struct {
	t        testing.TB
	data     string // folder
	queue    string // its URL
	flags    []string
	behind   behind
	commands map[string]command
	roles    map[string]*testrig.Run
}

type command struct {
	listen string
	env    []string
	args   []string
}

// spare is a query replica's address that is not used at first.
const spare = "127.0.0.14"

// startFleet starts ingest, projector and three query replicas, with further flags.
func startFleet(t testing.TB, flags ...string) *fleet {
	t.Helper()
	data, database := testkit.Folder(t), testkit.Postgres(t)
	replicas := []string{"127.0.0.11", "127.0.0.12", "127.0.0.13"}
	queue, ingest := testrig.FreePort(t, "127.0.0.1"), testrig.FreePort(t, "127.0.0.1")
	_, port, err := net.SplitHostPort(testrig.FreePort(t, append(replicas, spare)...))
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, data: data, queue: "nats://" + queue, flags: flags, behind: behind{ingest: ingest, query: replicas, queryPort: port}, roles: map[string]*testrig.Run{}}
	others := []string{"NATS_URL=nats://" + queue, "DATABASE_URL=" + database}
	f.commands = map[string]command{
		"ingest":    {ingest, nil, []string{"ingest", "--nats-listen", queue, "--data", data}},
		"projector": {testrig.FreePort(t, "127.0.0.1"), others, []string{"projector", "--data", data}},
	}
	for _, a := range append(replicas, spare) {
		f.commands[a] = command{net.JoinHostPort(a, port), others, []string{"query", "--data", data}}
	}
	for _, role := range append([]string{"ingest", "projector"}, replicas...) {
		f.start(role)
	}
	f.ready()
	return f
}

func (f *fleet) start(role string) {
	f.t.Helper()
	c := f.commands[role]
	f.roles[role] = testrig.Command{Program: cairn, Args: slices.Concat(c.args, []string{"--listen", c.listen}, f.flags), Env: c.env}.Start(f.t)
}

// restart ends a role, at once or in an orderly way, and starts it again.
func (f *fleet) restart(role string, kill bool) {
	f.t.Helper()
	if kill {
		f.roles[role].Kill()
	} else {
		f.roles[role].MustStop()
	}
	f.start(role)
}

// ready waits until every role is.
func (f *fleet) ready() {
	f.t.Helper()
	for role := range f.roles {
		f.readyOne(role)
	}
}

func (f *fleet) readyOne(role string) {
	f.t.Helper()
	testkit.Eventually(f.t, patience, role+" is ready", func() bool {
		if !f.roles[role].Running() {
			f.t.Fatalf("%s has ended", role)
		}
		a, err := testrig.Get(f.t.Context(), "http://"+f.commands[role].listen+"/readyz")
		return err == nil && a.Status == http.StatusOK
	})
}

// served reports whether a query replica has answered a read of points.
func (f *fleet) served(replica string) bool {
	return testrig.Served(f.t, "http://"+f.commands[replica].listen)
}
