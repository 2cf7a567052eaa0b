package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cairn/internal/testrig"
)

var commandNames = []string{"serve", "ingest", "projector", "query", "migrate", "load", "status", "parked", "rebuild", "salvage", "healthcheck", "version"}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"help"}, {"--help"}} {
		p, code := run(t, args...)
		if code != 0 {
			t.Errorf("%v: exit code %d", args, code)
		}
		for _, name := range commandNames {
			if !strings.Contains(p.Stdout.String(), "\n  "+name+" ") {
				t.Errorf("%v does not list %s:\n%s", args, name, p.Stdout.Tail())
			}
		}
	}
	for _, name := range commandNames {
		for _, args := range [][]string{{name, "--help"}, {"help", name}, {name, "-h"}} {
			p, code := run(t, args...)
			if code != 0 || !strings.HasPrefix(p.Stdout.String(), "Usage: cairn "+name) || p.Stderr.String() != "" {
				t.Errorf("%v: exit code %d\n%s%s", args, code, p.Stdout.Tail(), p.Stderr.Tail())
			}
		}
	}
}

// What users and scripts depend on is in the help of the command that has it.
func TestHelpTellsTheContract(t *testing.T) {
	for name, texts := range map[string][]string{
		"serve":     {"--listen", "127.0.0.1:8080", "CAIRN_LISTEN", "--data", "CAIRN_DATA", "--database-url", "DATABASE_URL", "--nats-listen", "127.0.0.1:4222", "CAIRN_NATS_LISTEN", "--nats-url", "NATS_URL"},
		"ingest":    {"--listen", "127.0.0.1:8081", "--nats-listen", "--nats-url"},
		"query":     {"--listen", "127.0.0.1:8082", "--database-url", "--nats-url"},
		"projector": {"--listen", "127.0.0.1:8083", "--database-url", "--nats-url"},
		"migrate":   {"--database-url"},
		"load":      {"--url", "FILE", ".csv", ".geojson", ".ndjson"},
	} {
		p, _ := run(t, name, "--help")
		for _, text := range texts {
			if !strings.Contains(p.Stdout.String(), text) {
				t.Errorf("the help of %s has no %s", name, text)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	p, code := run(t, "version")
	if out := p.Stdout.String(); code != 0 || !strings.Contains(out, testVersion) || !strings.Contains(out, testCommit) {
		t.Errorf("code %d: %s", code, out)
	}
}

// A command line that is wrong ends with 2 and says what is wrong with it.
func TestUsage(t *testing.T) {
	none := t.TempDir()
	for _, test := range []struct {
		args []string
		env  string
		says []string
	}{
		{args: []string{"sevre"}, says: []string{"sevre", "cairn help"}},
		{args: []string{"help", "sevre"}, says: []string{"sevre"}},
		{args: []string{"serve", "--lisen", "x"}, says: []string{"--lisen", "--listen"}},
		{args: []string{"version", "--nonsense"}, says: []string{"--nonsense"}},
		{args: []string{"serve", "--listen"}, says: []string{"--listen"}},
		{args: []string{"serve", "surplus"}, says: []string{"surplus"}},
		{args: []string{"serve", "--max-bytes", "many"}, says: []string{"--max-bytes", "many"}},
		{args: []string{"serve", "--max-bytes", "1"}, says: []string{"--max-bytes", "1"}},
		{args: []string{"serve"}, env: "CAIRN_MAX_BYTES=many", says: []string{"CAIRN_MAX_BYTES", "many"}},
		{args: []string{"serve", "--log-level", "loud"}, says: []string{"--log-level", "loud"}},
		{args: []string{"serve", "--nats-passwords", "nobody=x", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", none}, says: []string{"--nats-passwords", "nobody"}},
		{args: []string{"load"}, says: []string{"FILE"}},
		{args: []string{"projector", "--data", none}, says: []string{"no database", none, "--database-url", "cairn serve"}},
		{args: []string{"query", "--data", none}, says: []string{"no database", none, "--database-url", "cairn serve"}},
		{args: []string{"migrate", "--data", none}, says: []string{"no database", none, "--database-url"}},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			p := testrig.Command{Program: cairnProgram, Args: test.args, Env: strings.Fields(test.env), Dir: none}.Start(t)
			if code := p.Wait(testrig.Patience); code != 2 {
				t.Errorf("exit code %d", code)
			}
			p.Complains(test.says...)
		})
	}
}

// The health check of a container tells by its exit code whether the role that
// listens there is ready, and by its words why it is not.
func TestHealthcheck(t *testing.T) {
	for _, x := range []struct {
		name   string
		answer http.HandlerFunc
		code   int
		says   string
	}{
		{"ready", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ready\n")) }, 0, "ready"},
		{"not ready", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "it starts", http.StatusServiceUnavailable)
		}, 1, "not ready: it starts"},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 1, "deadline exceeded"},
		{"gone", nil, 1, "connection refused"},
	} {
		t.Run(x.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/readyz" {
					t.Errorf("it asks for %s", r.URL.Path)
				}
				x.answer(w, r)
			}))
			defer server.Close()
			if x.answer == nil {
				server.Close()
			}
			p, code := run(t, "healthcheck", "--listen", server.Listener.Addr().String())
			if said := p.Stdout.String() + p.Stderr.String(); code != x.code || !strings.Contains(said, x.says) {
				t.Errorf("code %d: %s", code, said)
			}
		})
	}
}
