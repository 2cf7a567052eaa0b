//go:build e2eproxy

package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

const paris = `{"longitude":2.3522,"latitude":48.8566,"name":"Paris"}`

// What is written goes to ingest, by path and for /points by method; everything else
// to the query replicas, each of which serves; and the links in answers lead
// back through the proxy.
func TestRoutes(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		f := startFleet(t)
		p := start(t, f.behind)
		for _, path := range []string{"/point", "/points"} {
			a, one := testrig.MustPost(t, p.base+path, paris)
			var back testrig.Feature
			testrig.MustGet(t, p.base+a.Header.Get("Location"), &back)
			if back.ID != one.ID || back.Position != one.Position || back.Properties["name"] != "Paris" {
				t.Errorf("POST %s: %s became %+v", path, a.Body, back)
			}
		}
		if n := len(testrig.AllPoints(t, p.base)); n != 2 {
			t.Errorf("%d points, want 2", n)
		}
		for _, path := range []string{"/point/a%2Fb", "/points/a%2Fb"} {
			for _, x := range []struct{ method, contentType, body string }{
				{http.MethodPut, "application/json", paris},
				{http.MethodPatch, "application/merge-patch+json", `{"properties":{"n":1}}`},
				{http.MethodDelete, "", ""},
			} {
				a, err := testrig.Do(t.Context(), x.method, p.base+path, x.contentType, strings.NewReader(x.body))
				if err != nil || a.Status != http.StatusAccepted {
					t.Errorf("%s %s: %d %s %v, want %d", x.method, path, a.Status, a.Body, err, http.StatusAccepted)
				}
			}
		}
		kept(t, p.base)
		for _, c := range []struct {
			method, path string
			status       int
		}{
			{http.MethodGet, "/point", http.StatusMethodNotAllowed},
			{http.MethodHead, "/points", http.StatusOK},
			{http.MethodGet, "/points/none", http.StatusNotFound},
			{http.MethodGet, "/points?nonsense=1", http.StatusBadRequest},
			{http.MethodDelete, "/points", http.StatusMethodNotAllowed},
			{http.MethodOptions, "/points", http.StatusNoContent},
			{http.MethodGet, "/status", http.StatusOK},
		} {
			a, err := testrig.Do(t.Context(), c.method, p.base+c.path, "", nil)
			if err != nil || a.Status != c.status {
				t.Errorf("%s %s: %d %s %v, want %d", c.method, c.path, a.Status, a.Body, err, c.status)
			}
		}
		var status struct{ Role string }
		testrig.MustGet(t, p.base+"/status", &status)
		if status.Role != "query" {
			t.Errorf("/status is answered by %q", status.Role)
		}
		testkit.Eventually(t, patience, "every replica has served", func() bool {
			testrig.MustGet(t, p.base+"/points", nil)
			for _, replica := range f.behind.query {
				if !f.served(replica) {
					return false
				}
			}
			return true
		})
	})
}

// kept changes fences and hooks under the paths that show them.
func kept(t *testing.T, base string) {
	t.Helper()
	for _, x := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodPut, "/fences/home", `{"longitude":2,"latitude":48,"radius":500}`, http.StatusCreated},
		{http.MethodGet, "/fences/home", "", http.StatusOK},
		{http.MethodDelete, "/fences/home", "", http.StatusNoContent},
		{http.MethodPut, "/hooks/ops", `{"url":"https://example.org/"}`, http.StatusCreated},
		{http.MethodGet, "/hooks/ops", "", http.StatusOK},
		{http.MethodDelete, "/hooks/ops", "", http.StatusNoContent},
	} {
		a, err := testrig.Do(t.Context(), x.method, base+x.path, "application/json", strings.NewReader(x.body))
		if err != nil || a.Status != x.status {
			t.Errorf("%s %s: %d %s %v, want %d", x.method, x.path, a.Status, a.Body, err, x.status)
		}
	}
}

// A query replica is killed, started again and stopped while reads continue: none
// of them fails.
func TestQueryDies(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		f := startFleet(t)
		p := start(t, f.behind)
		testrig.MustPost(t, p.base+"/point", paris)
		const readers, some = 8, 300
		reads := testrig.Read(p.base, readers)
		for _, kill := range []bool{true, false} {
			for _, replica := range f.behind.query {
				reads.Reach(t, some)
				f.restart(replica, kill)
				reads.Reach(t, some)
				f.readyOne(replica)
			}
		}
		reads.Stop(t)
	})
}

// HAProxy takes in the replicas that the name server tells of, and drops
// those that it tells of no more.
func TestHAProxyScales(t *testing.T) {
	f := startFleet(t)
	p := startHAProxy(t, f.behind)
	reads := testrig.Read(p.base, 4)
	defer reads.Stop(t)
	f.start(spare)
	p.names.set("query.test", append([]string{spare}, f.behind.query...)...)
	testkit.Eventually(t, patience, "the new replica serves", func() bool { return f.served(spare) })

	p.names.set("query.test", spare)
	for _, replica := range f.behind.query {
		gone := "http://" + f.commands[replica].listen
		var before string
		testkit.Eventually(t, patience, replica+" serves no more", func() bool {
			reads.Reach(t, 20)
			now := testrig.Metric(t, gone, testrig.ServedMetric)
			unchanged := now == before
			before = now
			return unchanged
		})
		f.roles[replica].MustStop()
	}
	reads.Reach(t, 100)
}

// Ingest and projector restart, or die, while points are written: none that was
// acknowledged is lost, and reads continue.
func TestWritersRestart(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		f := startFleet(t)
		p := start(t, f.behind)
		l := testrig.NewLedger("w")
		const writers, some = 8, 100
		stop := l.Write(p.base, writers)
		defer stop()
		reads := testrig.Read(p.base, 2)
		for _, kill := range []bool{false, true} {
			for _, role := range []string{"ingest", "projector"} {
				l.Reach(t, some)
				f.restart(role, kill)
				l.Reach(t, some)
			}
			f.ready()
		}
		reads.Stop(t)
		stop()
		l.Verify(t, p.base)
	})
}

// A body of many megabytes passes, and is answered row by row.
func TestBulk(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		f := startFleet(t)
		p := start(t, f.behind)
		const rows, padBytes = 20_000, 800 // about 17 MB, more than any proxy's default
		var body bytes.Buffer
		pad := strings.Repeat("x", padBytes)
		for i := range rows {
			fmt.Fprintf(&body, `{"longitude":%d,"latitude":1,"properties":{"pad":%q}}`+"\n", i%180, pad)
		}
		a, err := testrig.Do(t.Context(), http.MethodPost, p.base+"/point", "application/x-ndjson", &body)
		if err != nil {
			t.Fatal(err)
		}
		var got testrig.Accepted
		if err := json.Unmarshal(a.Body, &got); err != nil || got.Accepted != rows {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	})
}

// GET /stream passes each event at once.
func TestStream(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		f := startFleet(t)
		p := start(t, f.behind)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		response, lines := openStream(ctx, t, p.base+"/stream")
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
			t.Fatalf("GET /stream: %s %v", response.Status, response.Header)
		}
		// Points are written until one shows: the stream may begin a moment
		// after its head.
		stop := testrig.NewLedger("s").Write(p.base, 1)
		defer stop()
		for lines.Scan() {
			if strings.Contains(lines.Text(), `"s-0-`) {
				return
			}
		}
		t.Errorf("the stream has ended without a point: %v", lines.Err())
	})
}
