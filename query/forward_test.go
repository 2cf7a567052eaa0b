package query

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cairn/internal/auth"
	"cairn/internal/testkit"
	"cairn/internal/web"
)

// Ingest learns who the client is, and what it is to believe of that: not what the
// client itself said.
func TestForwardTellsTheClient(t *testing.T) {
	got := make(chan http.Header, 1)
	ingest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Clone()
		w.WriteHeader(http.StatusAccepted)
	}))
	defer ingest.Close()
	server, err := web.Listen(web.Config{Listen: "127.0.0.1:0", Log: testkit.Log(t)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newForwarder(ingest.URL, server, func(uint64) {})
	if err != nil {
		t.Fatal(err)
	}
	server.Mount(web.Role{Name: "query", Ready: func() error { return nil },
		Routes: []web.Route{{Method: http.MethodPost, Path: "/items", Scope: auth.Write, Handler: f.forward}}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+server.Addr()+"/items", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Forwarded-For", "192.0.2.9, 198.51.100.1")
	request.Header.Set("Forwarded", "for=192.0.2.9")
	request.Header["If-Match"] = []string{`"1"`, `"2"`}
	request.Header.Set("If-None-Match", "") // a condition that nothing meets, and no absence of one
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusAccepted {
		t.Fatalf("%d %s %v", answer.StatusCode, text, err)
	}
	if h := <-got; h.Get("X-Forwarded-For") != "198.51.100.1" || h.Get("Forwarded") != "" || len(h["If-Match"]) != 2 || len(h["If-None-Match"]) != 1 {
		t.Errorf("ingest was told %v", h)
	}
}
