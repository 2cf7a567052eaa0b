package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cairn/internal/testkit"
	"cairn/internal/testrig"
)

// An issuer is an OpenID Connect provider of the test's.
type issuer struct {
	*httptest.Server
	signer jose.Signer
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{}
	if i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL, "token_endpoint": i.URL, "id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

// token is one for an hour, with a scope.
func (i *issuer) token(t *testing.T, audience, user, scope string) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"iss": i.URL, "aud": audience, "sub": user, "preferred_username": user, "scope": scope, "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := i.signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// With --auth keys,jwt both let in, each for its scopes, and who wrote a point is told
// to who may know.
func TestTokensAndKeys(t *testing.T) {
	i, data := newIssuer(t), testrig.DataFolder(t)
	s := serve(t, data, "--auth", "keys,jwt", "--jwt-issuer", i.URL, "--jwt-audience", "cairn", "--database-url", testkit.Postgres(t))
	key := addKey(t, s, data, "boss", "read,admin")
	writer, reader := i.token(t, "cairn", "jane", "openid cairn:write"), i.token(t, "cairn", "jim", "read")
	testkit.Eventually(t, testrig.Patience, "key and tokens hold", func() bool {
		return ask(t, http.MethodGet, s.Base+"/status", key, "").Status == http.StatusOK && ask(t, http.MethodGet, s.Base+"/points", reader, "").Status == http.StatusOK
	})
	if a := ask(t, http.MethodPost, s.Base+"/point", writer, paris, "Prefer", "wait=20"); a.Status != http.StatusCreated {
		t.Fatalf("a token writes: %d %s", a.Status, a.Body)
	}
	for _, tt := range []struct {
		name, method, path, token, body string
		status                          int
		says                            string
	}{
		{"what a token is not for", "POST", "/point", reader, paris, 403, `"scope":"write"`},
		{"what a token is not for either", "GET", "/points", writer, "", 403, `"scope":"read"`},
		{"for others", "GET", "/points", i.token(t, "others", "eve", "read"), "", 401, "not known"},
		{"by another issuer", "GET", "/points", newIssuer(t).token(t, "cairn", "eve", "read"), "", 401, "not known"},
		{"changed", "GET", "/points", reader[:len(reader)-4] + "AAAA", "", 401, "not known"},
		{"none", "GET", "/points", "", "", 401, "access key"},
	} {
		a := ask(t, tt.method, s.Base+tt.path, tt.token, tt.body)
		if a.Status != tt.status || !strings.Contains(string(a.Body), tt.says) || tt.status == 401 && !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: %d %v %s", tt.name, a.Status, a.Header, a.Body)
		}
	}
	if a := ask(t, http.MethodGet, s.Base+"/points", key, ""); !strings.Contains(string(a.Body), `"author":"jane"`) {
		t.Errorf("who wrote it: %s", a.Body)
	}
	if a := ask(t, http.MethodGet, s.Base+"/points", reader, ""); strings.Contains(string(a.Body), "author") {
		t.Errorf("a reader learns who wrote it: %s", a.Body)
	}
	for _, secret := range []string{key, writer, reader} {
		if strings.Contains(s.Stderr.String(), secret) {
			t.Error("the log has a key or a token")
		}
	}
}
