package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A hooked is what a receiver of webhooks has been told, and whether it signed true.
type hooked struct {
	mu     sync.Mutex
	secret []byte
	told   map[string]string // by webhook-id
}

func (h *hooked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	mac := hmac.New(sha256.New, h.secret)
	fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
	if r.Header.Get("webhook-signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var e struct {
		Type string
		Data struct{ Name string }
	}
	_ = json.Unmarshal(body, &e)
	h.told[r.Header.Get("webhook-id")] = e.Data.Name + " " + e.Type
}

func (h *hooked) has(t *testing.T, want []string) {
	t.Helper()
	testkit.Eventually(t, time.Minute, fmt.Sprintf("the receiver to hear all of %d", len(want)), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		heard := map[string]bool{}
		for _, told := range h.told {
			heard[told] = true
		}
		return !slices.ContainsFunc(want, func(s string) bool { return !heard[s] })
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.told) != len(want) {
		t.Errorf("%d different messages, want %d", len(h.told), len(want))
	}
}

// What is acknowledged crosses a fence, and whoever asked to be told is told, though all
// of Cairn is killed in between and the receiver is away.
func TestFencesAndHooks(t *testing.T) {
	data := testrig.DataFolder(t)
	const flag, networks = "--hook-networks", "127.0.0.1/32"
	s := serve(t, data, flag, networks)
	put := func(path, body string, status int) testrig.Answer {
		t.Helper()
		a, err := testrig.Do(t.Context(), http.MethodPut, s.Base+path, "application/json", strings.NewReader(body))
		if err != nil || a.Status != status {
			t.Fatalf("PUT %s: %v %+v", path, err, a)
		}
		return a
	}
	put("/fences/home", `{"longitude":13.4,"latitude":52.5,"radius":200}`, http.StatusCreated)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	put("/hooks/inside", `{"url":"http://10.0.0.1/"}`, http.StatusBadRequest)
	a := put("/hooks/ops", `{"url":"http://`+address+`/hook"}`, http.StatusCreated)
	var hook struct{ Secret string }
	testrig.Parse(t, a.Body, &hook)
	h := &hooked{told: map[string]string{}}
	if h.secret, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(hook.Secret, "whsec_")); err != nil {
		t.Fatal(err)
	}
	receiver := &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	receiver.Start()
	var want []string
	drive := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			testrig.MustPost(t, s.Base+"/point", fmt.Sprintf(`{"longitude":13.4,"latitude":52.5,"name":"bus %d","time":"2026-01-01T10:00:00Z"}`, i))
			testrig.MustPost(t, s.Base+"/point", fmt.Sprintf(`{"longitude":13.5,"latitude":52.5,"name":"bus %d","time":"2026-01-01T10:01:00Z"}`, i))
			want = append(want, fmt.Sprintf("bus %d fence.enter", i), fmt.Sprintf("bus %d fence.leave", i))
		}
	}
	drive(0, 5)
	h.has(t, want)
	receiver.CloseClientConnections()
	receiver.Close()
	drive(5, 10)
	s.Kill()
	s = serve(t, data, flag, networks)
	drive(10, 15)
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	receiver = &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	receiver.Start()
	defer receiver.Close()
	h.has(t, want)
	var page struct {
		Events []struct{ Type string }
	}
	testrig.MustGet(t, s.Base+"/fences/home/events?limit=1000", &page)
	if len(page.Events) != len(want) {
		t.Errorf("%d events, want %d", len(page.Events), len(want))
	}
	if shown, err := testrig.Get(t.Context(), s.Base+"/hooks/ops"); err != nil || strings.Contains(string(shown.Body), "secret") {
		t.Errorf("%s: %v", shown.Body, err)
	}
	if strings.Contains(s.Stdout.String()+s.Stderr.String(), hook.Secret) {
		t.Error("the log has the secret")
	}
	s.Leave()
}
