package e2e

import (
	"net/http"
	"strings"
	"testing"

	"cairn/internal/testkit"
	"cairn/internal/testkit/issuer"
	"cairn/internal/testrig"
)

// With --auth keys,jwt both let in, each for its scopes, and who wrote a point is told
// to who may know.
func TestTokensAndKeys(t *testing.T) {
	i, data := issuer.Start(t), testrig.DataFolder(t)
	s := serve(t, data, "--auth", "keys,jwt", "--jwt-issuer", i.URL, "--jwt-audience", "cairn", "--database-url", testkit.Postgres(t))
	key := addKey(t, s, data, "boss", "read,admin")
	writer, reader := i.Token(t, "cairn", "jane", "openid cairn:write"), i.Token(t, "cairn", "jim", "read")
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
		{"for others", "GET", "/points", i.Token(t, "others", "eve", "read"), "", 401, "not known"},
		{"by another issuer", "GET", "/points", issuer.Start(t).Token(t, "cairn", "eve", "read"), "", 401, "not known"},
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
