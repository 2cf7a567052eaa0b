package web

import (
	"net"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

func TestBase(t *testing.T) {
	for _, tt := range [...]struct {
		name, from, public string
		header             map[string]string
		want               string
	}{
		{"as asked", "203.0.113.7", "", map[string]string{"Host": "maps.example.org:8080"}, "http://maps.example.org:8080"},
		{"a proxy", "127.0.0.1", "", map[string]string{"Host": "cairn:8080", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "example.org", "X-Forwarded-Prefix": "/geo/"}, "https://example.org/geo"},
		{"two proxies", "10.1.2.3", "", map[string]string{"Host": "cairn", "X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "example.org, inner"}, "https://example.org"},
		{"a proxy of RFC 7239", "127.0.0.1", "", map[string]string{"Host": "cairn", "Forwarded": `for=192.0.2.1; Proto=https;host="maps.example.org:8443", for=10.0.0.1;host=inner`}, "https://maps.example.org:8443"},
		{"one that says both", "127.0.0.1", "", map[string]string{"Host": "cairn", "Forwarded": "host=a.example;proto=http", "X-Forwarded-Host": "b.example", "X-Forwarded-Proto": "https"}, "https://b.example"},
		{"a stranger of RFC 7239", "203.0.113.7", "", map[string]string{"Host": "cairn", "Forwarded": "host=evil.example;proto=https"}, "http://cairn"},
		{"a host with a space", "127.0.0.1", "", map[string]string{"Host": "cairn", "Forwarded": `host="a b"`}, "http://cairn"},
		{"a stranger who says so", "203.0.113.7", "", map[string]string{"Host": "cairn", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/x"}, "http://cairn"},
		{"no such scheme", "127.0.0.1", "", map[string]string{"Host": "cairn", "X-Forwarded-Proto": "javascript"}, "http://cairn"},
		{"a host with a quote", "127.0.0.1", "", map[string]string{"Host": "cairn", "X-Forwarded-Host": `a"><b`}, "http://cairn"},
		{"a prefix that is a host", "127.0.0.1", "", map[string]string{"Host": "cairn", "X-Forwarded-Prefix": "//evil.example"}, "http://cairn"},
		{"a prefix of one slash", "127.0.0.1", "", map[string]string{"Host": "cairn", "X-Forwarded-Prefix": "/"}, "http://cairn"},
		{"set", "127.0.0.1", "https://example.org/maps", map[string]string{"Host": "cairn", "X-Forwarded-Prefix": "/x"}, "https://example.org/maps"},
		{"IPv6", "::1", "", map[string]string{"Host": "[::1]:8080"}, "http://[::1]:8080"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := &fasthttp.RequestCtx{}
			ctx.SetRemoteAddr(&net.TCPAddr{IP: net.ParseIP(tt.from), Port: 1})
			for name, value := range tt.header {
				ctx.Request.Header.Set(name, value)
			}
			app := fiber.New()
			c := app.AcquireCtx(ctx)
			defer app.ReleaseCtx(c)
			s := &Server{publicURL: tt.public}
			if scheme, rest, _ := strings.Cut(tt.want, "://"); !strings.HasSuffix(rest, s.Prefix(c)) || strings.Contains(rest, "/") != (s.Prefix(c) != "") {
				t.Errorf("the prefix of %s://%s is %q", scheme, rest, s.Prefix(c))
			}
			if got := s.Base(c); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestParsePublicURL(t *testing.T) {
	for in, want := range map[string]string{"": "", "https://example.org": "https://example.org", "http://example.org:8080/maps/": "http://example.org:8080/maps"} {
		if got, err := ParsePublicURL(in); err != nil || got != want {
			t.Errorf("%s became %s (%v)", in, got, err)
		}
	}
	for _, in := range [...]string{"example.org", "/maps", "ftp://example.org", "https://example.org/?a=1", "https://u:p@example.org"} {
		if _, err := ParsePublicURL(in); err == nil {
			t.Errorf("%s was taken", in)
		}
	}
}
