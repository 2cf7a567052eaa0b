package query

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/hosts"
	"cairn/internal/postgres"
	"cairn/internal/testkit"
)

// The server that is read dies: the caller is answered by another at once, for what
// nobody asked before, and nothing is taken back of what was shown.
func TestReadsOutliveTheirServer(t *testing.T) {
	t.Parallel()
	primary := testkit.OwnCluster(t)
	standby := testkit.Standby(t, primary, "second")
	f := serve(t, postgres.ServersURL(primary, standby))
	f.db = connect(t, primary.URL())
	f.put(2, [2]float64{1, 2}, [2]float64{3, 4})
	if s := f.roleStatus(); s.Query.Standby || s.Query.Server == "" {
		t.Errorf("%+v", s.Query)
	}
	there := connect(t, standby.URL())
	testkit.Eventually(t, within, "the standby has it", func() bool {
		var sequence, floor int64
		return there.QueryRow(t.Context(), checkpointSelect).Scan(&sequence, &floor) == nil && sequence == 2
	})
	for i := range 20 { // connections, to be broken off
		f.pageAt(fmt.Sprintf("/points?limit=%d", 100+i))
	}
	if err := primary.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		r := f.get(fmt.Sprintf("/points?limit=%d", 200+i))
		if r.status != http.StatusOK || r.header.Get(headerPosition) != positionText(2) {
			t.Errorf("%d %s %v", r.status, r.body, r.header)
		}
	}
	if s := f.roleStatus(); !s.Query.Standby || s.Query.Database != "reachable" {
		t.Errorf("%+v", s.Query)
	}
	// It comes back, as if nothing had happened, beside its successor.
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := primary.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, standby.URL())
	lineage, err := hosts.Of(t.Context(), conn.PgConn())
	if err != nil || lineage.Timeline != 2 {
		t.Fatal(lineage, err)
	}
	f.heard(bus.Applied{Sequence: 2, Database: lineage.String()})
	testkit.Eventually(t, within, "the primary of before is not read", func() bool { return f.primaries.Refused() > 0 })
	f.db = conn
	f.put(3, [2]float64{5, 6})
	testkit.Eventually(t, within, "what its successor has", func() bool {
		return f.get("/points?limit=300").header.Get(headerPosition) == positionText(3)
	})
}

// A standby that lags says by how much, and is not ready while that is too much; who
// asks for a position is never answered from before it.
func TestLagOfAStandby(t *testing.T) {
	t.Parallel()
	primary := testkit.OwnCluster(t)
	standby := testkit.Standby(t, primary, "second")
	nats := testkit.NATS(t)
	announce := announcer(t, nats)
	f := replica(t, standby.URL(), nats, func(c *Config) { c.MaxLag = time.Second })
	f.db = connect(t, primary.URL())
	f.put(2, [2]float64{1, 2})
	announce(2)
	testkit.Eventually(t, within, "the standby has it", func() bool { return f.get("/points").header.Get(headerPosition) == positionText(2) })
	if r := f.get("/readyz"); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
	there := connect(t, standby.URL())
	if _, err := there.Exec(t.Context(), `select pg_wal_replay_pause()`); err != nil {
		t.Fatal(err)
	}
	f.put(3, [2]float64{3, 4})
	announce(3)
	testkit.Eventually(t, within, "it is not ready", func() bool {
		r := f.get("/readyz")
		return r.status == http.StatusServiceUnavailable && strings.Contains(string(r.body), "--max-lag is 1s")
	})
	r := f.get("/points")
	if age := r.header.Get("Age"); r.status != http.StatusOK || age == "" || age == "0" || r.header.Get(headerPosition) != positionText(2) {
		t.Errorf("%d, Age %q, position %s", r.status, age, r.header.Get(headerPosition))
	}
	if s := f.roleStatus().Query; !s.Standby || s.Lag < 1 || s.Sequence != 2 {
		t.Errorf("%+v", s)
	}
	if r := f.get(fmt.Sprintf("/points?min_position=%d", event.At(3, 0))); r.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", r.status, r.body)
	}
	if text := string(f.get("/metrics").body); !strings.Contains(text, "cairn_query_lag_seconds ") || strings.Contains(text, "cairn_query_lag_seconds 0\n") {
		t.Error("the metric says that it does not lag")
	}
	if _, err := there.Exec(t.Context(), `select pg_wal_replay_resume()`); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, within, "it is ready", func() bool { return f.get("/readyz").status == http.StatusOK })
	if s := f.roleStatus().Query; s.Lag != 0 || s.Sequence != 3 {
		t.Errorf("%+v", s)
	}
}

// A URL for all roles says read-write; sessions of readers cannot be that.
func TestReadWriteIsThePrimary(t *testing.T) {
	url := testkit.Postgres(t)
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	f := serve(t, url+separator+"target_session_attrs=read-write")
	if r := f.get("/points"); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
}
