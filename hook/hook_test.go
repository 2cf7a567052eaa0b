package hook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cairn/event"
	"cairn/fence"
	"cairn/hook"
)

// secret has 24 bytes behind its prefix.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestParse(t *testing.T) {
	h, err := hook.Parse("ops", []byte(`{"url":"https://example.org/hook?a=1&b=2","fences":["home","work"],"events":["enter"],"secret":"`+secret+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(h.Definition()); got != `{"id":"ops","url":"https://example.org/hook?a=1&b=2","fences":["home","work"],"events":["enter"]}` {
		t.Errorf("%s", got)
	}
	for _, c := range []struct {
		fence   string
		entered bool
		want    bool
	}{{"home", true, true}, {"home", false, false}, {"yard", true, false}} {
		if h.Wants(&fence.Event{Fence: c.fence, Entered: c.entered}) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, body, pointer, reason string }{
		{"no url", `{}`, "/url", "where to send"},
		{"another scheme", `{"url":"ftp://example.org"}`, "/url", "https://"},
		{"no host", `{"url":"https:///hook"}`, "/url", "https://"},
		{"a password", `{"url":"https://a:b@example.org"}`, "/url", "password"},
		{"a fragment", `{"url":"https://example.org/#a"}`, "/url", "#"},
		{"a space in a url", `{"url":"https://example.org/a b"}`, "/url", "percent-encode"},
		{"a host that is not ASCII", `{"url":"https://exämple.org/"}`, "/url", "xn--"},
		{"half an escape", `{"url":"https://example.org/%2"}`, "/url", "https://"},
		{"a long url", `{"url":"https://example.org/` + strings.Repeat("a", 2000) + `"}`, "/url", "2000"},
		{"a short secret", `{"url":"https://example.org","secret":"whsec_AAAA"}`, "/secret", "24 to 64"},
		{"a line end in a secret", `{"url":"https://example.org","secret":"` + secret[:20] + `\n` + secret[20:] + `"}`, "/secret", "24 to 64"},
		{"a secret without its beginning", `{"url":"https://example.org","secret":"` + strings.TrimPrefix(secret, "whsec_") + `"}`, "/secret", "whsec_"},
		{"another event", `{"url":"https://example.org","events":["dwell"]}`, "/events/0", "leave"},
		{"a fence that is none", `{"url":"https://example.org","fences":["a/b"]}`, "/fences/0", "letters"},
		{"no list", `{"url":"https://example.org","fences":"home"}`, "/fences", "list"},
		{"a misspelling", `{"uri":"https://example.org"}`, "/uri", "nothing else"},
		{"something behind", `{"url":"https://example.org"}{}`, "", "follows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := hook.Parse("ops", []byte(c.body))
			var f *event.FieldError
			if !errors.As(err, &f) || f.Pointer != c.pointer || !strings.Contains(f.Reason, c.reason) {
				t.Errorf("%v", err)
			}
			if err != nil && strings.Contains(err.Error(), strings.TrimPrefix(secret, "whsec_")) {
				t.Errorf("it shows the secret: %v", err)
			}
		})
	}
}

// patterns are those of the API's definition for what a hook is made of.
func patterns(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	raw, err := os.ReadFile("../query/ogc/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Pattern string }
			}
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	out := map[string]*regexp.Regexp{}
	for name, p := range d.Components.Schemas["NewHook"].Properties {
		if p.Pattern != "" {
			out[name] = regexp.MustCompile(p.Pattern)
		}
	}
	return out
}

