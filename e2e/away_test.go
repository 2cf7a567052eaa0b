package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"cairn/internal/postgres"
	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A database of the user's own that is unreachable when serve starts. At the very first start
// there is no stream yet, for that belongs to a database: writes are refused until the
// database is there. Later they are taken. All continues once the database is back.
func TestServeBeforeItsDatabase(t *testing.T) {
	cluster, url := stoppableDatabase(t)
	stop := func() {
		if err := cluster.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	start := func() {
		if err := cluster.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	command := cairn("serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", testrig.DataFolder(t), "--database-url", url)
	post := func(s *testrig.Server) testrig.Answer {
		a, err := testrig.Do(t.Context(), http.MethodPost, s.Base+"/point", "application/json", strings.NewReader(paris))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}

	stop()
	s := command.Listen(t)
	missing := func(what string) func() bool {
		return func() bool {
			a, err := testrig.Get(t.Context(), s.Base+"/readyz")
			return err == nil && a.Status == http.StatusServiceUnavailable && strings.Contains(string(a.Body), what)
		}
	}
	testkit.Eventually(t, testrig.Patience, "/readyz tells of the database", missing("database"))
	if a := post(s); a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("a write at the first start: %d %s", a.Status, a.Body)
	}
	start()
	s.Ready()
	testrig.MustPost(t, s.Base+"/point", paris)
	s.Leave()

	stop()
	s = command.Listen(t)
	var one testrig.Accepted
	testkit.Eventually(t, testrig.Patience, "a write is taken without the database", func() bool {
		a := post(s)
		if a.Status == http.StatusAccepted {
			testrig.Parse(t, a.Body, &one)
		}
		return a.Status == http.StatusAccepted
	})
	testkit.Eventually(t, testrig.Patience, "/status tells of the database", func() bool {
		var status struct {
			Query struct{ Database string }
		}
		err := testrig.GetJSON(t.Context(), s.Base+"/status", &status)
		return err == nil && status.Query.Database != "" && status.Query.Database != "reachable"
	})
	start()
	s.Ready()
	testkit.Eventually(t, testrig.Patience, "the point is visible", func() bool {
		a, err := testrig.Get(t.Context(), fmt.Sprintf("%s/points/%v", s.Base, one.ID))
		return err == nil && a.Status == http.StatusOK
	})
	s.Leave()
}

// stoppableDatabase is in a cluster that the test may stop, and has not even a schema.
func stoppableDatabase(t *testing.T) (*postgres.Cluster, string) {
	cluster := testkit.OwnCluster(t)
	conn, err := pgx.Connect(t.Context(), cluster.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "create database fresh"); err != nil {
		t.Fatal(err)
	}
	return cluster, testkit.WithDatabase(cluster.URL(), "fresh")
}

// Wrong settings are told at once: waiting does not help.
func TestServeWithAWrongDatabase(t *testing.T) {
	r, code := run(t, "serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", testrig.DataFolder(t),
		"--database-url", testkit.WithDatabase(testkit.Postgres(t), "nosuchdatabase"))
	if out := r.Stderr.String(); code != 1 || !strings.Contains(out, "nosuchdatabase") {
		t.Errorf("code %d: %s", code, out)
	}
}
