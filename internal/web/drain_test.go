package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
)

// While proxies find out that it stops, it serves on: new connections too.
func TestServesOnWhileProxiesFindOut(t *testing.T) {
	s, err := Listen(Config{Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler), DrainWait: time.Hour}, 1)
	if err != nil {
		t.Fatal(err)
	}
	s.Mount(Role{Name: "some", Ready: func() error { return nil }})
	get := func(path string) (int, string) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := client.Get("http://" + s.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	if status, body := get("/readyz"); status != http.StatusOK {
		t.Errorf("before: %d %s", status, body)
	}
	cancel()
	testkit.Eventually(t, time.Minute, "it says that it is stopping", func() bool {
		status, body := get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "stopping")
	})
	if status, body := get("/livez"); status != http.StatusOK {
		t.Errorf("while proxies find out: %d %s", status, body)
	}
	select {
	case err := <-ended:
		t.Errorf("it ended at once: %v", err)
	default:
	}
	if err := s.fast.Shutdown(); err != nil {
		t.Error(err)
	}
	<-ended
}
