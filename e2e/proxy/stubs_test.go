//go:build e2eproxy

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// A stub stands in a role's place and does what no role does on purpose.
type stub struct {
	handler atomic.Pointer[http.HandlerFunc] // nil: 200 and the request's head
	asked   atomic.Int32                     // requests for other than health
}

func (s *stub) do(h http.HandlerFunc) { s.handler.Store(&h) }

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" {
		return
	}
	s.asked.Add(1)
	if h := s.handler.Load(); h != nil {
		(*h)(w, r)
		return
	}
	_ = r.Header.Write(w)
}

// die ends the connection without an answer, after the request was read.
func die(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

// stubs are one for ingest and two for query.
func stubs(t testing.TB) (b behind, ingest *stub, query [2]*stub) {
	t.Helper()
	replicas := []string{"127.0.0.21", "127.0.0.22"}
	address := testrig.FreePort(t, append([]string{"127.0.0.1"}, replicas...)...)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	b = behind{ingest: address, query: replicas, queryPort: port}
	listen := func(host string) *stub {
		s := &stub{}
		l, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		server := &httptest.Server{Listener: l, Config: &http.Server{Handler: s, ReadHeaderTimeout: patience}}
		server.Start()
		t.Cleanup(server.Close)
		return s
	}
	return b, listen("127.0.0.1"), [2]*stub{listen(replicas[0]), listen(replicas[1])}
}

// What a role learns of the client is the proxy's word, not the client's.
func TestForwards(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		b, _, _ := stubs(t)
		p := start(t, b)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/points", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "points.example"
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Prefix", "Forwarded"} {
			request.Header.Set(name, "a lie")
		}
		a, err := testrig.Send(request)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n", "X-Forwarded-Host: points.example\r\n",
			"Forwarded: for=127.0.0.1;proto=http\r\n",
		} {
			if !strings.Contains(string(a.Body), want) {
				t.Errorf("the role did not get %q but\n%s", want, a.Body)
			}
		}
		if strings.Contains(string(a.Body), "a lie") {
			t.Errorf("the role believes the client:\n%s", a.Body)
		}
	})
}

// With a certificate the proxies speak HTTPS, too, and say so to the roles.
func TestTLS(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		b, _, _ := stubs(t)
		dir := testkit.Folder(t)
		c := testkit.NewCertificate(t, dir)
		var text []byte
		for _, file := range []string{c.Cert, c.Key} {
			part, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, part...)
		}
		both, listen := filepath.Join(dir, "both.pem"), testrig.FreePort(t, "127.0.0.1")
		if err := os.WriteFile(both, text, 0o600); err != nil {
			t.Fatal(err)
		}
		p := start(t, b, "CAIRN_TLS_PEM="+both, "CAIRN_TLS_BIND="+listen, "CAIRN_TLS_LISTEN="+listen)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.Roots}}, Timeout: patience}
		defer client.CloseIdleConnections()
		for base, proto := range map[string]string{"https://" + listen: "https", p.base: "http"} {
			answer, err := client.Get(base + "/points")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || !strings.Contains(string(body), "X-Forwarded-Proto: "+proto+"\r\n") {
				t.Errorf("%s: the role got, %v,\n%s", base, err, body)
			}
		}
	})
}

// A read goes to another replica in the place of one that dies with it. A write
// does not: it may have been received.
func TestRetries(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		b, ingest, query := stubs(t)
		p := start(t, b)
		query[0].do(die)
		before := query[0].asked.Load()
		for range 50 {
			testrig.MustGet(t, p.base+"/points", nil)
		}
		if query[0].asked.Load() == before {
			t.Error("no read came to the replica that dies")
		}

		ingest.do(die)
		for _, path := range []string{"/point", "/points"} {
			before := ingest.asked.Load()
			// On a connection that has served before, HAProxy closes without a
			// word, as RFC 9112, section 9.3.1, lets it; so each has its own.
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+path, strings.NewReader(paris))
			if err != nil {
				t.Fatal(err)
			}
			a, err := testrig.SendAlone(request)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != http.StatusBadGateway || a.Header.Get("Retry-After") == "" ||
				a.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(string(a.Body), "not known") {
				t.Errorf("POST %s: %d %v %s", path, a.Status, a.Header, a.Body)
			}
			if n := ingest.asked.Load() - before; n != 1 {
				t.Errorf("POST %s came %d times", path, n)
			}
		}
	})
}