// TestTheDefinitionSaysWhatIsTaken: a client that checks by the API's definition sends
// all that is taken, and nothing else.
func TestTheDefinitionSaysWhatIsTaken(t *testing.T) {
	defined := patterns(t)
	try := func(name, value string, right bool) {
		t.Run(name+" "+value, func(t *testing.T) {
			members := map[string]string{"url": "https://example.org"}
			members[name] = value
			body, _ := json.Marshal(members) // text only
			h, err := hook.Parse("ops", body)
			if got := defined[name].MatchString(value); got != right || (err == nil) != right {
				t.Errorf("the definition takes it: %v, the service: %v", got, err)
			}
			if _, wrong := url.Parse(value); err == nil && wrong != nil {
				t.Errorf("%s is taken, and %v", h.URL, wrong)
			}
		})
	}
	for _, right := range []string{"https://example.org", "http://127.0.0.1:8080/a/b?c=d%20e&f=;", "https://a_b.example:65535?x", "https://[::]/", "https://[::1]:8443/x",
		"https://[2001:db8::]/", "https://[1:2:3:4:5:6:7:8]", "https://[1:2:3:4:5:6:7::]", "https://[1::8]/", "https://example.org/it's(@):~!$*+,=/"} {
		try("url", right, true)
	}
	for _, wrong := range []string{"", "example.org", "https:example.org", "https://", "HTTPS://example.org", "https://:80/", "https://a b/", "https://example.org:/", "https://example.org:x/",
		"https://[1]/", "https://[1::2::3]/", "https://[1:2:3:4:5:6:7:8:9]/", "https://[fe80::1%25eth0]/", "https://[::1", "https://example.org/\"", "https://example.org/\n", "https://example.org/%zz", "https://example.org\\x"} {
		try("url", wrong, false)
	}
	for n := range 70 {
		secret := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{255}, n))
		try("secret", secret, n >= 24 && n <= 64)
		// The same bytes in another spelling: bits that belong to none.
		if trimmed, padded := strings.CutSuffix(secret, "w=="); padded {
			try("secret", trimmed+"x==", false)
		}
		if trimmed, padded := strings.CutSuffix(secret, "8="); padded {
			try("secret", trimmed+"9=", false)
		}
		try("secret", strings.TrimRight(secret, "="), n >= 24 && n <= 64 && n%3 == 0)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"url":"https://example.org/hook","fences":["home"],"events":["enter","leave"],"secret":"` + secret + `"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := hook.Parse("ops", body)
		if err != nil {
			var field *event.FieldError
			if !errors.As(err, &field) {
				t.Fatalf("%v is no FieldError", err)
			}
			return
		}
		again, err := hook.Parse("ops", h.JSON())
		if err != nil || string(again.JSON()) != string(h.JSON()) {
			t.Fatalf("%s: %v", h.JSON(), err)
		}
		_ = hook.Check(h, nil)
	})
}

var everywhere = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func receiver(t *testing.T, handle http.HandlerFunc) *hook.Hook {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return &hook.Hook{ID: "ops", URL: s.URL + "/hook?token=hush", Secret: secret}
}

// The signature is what the standard says, calculated here by hand.
func TestSendSigns(t *testing.T) {
	type got struct {
		head http.Header
		body []byte
	}
	all := make(chan got, 1)
	h := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		all <- got{r.Header, body}
	})
	const body = `{"type":"fence.enter"}`
	begun := time.Now().Unix()
	if err := hook.NewSender(everywhere, "1.2.3").Send(t.Context(), h, "ops_4096-0", []byte(body)); err != nil {
		t.Fatal(err)
	}
	g := <-all
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	at := g.head.Get("webhook-timestamp")
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", "ops_4096-0", at, body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); g.head.Get("webhook-signature") != want {
		t.Errorf("signature %q, want %q", g.head.Get("webhook-signature"), want)
	}
	if n, err := strconv.ParseInt(at, 10, 64); err != nil || n < begun || n > time.Now().Unix() {
		t.Errorf("timestamp %q: %v", at, err)
	}
	if string(g.body) != body || g.head.Get("webhook-id") != "ops_4096-0" || g.head.Get("Content-Type") != "application/json" || g.head.Get("User-Agent") != "Cairn/1.2.3" {
		t.Errorf("%s %v", g.body, g.head)
	}
}

func TestSendFails(t *testing.T) {
	elsewhere := make(chan string, 1)
	inner := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { elsewhere <- r.URL.Path }))
	defer inner.Close()
	for _, c := range []struct {
		name   string
		handle http.HandlerFunc
		want   string
	}{
		{"an error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "500"},
		{"a refusal", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }, "400"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inner.URL, http.StatusTemporaryRedirect)
		}, "redirects are not followed"},
		{"gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }, "410"},
		{"a large head", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("a", 1<<20)) }, "header"},
		{"a broken connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := receiver(t, c.handle)
			err := hook.NewSender(everywhere, "").Send(t.Context(), h, "1", []byte(`{}`))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if errors.Is(err, hook.ErrGone) != (c.name == "gone") {
				t.Errorf("gone: %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("it shows the URL: %v", err)
			}
		})
	}
	select {
	case path := <-elsewhere:
		t.Errorf("the redirect to %s was followed", path)
	default:
	}
}

