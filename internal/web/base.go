package web

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// ParsePublicURL reads the URL that clients reach this server by, prefix
// included: https://maps.example.org/cairn. It has no slash at its end.
func ParsePublicURL(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("the public URL %q must be like https://maps.example.org or https://example.org/maps", s)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// Base is the URL under which the client sees this server, without a slash at its
// end: what absolute links begin with. It is the public URL where one is set, else
// what the request says, else what the proxies before it say of it, where
// they are trusted.
func (s *Server) Base(c *fiber.Ctx) string {
	if s.publicURL != "" {
		return s.publicURL
	}
	return string(s.appendRequestBase(nil, c))
}

// AppendBase is Base without an allocation, for what many ask.
func (s *Server) AppendBase(dst []byte, c *fiber.Ctx) []byte {
	if s.publicURL != "" {
		return append(dst, s.publicURL...)
	}
	return s.appendRequestBase(dst, c)
}

func (s *Server) appendRequestBase(dst []byte, c *fiber.Ctx) []byte {
	scheme := "http://"
	var prefix []byte
	if isEncrypted(c) {
		scheme = "https://"
	}
	host := c.Request().Header.Host()
	if s.cfg.Proxies.trust(addressOf(c.Context().RemoteAddr())) {
		element := first(FieldOf(c, Forwarded)) // X-Forwarded-* win
		switch proto := either(FieldOf(c, ForwardedProto), pairOf(element, "proto")); string(bytes.ToLower(proto)) {
		case "http":
			scheme = "http://"
		case "https":
			scheme = "https://"
		}
		if h := either(FieldOf(c, ForwardedHost), pairOf(element, "host")); isHost(h) {
			host = h
		}
		prefix = forwardedPrefix(c)
	}
	if !isHost(host) { // HTTP/1.0 has none
		host = []byte(c.Context().LocalAddr().String())
	}
	return append(append(append(dst, scheme...), host...), prefix...)
}

func forwardedPrefix(c *fiber.Ctx) []byte {
	if p := first(FieldOf(c, ForwardedPrefix)); len(p) > 1 && isPrefix(p) {
		return bytes.TrimRight(p, "/")
	}
	return nil
}

// Prefix is the path of Base, "" where it has none: what stands before the path in a
// link that keeps scheme and host.
func (s *Server) Prefix(c *fiber.Ctx) string {
	if s.publicURL != "" {
		_, rest, _ := strings.Cut(s.publicURL, "://")
		if slash := strings.IndexByte(rest, '/'); slash >= 0 {
			return rest[slash:]
		}
		return ""
	}
	prefix := forwardedPrefix(c)
	if prefix == nil || !s.cfg.Proxies.trust(addressOf(c.Context().RemoteAddr())) {
		return ""
	}
	return string(prefix)
}

// either is what a field says, or else an element of Forwarded.
func either(field, element []byte) []byte {
	if one := first(field); len(one) > 0 {
		return one
	}
	return element
}

// first is what the nearest client's proxy said: the first of a list.
func first(field []byte) []byte {
	one, _, _ := bytes.Cut(field, []byte{','})
	return bytes.TrimSpace(one)
}

// isHost reports whether this may stand in a URL as host and port. A link with
// anything else in it would be the client's own to be fooled by, or a page's.
func isHost(b []byte) bool {
	return len(b) > 0 && len(b) <= 255 && onlyOf(b, "-._~:[]%")
}

// isPrefix reports whether this is an absolute path, of characters that need no
// escape.
func isPrefix(b []byte) bool {
	return len(b) <= 255 && b[0] == '/' && !bytes.Contains(b, []byte("//")) && onlyOf(b, "-._~/")
}

func onlyOf(b []byte, more string) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}
