package e2e

import (
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// The nats CLI, without a context or a password, looks into the queue of a
// server on this machine, and changes nothing.
func TestNatsCLI(t *testing.T) {
	s := serveOn(t, testkit.Postgres(t))
	testrig.MustPost(t, s.Base+"/point", paris)
	s.Settled()
	sh := newShell(t)
	nats := "nats --server " + s.NATS() + " "

	for _, look := range []struct {
		command string
		shows   []string
	}{
		{"stream info POINTS", []string{"Information for Stream POINTS", "Subjects: points.>", "Storage: File", "Discard Policy: New", "Messages: 1\n", "Last Sequence: 1 @"}},
		{"stream get POINTS 1", []string{"POINTS#1 ", "on Subject points.", "Cairn-Count: 1", `"type":"created"`, `"coordinates":[2.3522,48.8566]`, `"name":"Paris"`}},
		{"consumer info POINTS projector", []string{"Information for Consumer POINTS > projector", "Pull Mode: true", "Unprocessed Messages: 0"}},
		{"stream ls", []string{"POINTS"}},
	} {
		out := sh.run(nats + look.command)
		for _, want := range look.shows {
			if !strings.Contains(out, want) {
				t.Errorf("nats %s shows no %q but:\n%s", look.command, want, out)
			}
		}
	}

	before := sh.run(nats + "stream info POINTS --json")
	for _, change := range []string{
		"pub points.x hello",
		"pub points.events hello",
		"pub cairn.applied '{}'",
		"stream purge -f POINTS",
		"stream rm -f POINTS",
		"stream rmm -f POINTS 1",
		"consumer rm -f POINTS projector",
	} {
		out, code := sh.try(nats + "--timeout 2s " + change)
		if code == 0 {
			t.Errorf("nats %s is not refused: %s", change, out)
		}
		if strings.HasPrefix(change, "pub ") && !strings.Contains(strings.ToLower(out), "permissions violation") {
			t.Errorf("nats %s: %s", change, out)
		}
	}
	if after := sh.run(nats + "stream info POINTS --json"); stateIn(t, after) != stateIn(t, before) {
		t.Errorf("the stream has changed from\n%s\nto\n%s", before, after)
	}
	testrig.MustPost(t, s.Base+"/point", paris)
	s.Settled()
	if n := len(testrig.AllPoints(t, s.Base)); n != 2 {
		t.Errorf("%d points, want 2", n)
	}
}

type streamState struct{ Messages, FirstSeq, LastSeq, Consumers int64 }

func stateIn(t *testing.T, info string) streamState {
	t.Helper()
	var out struct {
		State struct {
			Messages  int64 `json:"messages"`
			FirstSeq  int64 `json:"first_seq"`
			LastSeq   int64 `json:"last_seq"`
			Consumers int64 `json:"consumer_count"`
		} `json:"state"`
	}
	testrig.Parse(t, []byte(info), &out)
	return streamState(out.State)
}
