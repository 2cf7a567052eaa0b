//go:build e2eproxy

package proxy

import (
	"fmt"
	"net/http"
	"testing"

	"cairn/internal/testkit/issuer"
)

// manyGroups make a token of about 6 KB, as those of users in many groups are: as the
// password of Basic it is 8 KB, half of what a head may have.
func manyGroups() (names []string) {
	for n := range 170 {
		names = append(names, fmt.Sprintf("department-%04d-readers", n))
	}
	return names
}

// Tokens hold behind the proxies as they do without, small and large ones, in each way
// that they are sent, and are in no log.
func TestTokens(t *testing.T) {
	each(t, func(t *testing.T, start func(testing.TB, behind, ...string) *running) {
		i := issuer.Start(t)
		g := startGuarded(t, start, "--auth", "jwt", "--jwt-issuer", i.URL, "--jwt-audience", "cairn")
		g.keys["reader"] = i.Sign(t, map[string]any{"aud": []string{"other", "cairn"}, "sub": "jim", "roles": []string{"read"}, "groups": manyGroups()})
		g.keys["writer"], g.keys["editor"] = i.Token(t, "cairn", "jane", "openid cairn:write"), i.Token(t, "cairn", "ed", "edit")
		if n := len(g.keys["reader"]); n < 5<<10 || n > 7<<10 {
			t.Fatalf("the large token has %d bytes", n)
		}
		g.known(t)
		g.eachIsForItsOwn(t)
		for name, token := range map[string]string{
			"for others": i.Token(t, "others", "eve", "read"), "of another issuer": issuer.Start(t).Token(t, "cairn", "eve", "read"),
			"expired": i.Sign(t, map[string]any{"aud": "cairn", "sub": "eve", "scope": "read", "exp": 1}), "changed": g.keys["reader"][:len(g.keys["reader"])-4] + "AAAA",
		} {
			for way, how := range ways(g.base+"/points", token) {
				if a := g.ask(t, http.MethodGet, how[0], "", how[1:]...); a.Status != http.StatusUnauthorized {
					t.Errorf("a token that is %s, as %s: %d %s", name, way, a.Status, a.Body)
				}
			}
		}
		g.logsAreClean(t)
	})
}
