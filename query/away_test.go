package query

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/event"
	"cairn/internal/hosts"
	"cairn/internal/testkit"
)

type roleStatus struct {
	Role  string
	Query status
}

func (f *fixture) roleStatus() (s roleStatus) {
	f.t.Helper()
	r := f.get("/status")
	if err := json.Unmarshal(r.body, &s); err != nil || r.status != http.StatusOK {
		f.t.Fatalf("GET /status: %d %s", r.status, r.body)
	}
	return s
}

// What was asked before is answered on while the database is unreachable, with its age;
// no client is told more than is known.
func TestKeptAnswersOutliveTheDatabase(t *testing.T) {
	t.Parallel()
	cluster := testkit.OwnCluster(t)
	f := serve(t, cluster.URL())
	f.db = connect(t, cluster.URL())
	f.put(2, [2]float64{1, 2})
	before := f.get("/points")
	if age := before.header.Get("Age"); age != "" {
		t.Errorf("Age is %s while the database is there", age)
	}
	if err := cluster.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	var r reply
	testkit.Eventually(t, within, "an answer shows its age", func() bool {
		r = f.get("/points")
		age, err := strconv.Atoi(r.header.Get("Age"))
		return err == nil && age >= 1
	})
	if r.status != http.StatusOK || string(r.body) != string(before.body) || r.header.Get(headerPosition) != before.header.Get(headerPosition) {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	f.detail(f.get("/points?limit=7"), http.StatusServiceUnavailable)
	f.detail(f.get(fmt.Sprintf("/points?min_position=%d", event.At(3, 0))), http.StatusServiceUnavailable)
	if r := f.get(fmt.Sprintf("/points?min_position=%d", event.At(2, 0))); r.status != http.StatusOK {
		t.Errorf("what is kept has seen that position, but: %d %s", r.status, r.body)
	}
	if err := cluster.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.db = connect(t, cluster.URL())
	f.put(3, [2]float64{3, 4})
	testkit.Eventually(t, within, "answers are current again", func() bool {
		r = f.get("/points")
		return r.header.Get("Age") == "" && r.header.Get(headerPosition) == positionText(3)
	})
}

// The role starts without its database, says so while it is unreachable, and answers
// as soon as it is back; it is ready all the time.
func TestDatabaseAwayAndBack(t *testing.T) {
	t.Parallel()
	cluster := testkit.OwnCluster(t)
	stop := func() {
		t.Helper()
		if err := cluster.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	start := func() {
		t.Helper()
		if err := cluster.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	f := serve(t, cluster.URL())
	for i, round := range []string{"at the start", "later"} {
		for _, path := range []string{"/points?limit=%d", "/points?bbox=0,0,1,%d", "/points/x%d"} {
			path = fmt.Sprintf(path, i+1) // what was not asked before
			r := f.get(path)
			if got := f.detail(r, http.StatusServiceUnavailable); got != "the database is unreachable" || r.header.Get("Retry-After") != "1" {
				t.Errorf("%s, GET %s: %q %v", round, path, got, r.header)
			}
		}
		if r := f.get("/readyz"); r.status != http.StatusOK {
			t.Errorf("%s: not ready: %s", round, r.body)
		}
		if s := f.roleStatus(); s.Query.Database != "the database is unreachable" || s.Role != "query" {
			t.Errorf("%s: status is %+v", round, s)
		}
		start()
		f.pageAt(fmt.Sprintf("/points?limit=%d", i+1)) // at once
		if s := f.roleStatus(); s.Query.Database != "reachable" {
			t.Errorf("%s: status is %+v", round, s)
		}
		stop()
	}
}

func TestStatusAndMetrics(t *testing.T) {
	f := newFixture(t)
	f.put(3, [2]float64{1, 2}, [2]float64{3, 4})
	f.exec("insert into parked (position, reason, detail, event) values (9, 'conflict', 'x', 'y')")
	f.pageAt("/points")
	s := f.roleStatus().Query
	if s.Database != "reachable" || s.Sequence != 3 || s.Position != 3<<12|4095 || s.Parked != 1 || s.Pool.Max < minPoolSize || s.Pool.Open < 1 {
		t.Errorf("%+v", s)
	}
	text := string(f.get("/metrics").body)
	for _, want := range []string{"cairn_query_rows_total 2\n", `cairn_query_database_seconds_count{statement="page"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}

func TestOldOrMissingSchema(t *testing.T) {
	f := newFixture(t)
	for _, sql := range []string{"delete from checkpoint", "alter view points rename column members to others", "drop view points"} {
		f.exec(sql)
		for _, path := range []string{"/points", "/points/x"} {
			r := f.get(path)
			// A statement that was prepared before is refused once in other words.
			if got := f.detail(r, http.StatusServiceUnavailable); !strings.Contains(got, "run cairn migrate") && got != "the database has just changed" {
				t.Errorf("after %q, GET %s: %s", sql, path, got)
			}
		}
	}
	f.exec("drop table checkpoint")
	if got := f.roleStatus().Query.Database; !strings.Contains(got, "run cairn migrate") {
		t.Errorf("status says %q", got)
	}
}

// What takes too long is cut off and says so; the URL's own settings win.
func TestExpensiveRequest(t *testing.T) {
	url := testkit.Postgres(t)
	writer := connect(t, url)
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	f := serve(t, url+separator+"statement_timeout=50&pool_max_conns=3&application_name=mine")
	tx, err := writer.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table points in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	if got := f.detail(f.get("/points"), http.StatusServiceUnavailable); !strings.Contains(got, "too expensive") {
		t.Error(got)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	// On a busy machine an honest request may take as long, too.
	testkit.Eventually(t, 20*time.Second, "an answer, now that nothing is in the way", func() bool {
		return f.get("/points").status == http.StatusOK
	})
	if n := f.pool.Stat().MaxConns(); n != 3 {
		t.Errorf("a pool of %d", n)
	}
}

func TestSessionOnlyReads(t *testing.T) {
	f := newFixture(t)
	_, err := f.pool.Exec(t.Context(), "delete from points_1")
	if err == nil || !strings.Contains(err.Error(), "25006") {
		t.Errorf("a write gave %v", err)
	}
	// Not even a session that is told to write may.
	_, err = f.pool.Exec(t.Context(), "begin read write; delete from points_1; commit")
	if err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("a write of a session that may write gave %v", err)
	}
	var name, timeout string
	err = f.pool.QueryRow(t.Context(), "select current_setting('application_name'), current_setting('statement_timeout')").Scan(&name, &timeout)
	if err != nil || name != "cairn-query" || timeout != "10s" {
		t.Error(name, timeout, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"postgres://[", "postgres://x/y?default_query_exec_mode=simple_protocol"} {
		if pool, err := openPool(t.Context(), url, &hosts.Seen{}); err == nil {
			pool.Close()
			t.Errorf("%s is taken", url)
		}
	}
}
