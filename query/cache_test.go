package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"cairn/event"
	"cairn/internal/testkit"
	"cairn/query/answer"
)

// Callers that ask the same at the same time, in whichever spelling, share one
// statement; it serves until the projection moves.
func TestRequestsShareStatements(t *testing.T) {
	f := newFixture(t)
	f.put(1, grid(50, 1)...)
	// Those made ahead would wait for the lock, too.
	testkit.Eventually(t, within, "connections have been made ahead", func() bool {
		now := f.pool.Stat()
		return now.AcquiredConns() == 0 && now.IdleConns() > 1
	})
	spellings := []string{"/points?limit=10&bbox=0,0,90,90", "/points?bbox=0,0,90,90&limit=10", "/points?bbox=0.0,0,90,9e1&limit=010"}
	tx, err := f.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table points in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(t.Context()) // the one whose statement it is
	req, err := http.NewRequestWithContext(gone, http.MethodGet, f.base+spellings[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() {
		_, err := f.client.Do(req)
		left <- err
	}()
	waits := func(n float64) func() bool {
		return func() bool { return f.metric(`cairn_query_saved_total{by="shared"}`) == n }
	}
	testkit.Eventually(t, within, "the statement waits for the lock", func() bool { return f.pool.Stat().AcquiredConns() == 1 })
	var replies []chan reply
	for range 10 {
		for _, path := range spellings {
			replies = append(replies, f.ask(path))
		}
	}
	testkit.Eventually(t, within, "all wait for one statement", waits(30))
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range replies {
		if r := <-c; r.status != http.StatusOK || r.header.Get("Age") != "" {
			t.Errorf("%d %v %s", r.status, r.header, r.body)
		}
	}
	for range 100 {
		f.pageAt(spellings[1])
	}
	if n := f.statements("page"); n != 1 {
		t.Errorf("%d statements", n)
	}
	f.put(2, [2]float64{3, 3})
	f.tracker.Saw(2)
	for _, path := range spellings {
		if c, r := f.pageAt(path); c.Features[0].Position != event.At(2, 0) || r.header.Get(headerPosition) != positionText(2) {
			t.Errorf("%s does not show what was announced: %v", path, r.header)
		}
	}
	if n := f.statements("page"); n != 2 {
		t.Errorf("%d statements", n)
	}
}

// However many ask, one hot request costs the database no more than a
// statement a commit.
func TestStatementsAreBoundedByCommits(t *testing.T) {
	f := newFixture(t)
	f.put(1, grid(50, 1)...)
	const commits = 40
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if r, err := f.try(http.MethodGet, "/points?limit=20"); err != nil || r.status != http.StatusOK {
					t.Error(r.status, err)
					return
				}
			}
		})
	}
	for n := range uint64(commits) {
		f.put(n+2, [2]float64{1, 1})
		f.tracker.Saw(n + 2)
		want := positionText(n + 2)
		testkit.Eventually(t, within, "the commit shows", func() bool { return f.get("/points?limit=20").header.Get(headerPosition) == want })
	}
	stop()
	readers.Wait()
	saved := f.metric(`cairn_query_saved_total{by="kept"}`)
	// A statement that began before a commit may have to be followed by another.
	if n := f.statements("page"); n > 2*commits+2 || saved < commits {
		t.Errorf("%d statements for %d commits; %v answers cost none", n, commits, saved)
	}
}

// A replica that lags behind what is announced is asked again every 50 ms at
// most, and what it says is labelled.
func TestDatabaseBehindTheHint(t *testing.T) {
	f := newFixture(t)
	f.put(5, [2]float64{1, 1})
	f.pageAt("/points")
	f.tracker.Saw(9)
	begin := time.Now()
	asked := f.statements("page")
	for range 200 {
		if _, r := f.pageAt("/points"); r.header.Get(headerPosition) != positionText(5) || r.header.Get("Age") == "" {
			t.Fatalf("%v", r.header)
		}
	}
	most := int(time.Since(begin)/answer.RecheckEvery) + 2
	if n := f.statements("page") - asked; n > most {
		t.Errorf("%d statements, want at most %d", n, most)
	}
	c := f.ask(fmt.Sprintf("/points?min_position=%d", event.At(9, 0)))
	testkit.Eventually(t, within, "the question waits", f.waiting(1))
	f.put(9, [2]float64{2, 2})
	if r := <-c; r.status != http.StatusOK || r.header.Get("Age") != "" || r.header.Get(headerPosition) != positionText(9) {
		t.Errorf("%d %v", r.status, r.header)
	}
}

// After a restored backup, nothing is shown that is no longer there.
func TestDatabaseGoesBack(t *testing.T) {
	f := newFixture(t)
	f.put(5, [2]float64{1, 1})
	f.put(6, [2]float64{2, 2})
	f.pageAt("/points")
	f.tracker.Saw(6)
	f.exec("begin")
	f.exec("delete from points where position >= $1", int64(event.At(6, 0)))
	f.exec("update checkpoint set sequence = 5")
	f.exec("commit")
	testkit.Eventually(t, within, "the answer is the older one", func() bool {
		c, r := f.pageAt("/points")
		return len(c.Features) == 1 && r.header.Get(headerPosition) == positionText(5) && r.header.Get("Age") == ""
	})
}

func TestMinPositionField(t *testing.T) {
	f := newFixture(t)
	f.put(4, [2]float64{1, 1})
	for _, path := range []string{"/points", "/points?min_position=1", "/points/p4.0"} {
		f.get(path) // kept from now on
		f.detail(f.do(http.MethodGet, path, headerMinPosition, "x"), http.StatusBadRequest)
		if r := f.do(http.MethodGet, path, headerMinPosition, fmt.Sprint(int64(event.At(4, 0)))); r.status != http.StatusOK {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	c := make(chan reply)
	go func() {
		r, _ := f.try(http.MethodGet, "/points", headerMinPosition, fmt.Sprint(int64(event.At(5, 0))))
		c <- r
	}()
	testkit.Eventually(t, within, "the question waits", f.waiting(1))
	f.put(5, [2]float64{1, 1})
	if r := <-c; r.status != http.StatusOK || r.header.Get(headerPosition) != positionText(5) {
		t.Errorf("%d %v", r.status, r.header)
	}
}

// The role as a whole hears announcements, and continues without them.
func TestAnnouncements(t *testing.T) {
	url, nats := testkit.Postgres(t), testkit.NATS(t)
	f := replica(t, url, nats)
	f.db = connect(t, url)
	announce := announcer(t, nats)
	shows := func(sequence uint64) func() bool {
		return func() bool { return f.get("/points").header.Get(headerPosition) == positionText(sequence) }
	}
	f.put(1, [2]float64{1, 1})
	testkit.Eventually(t, within, "the first answer", shows(1))
	// What is announced and not there labels the answers: so it was heard.
	testkit.Eventually(t, within, "the announcement is heard", func() bool {
		announce(2)
		return f.get("/points").header.Get("Age") != ""
	})
	f.put(2, [2]float64{1, 1})
	testkit.Eventually(t, within, "the second answer", shows(2))
	nats.Close()
	f.put(3, [2]float64{1, 1})
	testkit.Eventually(t, within, "the third answer, by looking", shows(3))
}
