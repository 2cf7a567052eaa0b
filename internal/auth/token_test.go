package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cairn/internal/testkit"
)

// A provider is an OpenID Connect issuer of the test's.
type provider struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL, "token_endpoint": p.URL,
			"id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func sign(t *testing.T, key any, algorithm jose.SignatureAlgorithm, claims map[string]any) []byte {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
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
	a := New(Config{Issuer: &Issuer{URL: p.URL, Audience: "cairn"}, Log: testkit.Log(t)})
	end, err := a.Follow(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
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
		"another audience":     {sign(t, p.key, jose.ES256, claims(map[string]any{"aud": "others"})), ErrWrong},
		"another issuer":       {sign(t, p.key, jose.ES256, claims(map[string]any{"iss": "https://others.example"})), ErrWrong},
		"another's signature":  {sign(t, other, jose.ES256, claims(nil)), ErrWrong},
		"expired":              {sign(t, p.key, jose.ES256, claims(map[string]any{"exp": now.Add(-time.Hour).Unix()})), ErrExpired},
		"signed with a secret": {sign(t, []byte("0123456789abcdef0123456789abcdef"), jose.HS256, claims(nil)), ErrWrong},
		"unsigned":             {[]byte("eyJhbGciOiJub25lIn0.e30."), ErrWrong},
		"no token":             {[]byte("x.y"), ErrWrong},
		"a key":                {[]byte(newKey()), ErrWrong},
		"nothing":              {nil, ErrMissing},
	} {
		if i, err := a.Identify(tt.token, now); !errors.Is(err, tt.err) {
			t.Errorf("%s: %+v, %v, want %v", name, i, err, tt.err)
		}
	}
}
