package ingest

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/internal/testkit"
	"cairn/internal/web"
)

// serveHandler is serve, with the handler to announce things to.
func serveHandler(t *testing.T, q queue) (string, *handler) {
	t.Helper()
	log := testkit.Log(t)
	s, err := web.Listen(web.Config{Listen: "127.0.0.1:0", Version: "test", Log: log}, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h := newHandler(s.Stopping(), q, log, s.Registry(), testLimits())
	s.Mount(web.Role{Name: "ingest", Routes: h.routes(), Ready: func() error { return nil }, Status: func(context.Context) any { return nil }})
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s.Addr(), h
}

const anyPoint = `{"longitude":1,"latitude":2}`

func TestPreferWait(t *testing.T) {
	address, h := serveHandler(t, &fakeQueue{})
	const json = "application/json"
	// The queue's positions count up from the first; what became of each is
	// announced before or while its client waits.
	h.submit.projection.hear(bus.Applied{Sequence: 9}) // about no batch: proves nothing
	h.submit.projection.hear(bus.Applied{First: 1, Sequence: 2, Outcomes: map[bus.Outcome][]bus.Range{bus.OutcomeConflict: {{event.At(2, 0), event.At(2, 0)}}}})
	a := post(t, address, "/point", json, anyPoint, "Prefer", `respond-async, Wait="5"; x=y`)
	a.want(t, http.StatusCreated, `"position":4096`)
	if got := a.header.Get("Preference-Applied"); got != "wait=5" || a.header.Get("Location") == "" {
		t.Errorf("%v", a.header)
	}
	a = post(t, address, "/point", json, anyPoint, "Prefer", "wait=60")
	a.want(t, http.StatusConflict, "parked", "PUT /point/{id}", `"position":8192`, `"outcome":"conflict"`)
	if got := a.header.Get("Preference-Applied"); got != "wait=30" || a.header.Get("Location") != "" {
		t.Errorf("%v", a.header)
	}
	late := make(chan answer, 1)
	go func() { late <- post(t, address, "/point", json, anyPoint, "Prefer", "wait=20") }()
	testkit.Eventually(t, 10*time.Second, "the client waits", func() bool { return len(h.submit.projection.places) == 1 })
	h.submit.projection.hear(bus.Applied{First: 3, Sequence: 7})
	answer := <-late
	answer.want(t, http.StatusCreated)
	for sequence, prefer := range map[int]string{0: "", 1: "wait=x", 2: "wait=-1", 3: "wait=0", 4: "waiting=5"} {
		a := post(t, address, "/point", json, anyPoint, "Prefer", prefer)
		if a.want(t, http.StatusAccepted); a.header.Get("Preference-Applied") != "" {
			t.Errorf("%d, %q: %v", sequence, prefer, a.header)
		}
	}
	begin := time.Now()
	a = post(t, address, "/point", json, anyPoint, "Prefer", "wait=1")
	if a.want(t, http.StatusAccepted); time.Since(begin) < time.Second || a.header.Get("Location") == "" {
		t.Errorf("%v after %v", a.header, time.Since(begin))
	}
}

func TestParsePrefer(t *testing.T) {
	for field, want := range map[string]wait{
		"wait=5":                 {time: 5 * time.Second, asked: true},
		`WAIT = "5"`:             {time: 5 * time.Second, asked: true},
		"wait=31":                {time: maxWait, asked: true},
		"wait":                   {time: anyWait, asked: true},
		`wait=""`:                {time: anyWait, asked: true},
		"return=minimal, wait;x": {time: anyWait, asked: true},
		"wait, wait=5":           {time: anyWait, asked: true},
		"wait=0":                 {},
		"wait=0, wait=5":         {},
		"wait=1.5":               {},
		"await":                  {},
		"respond-async, wait=2":  {time: 2 * time.Second, asked: true, async: true},
	} {
		if got := parsePrefer([]byte(field)); got != want {
			t.Errorf("%q: %+v, want %+v", field, got, want)
		}
	}
}

func TestProjectionIsBounded(t *testing.T) {
	p := newProjection()
	for i := range uint64(3 * maxHeard) {
		p.hear(bus.Applied{First: i + 1, Sequence: i + 1})
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, known := p.settled(ended, event.At(3*maxHeard, 0)); !known || len(p.heard) != maxHeard {
		t.Errorf("%d are kept", len(p.heard))
	}
	if _, known := p.settled(ended, event.At(1, 0)); known {
		t.Error("what was forgotten is known")
	}
	for range maxWaiters {
		p.places <- struct{}{}
	}
	if _, known := p.settled(t.Context(), event.At(9*maxHeard, 0)); known {
		t.Error(fmt.Sprint("one more than ", maxWaiters))
	}
}

// A stop ends the waits: what was accepted is answered as such.
func TestStopEndsPreferredWaits(t *testing.T) {
	address, h := serveHandler(t, &fakeQueue{})
	stopped, stop := context.WithCancel(context.Background())
	h.stop = stopped
	late := make(chan answer, 1)
	go func() { late <- post(t, address, "/point", "application/json", anyPoint, "Prefer", "wait=20") }()
	testkit.Eventually(t, 10*time.Second, "the client waits", func() bool { return len(h.submit.projection.places) == 1 })
	stop()
	a := <-late
	a.want(t, http.StatusAccepted)
}