// An answer without an end is no reason to fail, and holds nobody.
func TestSendReadsLittle(t *testing.T) {
	h := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	if err := hook.NewSender(everywhere, "").Send(t.Context(), h, "1", []byte(`{}`)); err != nil {
		t.Error(err)
	}
}

// A receiver that takes the connection and says nothing ends with the context at the
// latest.
func TestSendEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	h := &hook.Hook{ID: "ops", URL: "http://" + l.Addr().String(), Secret: secret}
	if err := hook.NewSender(everywhere, "").Send(ctx, h, "1", nil); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("%v", err)
	}
}

// Where nothing is allowed, no connection is made to the inside, by whatever name.
func TestAddressesOfTheInside(t *testing.T) {
	for _, c := range []struct {
		host  string
		check bool // it is refused when the hook is put, too
	}{
		{"127.0.0.1", true}, {"127.8.9.1", true}, {"[::1]", true}, {"0.0.0.0", true}, {"[::]", true},
		{"localhost", false}, {"2130706433", false}, {"0x7f000001", false}, {"127.1", false},
		{"10.1.2.3", true}, {"172.16.0.1", true}, {"172.31.255.255", true}, {"192.168.1.1", true},
		{"100.64.0.1", true}, {"100.127.255.254", true},
		{"169.254.169.254", true}, {"169.254.1.1", true}, {"[fe80::1]", true}, {"[fe80::1%25lo]", true},
		{"[fd00:ec2::254]", true}, {"[fc00::1]", true}, {"[fec0::1]", true},
		{"[::ffff:127.0.0.1]", true}, {"[::ffff:10.0.0.1]", true}, {"[::127.0.0.1]", true}, {"[64:ff9b::7f00:1]", true}, {"[2002:7f00:1::]", true}, {"[2001:0:7f00:1::]", true},
		{"224.0.0.1", true}, {"[ff02::1]", true}, {"255.255.255.255", true}, {"240.0.0.1", true},
		{"192.0.2.1", true}, {"198.18.0.1", true}, {"198.51.100.7", true}, {"203.0.113.9", true}, {"[2001:db8::1]", true}, {"192.0.0.8", true},
	} {
		t.Run(c.host, func(t *testing.T) {
			h := &hook.Hook{ID: "ops", URL: "http://" + c.host + ":9/", Secret: secret}
			var inside *hook.InsideError
			if refused := errors.As(hook.Check(h, nil), &inside); refused != c.check {
				t.Errorf("refused when it is put: %v", refused)
			}
			err := hook.NewSender(nil, "").Send(t.Context(), h, "1", nil)
			var unknown *net.DNSError // some systems read 127.1 as a name
			if !errors.As(err, &inside) && !errors.As(err, &unknown) {
				t.Errorf("%v", err)
			}
		})
	}
	for _, host := range []string{"8.8.8.8", "[2600:1f18::1]", "100.63.255.255", "100.128.0.1", "172.32.0.1", "example.org"} {
		if err := hook.Check(&hook.Hook{URL: "http://" + host + "/"}, nil); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	allowed := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	if err := hook.Check(&hook.Hook{URL: "http://10.1.2.3/"}, allowed); err != nil {
		t.Errorf("what is allowed: %v", err)
	}
	if err := hook.Check(&hook.Hook{URL: "http://[::ffff:10.1.2.3]/"}, allowed); err != nil {
		t.Errorf("what is allowed, mapped: %v", err)
	}
	if err := hook.Check(&hook.Hook{URL: "http://10.2.2.3/"}, allowed); err == nil {
		t.Error("what is beside is let through")
	}
}

func TestNewSecret(t *testing.T) {
	one, two := hook.NewSecret(), hook.NewSecret()
	if one == two || !strings.HasPrefix(one, "whsec_") {
		t.Errorf("%s and %s", one, two)
	}
	if _, err := hook.Parse("ops", []byte(`{"url":"https://example.org","secret":"`+one+`"}`)); err != nil {
		t.Error(err)
	}
}
