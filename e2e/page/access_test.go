package page

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// Behind a proxy that gives it a prefix, the page finds all of its own.
func TestBehindAPrefix(t *testing.T) {
	s := start(t)
	post(t, s, `{"id":"a/b c","longitude":2,"latitude":48,"name":"A"}`)
	target, err := url.Parse(s.Base)
	if err != nil {
		t.Fatal(err)
	}
	strays := make(chan string, 16)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/maps/cairn/") {
			if r.URL.Path != "/favicon.ico" {
				strays <- r.URL.Path
			}
			http.NotFound(w, r)
			return
		}
		(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.URL.Path = strings.TrimPrefix(p.In.URL.Path, "/maps/cairn")
			p.Out.URL.RawPath = strings.TrimPrefix(p.In.URL.RawPath, "/maps/cairn")
			p.SetXForwarded()
			p.Out.Header.Set("X-Forwarded-Prefix", "/maps/cairn")
		}}).ServeHTTP(w, r)
	}))
	defer proxy.CloseClientConnections()
	b := browse(t, proxy.URL+"/maps/cairn/?point=a%2Fb+c", 1200, 800, false)
	b.until(`document.getElementById('p-title').textContent === 'A'`)
	b.until(drawn + ` === 1`)
	b.until(`document.getElementById('live').textContent === 'live'`)
	b.click("p-delete")
	b.until(`document.getElementById('count').textContent.startsWith('0 points')`)
	close(strays)
	for path := range strays {
		t.Errorf("asked for outside of the prefix: %s", path)
	}
}

// With --auth keys, who has a key that reads sees all and is told what it may not; a
// key that edits, put into the page, does.
func TestKeys(t *testing.T) {
	data := testrig.DataFolder(t)
	s := testrig.Command{Program: cairnProgram, Args: []string{"serve", "--auth", "keys", "--data", data, "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort}}.Serve(t)
	queue := s.NATS()
	key := func(name, scope string) string {
		r := testrig.Command{Program: cairnProgram, Args: []string{"keys", "add", name, "--scope", scope, "--data", data, "--nats-url", queue}}.Start(t)
		if code := r.Wait(testrig.Patience); code != 0 {
			t.Fatalf("cairn keys add: %d %s", code, r.Stderr.String())
		}
		return strings.TrimSpace(r.Stdout.String())
	}
	reads, edits := key("reads", "read"), key("edits", "read,write,edit")
	add, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Base+"/point", strings.NewReader(`{"id":"a","longitude":2,"latitude":48,"name":"A"}`))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the key holds", func() bool {
		r := add.Clone(t.Context())
		r.Body, _ = add.GetBody()
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+edits)
		r.Header.Set("Prefer", "wait=20")
		a, err := testrig.Send(r)
		return err == nil && (a.Status == http.StatusCreated || a.Status == http.StatusOK)
	})
	if a, err := testrig.Get(t.Context(), s.Base+"/"); err != nil || a.Status != http.StatusUnauthorized || !strings.Contains(strings.Join(a.Header.Values("WWW-Authenticate"), ","), "Basic") {
		t.Errorf("without a key: %d %v %v", a.Status, a.Header, err)
	}

	b := launch(t, 1200, 800, false)
	b.answerPrompt("me", reads)
	b.open(s.Base + "/?point=a")
	b.until(drawn + ` === 1`)
	b.until(`document.getElementById('live').textContent === 'live'`)
	b.until(`document.getElementById('p-title').textContent === 'A'`)
	b.click("p-delete")
	b.until(`document.getElementById('t-text').textContent.includes('scope edit')`)
	b.do(chromedp.Evaluate(`document.getElementById('key').value = '`+edits+`'; document.getElementById('key').dispatchEvent(new Event('change'))`, nil))
	b.until(drawn + ` === 1`)
	b.click("p-delete")
	b.until(`document.getElementById('point').hidden`)
	b.until(`document.getElementById('count').textContent.startsWith('0 points')`)
}

// answerPrompt types the password where the browser asks for one.
func (b *tab) answerPrompt(user, password string) {
	b.t.Helper()
	b.do(fetch.Enable().WithHandleAuthRequests(true))
	chromedp.ListenTarget(b.ctx, func(e any) {
		switch e := e.(type) {
		case *fetch.EventRequestPaused:
			go func() { _ = chromedp.Run(b.ctx, fetch.ContinueRequest(e.RequestID)) }()
		case *fetch.EventAuthRequired:
			answer := &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseProvideCredentials, Username: user, Password: password}
			go func() { _ = chromedp.Run(b.ctx, fetch.ContinueWithAuth(e.RequestID, answer)) }()
		}
	})
}
