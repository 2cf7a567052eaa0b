package ingest

import (
	"context"
	"strings"
	"testing"

	"cairn/bus"
)

func TestChangeResources(t *testing.T) {
	var asked bus.ResourceChange
	var result bus.ResourceResult
	var failure error
	addr := serveWith(t, &fakeQueue{}, testLimits(), func(h *handler) {
		h.changeResource = func(_ context.Context, k bus.ResourceChange) (bus.ResourceResult, error) {
			asked = k
			return result, failure
		}
	})
	const circle = `{"longitude":1,"latitude":2,"radius":50}`
	const shown = `{"type":"Feature","id":"home","geometry":{"type":"Point","coordinates":[1,2]},"properties":null,"radius":50}`
	for _, c := range []struct {
		name, method, path, media, body string
		result                          bus.ResourceResult
		failure                         error
		status                          int
		want                            string
		asked                           string
	}{
		{"a new fence", "PUT", "/fences/home", "application/json", circle, bus.ResourceResult{Outcome: bus.OutcomeCreated, Body: []byte(shown)}, nil, 201, shown, shown},
		{"one that is there", "PUT", "/fences/home", "application/geo+json", circle, bus.ResourceResult{Outcome: bus.OutcomeReplaced, Body: []byte(shown)}, nil, 200, shown, shown},
		{"one that goes", "DELETE", "/fences/home", "", "", bus.ResourceResult{Outcome: bus.OutcomeDeleted}, nil, 204, "", ""},
		{"one that is not there", "DELETE", "/fences/home", "", "", bus.ResourceResult{Refusal: &bus.Refusal{Status: 404, Detail: "there is no fence"}}, nil, 404, "no fence", ""},
		{"a hook", "PUT", "/hooks/ops", "application/json", `{"url":"https://example.org/?a&b"}`, bus.ResourceResult{Outcome: bus.OutcomeCreated, Body: []byte(`{"id":"ops"}`)}, nil, 201, `{"id":"ops"}`, `{"id":"ops","url":"https://example.org/?a&b"}`},
		{"what is no fence is not passed on", "PUT", "/fences/home", "application/json", `{"radius":-5}`, bus.ResourceResult{}, nil, 400, `"pointer":"/radius"`, "nothing"},
		{"what is no hook is not passed on", "PUT", "/hooks/ops", "application/json", `{"url":"gopher://x"}`, bus.ResourceResult{}, nil, 400, `"pointer":"/url"`, "nothing"},
		{"an id that is none", "PUT", "/fences/a.b", "application/json", circle, bus.ResourceResult{}, nil, 400, "letters", "nothing"},
		{"a parameter", "PUT", "/fences/home?x=1", "application/json", circle, bus.ResourceResult{}, nil, 400, "x", "nothing"},
		{"another type", "PUT", "/fences/home", "text/csv", circle, bus.ResourceResult{}, nil, 415, "application/json", "nothing"},
		{"a large one", "PUT", "/fences/home", "application/json", strings.Repeat(" ", 600<<10), bus.ResourceResult{}, nil, 413, "bytes", "nothing"},
		{"what the projector refuses", "PUT", "/hooks/ops", "application/json", `{"url":"http://10.0.0.1/"}`, bus.ResourceResult{Refusal: &bus.Refusal{Status: 400, Pointer: "/url", Detail: "it is no public address"}}, nil, 400, "no public address", `{"id":"ops","url":"http://10.0.0.1/"}`},
		{"a projector that is away", "PUT", "/fences/home", "application/json", circle, bus.ResourceResult{}, bus.ErrChangesUnavailable, 503, "try again", shown},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked, result, failure = bus.ResourceChange{Body: []byte("nothing")}, c.result, c.failure
			a := exchange(t, c.method, addr, c.path, c.media, strings.NewReader(c.body))
			if a.status != c.status || !strings.Contains(a.body, c.want) || string(asked.Body) != c.asked {
				t.Errorf("%d %s, asked %q", a.status, a.body, asked.Body)
			}
			if location := a.header.Get("Location"); (location == c.path) != (c.status == 201) {
				t.Errorf("Location %q", location)
			}
		})
	}
}
