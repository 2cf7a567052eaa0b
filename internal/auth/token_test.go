package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"cairn/internal/testkit"
)

// A provider is an OpenID Connect issuer of the test's.
type provider struct {
	*httptest.Server
	key *ecdsa.PrivateKey

	mu    sync.Mutex
	keys  []jose.JSONWebKey
	asked int // for its keys
	// serves says what is answered; nil: all.
	serves func(path string) bool
}

// rotate makes the provider have these keys only.
func (p *provider) rotate(keys ...jose.JSONWebKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

func public(key *ecdsa.PrivateKey, id string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key, keys: []jose.JSONWebKey{public(key, "1")}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL, "token_endpoint": p.URL,
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked++
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: p.keys})
	})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		served := p.serves == nil || p.serves(r.URL.Path)
		p.mu.Unlock()
		if !served {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func sign(t *testing.T, key any, algorithm jose.SignatureAlgorithm, claims map[string]any) []byte {
	t.Helper()
	return signAs(t, key, "1", algorithm, claims)
}

func signAs(t *testing.T, key any, id string, algorithm jose.SignatureAlgorithm, claims map[string]any) []byte {
	t.Helper()
	return signWith(t, jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil, claims)
}

// authority takes the provider's tokens, and follows its keys until the test ends. age is
// how long it uses what the provider said before it asks again; below issuerCacheAge also
// what answers are reused for.
func (p *provider) authority(t *testing.T, age time.Duration) *Authority {
	t.Helper()
	a := New(Config{Issuer: &Issuer{URL: p.URL, Audience: "cairn"}, Log: testkit.Log(t)})
	a.tokens.age = age
	if age < issuerCacheAge {
		a.tokens.transport.fresh = age
	}
	end, err := a.Follow(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return a
}

func es256(key *ecdsa.PrivateKey) jose.SigningKey {
	return jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}
}

// signWith signs with further header fields, if there are options.
func signWith(t *testing.T, key jose.SigningKey, options *jose.SignerOptions, claims map[string]any) []byte {
	t.Helper()
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(raw)
}

func TestTokens(t *testing.T) {
	p := newProvider(t)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := p.authority(t, issuerAge)
	now := time.Now()
	claims := func(change map[string]any) map[string]any {
		c := map[string]any{"iss": p.URL, "aud": "cairn", "sub": "u1", "preferred_username": "ann", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "scope": "openid cairn:read write"}
		for name, value := range change {
			c[name] = value
		}
		return c
	}
	good := sign(t, p.key, jose.ES256, claims(nil))
	testkit.Eventually(t, 10*time.Second, "the issuer has answered", func() bool {
		_, err := a.Identify(good, now)
		return err == nil
	})
	for range 2 { // verified, and remembered
		i, err := a.Identify(good, now)
		if err != nil || i.Name != "ann" || i.Scopes != Open|Read|Write {
			t.Errorf("%+v, %v", i, err)
		}
	}
	if _, err := a.Identify(good, now.Add(2*time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("remembered for longer than it holds: %v", err)
	}
	for name, tt := range map[string]struct {
		token []byte
		err   error
	}{
		"another audience":           {sign(t, p.key, jose.ES256, claims(map[string]any{"aud": "others"})), ErrWrong},
		"another issuer":             {sign(t, p.key, jose.ES256, claims(map[string]any{"iss": "https://others.example"})), ErrWrong},
		"another's signature":        {sign(t, other, jose.ES256, claims(nil)), ErrWrong},
		"expired":                    {sign(t, p.key, jose.ES256, claims(map[string]any{"exp": now.Add(-time.Hour).Unix()})), ErrExpired},
		"signed with a secret":       {sign(t, []byte("0123456789abcdef0123456789abcdef"), jose.HS256, claims(nil)), ErrWrong},
		"not yet":                    {sign(t, p.key, jose.ES256, claims(map[string]any{"nbf": now.Add(time.Hour).Unix()})), ErrWrong},
		"no audience":                {sign(t, p.key, jose.ES256, claims(map[string]any{"aud": nil})), ErrWrong},
		"one of two audiences":       {sign(t, p.key, jose.ES256, claims(map[string]any{"aud": []string{"others", "cairn"}})), nil},
		"no end":                     {sign(t, p.key, jose.ES256, claims(map[string]any{"exp": nil})), ErrWrong},
		"its public key as a secret": {sign(t, publicPEM(t, p.key), jose.HS256, claims(nil)), ErrWrong},
		"nobody's":                   {sign(t, p.key, jose.ES256, claims(map[string]any{"preferred_username": nil, "sub": ""})), ErrWrong},
		"a user's, by the subject":   {sign(t, p.key, jose.ES256, claims(map[string]any{"preferred_username": nil})), nil},
		"a number of scopes":         {sign(t, p.key, jose.ES256, claims(map[string]any{"scope": 7})), ErrWrong},
		"no key of that name":        {signAs(t, p.key, "2", jose.ES256, claims(nil)), ErrWrong},
		"a path as the key's name":   {signAs(t, p.key, "../../dev/null", jose.ES256, claims(nil)), ErrWrong},
		"a query as the key's name":  {signAs(t, p.key, "1' or '1'='1", jose.ES256, claims(nil)), ErrWrong},
		"a key of its own in it":     {signWith(t, es256(other), &jose.SignerOptions{EmbedJWK: true}, claims(nil)), ErrWrong},
		"where its keys should be":   {signWith(t, es256(other), (&jose.SignerOptions{}).WithHeader("jku", "http://127.0.0.1:1/keys"), claims(nil)), ErrWrong},
		"what must be understood":    {signWith(t, es256(p.key), (&jose.SignerOptions{}).WithHeader("crit", []string{"x"}).WithHeader("x", 1), claims(nil)), ErrWrong},
		"expired a second ago":       {sign(t, p.key, jose.ES256, claims(map[string]any{"exp": now.Add(-time.Second).Unix()})), ErrExpired},
		"a clock four minutes ahead": {sign(t, p.key, jose.ES256, claims(map[string]any{"nbf": now.Add(4 * time.Minute).Unix(), "iat": now.Add(4 * time.Minute).Unix()})), nil},
		"too long":                   {append(bytes.Repeat([]byte("x"), 9<<10), good...), ErrWrong},
		"unsigned":                   {[]byte("eyJhbGciOiJub25lIn0.e30."), ErrWrong},
		"no token":                   {[]byte("x.y"), ErrWrong},
		"a key":                      {[]byte(newKey()), ErrWrong},
		"nothing":                    {nil, ErrMissing},
	} {
		t.Run(name, func(t *testing.T) {
			if i, err := a.Identify(tt.token, now); !errors.Is(err, tt.err) {
				t.Errorf("%+v, %v, want %v", i, err, tt.err)
			}
		})
	}
}

// An issuer that is unreachable at the start, or whose keys are, is waited for: nobody is said
// to be wrong meanwhile. One that goes away later holds for a while, and no longer.
func TestIssuerAway(t *testing.T) {
	p := newProvider(t)
	config, keys := false, false
	p.serves = func(path string) bool { return path == "/keys" && keys || path != "/keys" && config }
	set := func(c, k bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		config, keys = c, k
	}
	a := p.authority(t, 100*time.Millisecond)
	token := sign(t, p.key, jose.ES256, map[string]any{"iss": p.URL, "aud": "cairn", "sub": "u1", "exp": time.Now().Add(time.Hour).Unix(), "scope": "read"})
	is := func(want error) func() bool {
		return func() bool { _, err := a.Identify(token, time.Now()); return errors.Is(err, want) }
	}
	away := func() bool { return is(errIssuer)() }
	for range 3 {
		if !away() {
			t.Fatal("a token is judged although the issuer was never there")
		}
	}
	set(true, false)
	testkit.Eventually(t, time.Minute, "its configuration is known", func() bool { return a.tokens.verifier.Load() != nil })
	if !away() {
		t.Error("a token is refused whose key cannot be fetched")
	}
	set(true, true)
	testkit.Eventually(t, time.Minute, "the token is taken", is(nil))
	set(false, false)
	transport := a.tokens.transport
	testkit.Eventually(t, time.Minute, "the issuer does not answer", func() bool {
		transport.mu.Lock()
		defer transport.mu.Unlock()
		return transport.answers[p.URL+"/.well-known/openid-configuration"].err != nil
	})
	if !is(nil)() {
		t.Error("the last answer of an issuer that has just gone away is not used")
	}
	transport.mu.Lock()
	transport.stale = 0
	transport.mu.Unlock()
	testkit.Eventually(t, time.Minute, "the last answer of an issuer that is unreachable for too long is not used", away)
	set(true, true)
	testkit.Eventually(t, time.Minute, "the token is taken again", is(nil))
}

// publicPEM is the public half of a key as anybody can have it.
func publicPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Scopes stand where issuers put them.
func TestScopesOfTokens(t *testing.T) {
	p := newProvider(t)
	a := p.authority(t, issuerAge)
	for name, tt := range map[string]struct {
		claims map[string]any
		want   Scope
	}{
		"scope":          {map[string]any{"scope": "openid cairn:read edit"}, Read | Edit},
		"scp, as a list": {map[string]any{"scp": []string{"cairn:write", "others"}}, Write},
		"scp, as text":   {map[string]any{"scp": "read write"}, Read | Write},
		"roles":          {map[string]any{"roles": []string{"cairn:admin"}}, Admin},
		"several":        {map[string]any{"scope": "read", "scp": "write", "roles": []string{"edit"}}, Read | Write | Edit},
		"none":           {map[string]any{"scope": "reader readwrite cairn: Open open"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			claims := map[string]any{"iss": p.URL, "aud": "cairn", "sub": "u1", "exp": time.Now().Add(time.Hour).Unix()}
			for k, v := range tt.claims {
				claims[k] = v
			}
			token := sign(t, p.key, jose.ES256, claims)
			var i *Identity
			testkit.Eventually(t, 10*time.Second, "the issuer has answered", func() (ok bool) {
				var err error
				i, err = a.Identify(token, time.Now())
				return err == nil
			})
			if i.Scopes != Open|tt.want || i.Name != "u1" {
				t.Errorf("%q may %v", i.Name, i.Scopes)
			}
		})
	}
}

// A key that the issuer begins to use is found, and one that it takes back is refused,
// also for tokens that were taken before.
func TestIssuerChangesItsKeys(t *testing.T) {
	p := newProvider(t)
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := p.authority(t, 100*time.Millisecond)
	now := time.Now()
	claims := map[string]any{"iss": p.URL, "aud": "cairn", "sub": "u1", "exp": now.Add(time.Hour).Unix(), "scope": "read"}
	old, fresh := sign(t, p.key, jose.ES256, claims), signAs(t, second, "2", jose.ES256, claims)
	takes := func(token []byte) bool { _, err := a.Identify(token, now); return err == nil }
	testkit.Eventually(t, 10*time.Second, "the first key's tokens are taken", func() bool { return takes(old) })
	p.rotate(public(p.key, "1"), public(second, "2"))
	testkit.Eventually(t, 20*time.Second, "the second key's, too", func() bool { return takes(fresh) })
	if !takes(old) {
		t.Error("the first key's are refused, which the issuer still has")
	}
	p.rotate(public(second, "2"))
	testkit.Eventually(t, 20*time.Second, "the first key's are refused", func() bool { return !takes(old) })
	testkit.Eventually(t, 20*time.Second, "the second key's are taken", func() bool { return takes(fresh) })
	// Who makes up the names of keys does not make Cairn ask for them each time.
	p.mu.Lock()
	before := p.asked
	p.mu.Unlock()
	for n := range 50 {
		if takes(signAs(t, second, string(rune('a'+n)), jose.ES256, claims)) {
			t.Error("a key that nobody has is taken")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked-before > 5 {
		t.Errorf("asked for keys %d times for 50 tokens", p.asked-before)
	}
}

// What anybody sends as a token is a known one's or nobody's.
func FuzzToken(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	set := &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{key.Public()}}
	tokens := &tokens{log: slog.New(slog.DiscardHandler), good: map[[32]byte]*Identity{}, transport: &cachedTransport{}}
	tokens.verifier.Store(oidc.NewVerifier("https://issuer.example", set, &oidc.Config{ClientID: "cairn", SupportedSigningAlgs: []string{"ES256"}}))
	f.Add([]byte("eyJhbGciOiJub25lIn0.e30."))
	f.Add([]byte("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.AAAA"))
	f.Add([]byte("a.b.c.d.e"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if i, err := tokens.find(raw); i != nil || err != nil {
			t.Fatalf("%q is taken, or cannot be told: %+v, %v", raw, i, err)
		}
	})
}

// Claims of any form give scopes that there are, or an error.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"scope":"read write","scp":["edit"],"roles":"admin"}`))
	f.Add([]byte(`{"scope":[1],"roles":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c claims
		if json.Unmarshal(raw, &c) != nil {
			return
		}
		for _, word := range c.Scope {
			if s := scopeNamed(word); s&^(Read|Write|Edit|Admin) != 0 {
				t.Fatalf("%q is the scope %v", word, s)
			}
		}
	})
}