// A body is passed on as it comes, and an answer too: neither side waits for the
// end of the other.
func TestStreams(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		b, ingest, query := stubs(t)
		p := start(t, b)

		first := make(chan string, 1)
		ingest.do(func(_ http.ResponseWriter, r *http.Request) {
			line, _ := bufio.NewReader(r.Body).ReadString('\n')
			first <- line
			_, _ = io.Copy(io.Discard, r.Body)
		})
		reader, writer := io.Pipe()
		sent := make(chan error, 1)
		go func() {
			_, err := testrig.Do(t.Context(), http.MethodPost, p.base+"/point", "application/x-ndjson", reader)
			sent <- err
		}()
		if _, err := io.WriteString(writer, paris+"\n"); err != nil {
			t.Fatal(err)
		}
		select {
		case line := <-first:
			if line != paris+"\n" {
				t.Errorf("ingest got %q", line)
			}
		case <-time.After(patience):
			t.Fatal("ingest got nothing before the body's end")
		}
		_ = writer.Close()
		if err := <-sent; err != nil {
			t.Error(err)
		}

		next := make(chan struct{}, 1)
		for _, q := range query {
			q.do(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for {
					_, _ = io.WriteString(w, "data: x\n\n")
					_ = http.NewResponseController(w).Flush()
					select {
					case <-r.Context().Done():
						return
					case <-next:
					}
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		response, lines := openStream(ctx, t, p.base+"/stream")
		defer response.Body.Close()
		for i := range 3 {
			for lines.Scan() && lines.Text() == "" {
			}
			if lines.Text() != "data: x" {
				t.Fatalf("event %d: %q, %v", i, lines.Text(), lines.Err())
			}
			next <- struct{}{}
		}
	})
}

// When the client of a read leaves, the role is told, although it has answered nothing
// yet: a download may search for a minute.
func TestClientLeaves(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		b, _, query := stubs(t)
		p := start(t, b)
		asked, left := make(chan struct{}, 1), make(chan struct{}, 1)
		for _, q := range query {
			q.do(func(_ http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				<-r.Context().Done()
				left <- struct{}{}
			})
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET /points.csv HTTP/1.1\r\nHost: localhost\r\n\r\n")
		<-asked
		_ = conn.Close()
		select {
		case <-left:
		case <-time.After(patience / 2): // less than the proxies wait for an answer
			t.Error("the role still works for a client that has left")
		}
	})
}

// openStream begins a GET that does not end on its own.
func openStream(ctx context.Context, t testing.TB, url string) (*http.Response, *bufio.Scanner) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response, bufio.NewScanner(response.Body)
}

// What is too large or too much is refused by the proxy, as a problem.
func TestBounds(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		b, ingest, query := stubs(t)
		p := start(t, b)
		refused := func(what string, a Answer, err error, status int) {
			t.Helper()
			if err != nil || a.Status != status {
				t.Errorf("%s: %d %s %v, want %d", what, a.Status, a.Body, err, status)
			}
		}
		asked := func() int32 { return ingest.asked.Load() + query[0].asked.Load() + query[1].asked.Load() }
		before := asked()
		big := strings.NewReader(strings.Repeat("x", 100<<10))
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.base+"/status", big)
		if err != nil {
			t.Fatal(err)
		}
		// Else the proxy may be done with the connection before the body is sent.
		request.Header.Set("Expect", "100-continue")
		a, err := testrig.SendAlone(request)
		refused("a body where none belongs", a, err, http.StatusRequestEntityTooLarge)
		if a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("413 is %v", a.Header)
		}
		request, err = http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/points", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Long", strings.Repeat("x", 20<<10))
		// The proxy need not read it to its end, so the client may not come to the
		// answer.
		if a, err = testrig.Send(request); err == nil {
			refused("a long head", a, err, http.StatusBadRequest)
		}
		if asked() != before {
			t.Errorf("%d of what was refused came to a role", asked()-before)
		}
	})
}

// Answer is short for what a request gives.
type Answer = testrig.Answer

// Above the rate, one address is told to wait; nothing of it comes to a role.
func TestRate(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		b, ingest, _ := stubs(t)
		p := start(t, b, "CAIRN_RATE=20") // in 10 s for HAProxy; in 1 s, after a burst, for Nginx
		const most = 20_000
		passed := int32(0)
		for range most {
			a, err := testrig.Do(t.Context(), http.MethodPost, p.base+"/point", "application/json", strings.NewReader(paris))
			if err != nil {
				t.Fatal(err)
			}
			if a.Status == http.StatusOK {
				passed++
				continue
			}
			if a.Status != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" || a.Header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%d %v %s", a.Status, a.Header, a.Body)
			}
			if n := ingest.asked.Load(); n != passed+1 { // with that of ready
				t.Errorf("%d requests came, %d were let pass", n, passed)
			}
			return
		}
		t.Error(fmt.Sprint(most, " requests without a pause pass"))
	})
}
