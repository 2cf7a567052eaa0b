package ingest

import (
	"bytes"
	"strings"
	"testing"

	"cairn/internal/corpus"
)

// What people send, through POST /point.
func TestCorpus(t *testing.T) {
	cases := corpus.Read(t, "testdata/corpus")
	if len(cases) < 150 {
		t.Fatalf("%d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.File, func(t *testing.T) {
			q := &fakeQueue{}
			path := "/point"
			if c.Query != "" {
				path += "?" + strings.ReplaceAll(c.Query, " ", "%20")
			}
			a := postBody(t, serve(t, q, testLimits()), path, c.Type, bytes.NewReader(c.Body))
			got := corpus.Outcome{Status: a.status, Text: unescape(a.body), Warned: a.json["warnings"] != nil}
			events := q.events(t)
			got.Accepted = int64(len(events))
			if len(events) > 0 {
				got.First = &events[0].Point
			}
			if n, ok := a.json["rejected"].(float64); ok {
				got.Rejected = int64(n)
			}
			c.Check(t, got)
		})
	}
}
