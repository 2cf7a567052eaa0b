package web

import (
	"bytes"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"
)

const (
	// readAge and writeAge are how many seconds a browser need not ask again what
	// a page may ask. Who may write can be taken back, so that is asked sooner.
	readAge  = 24 * 60 * 60
	writeAge = 10 * 60
)

// exposed are the fields that a page of another origin may read.
const exposed = "Cairn-Position, ETag, Link, Location, Retry-After, WWW-Authenticate, Age, Allow, Preference-Applied"

// Origins are those whose pages may write. There are none by default: a page that
// writes acts for whoever looks at it.
type Origins []string

// ParseOrigins checks what the user gave: scheme, host and port, or *.
func ParseOrigins(list []string) (Origins, error) {
	for _, o := range list {
		u, err := url.Parse(o)
		if o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != strings.ToLower(o)) {
			return nil, fmt.Errorf("%q is not an origin: give one like https://maps.example.org, or *", o)
		}
	}
	return list, nil
}

func (o Origins) allow(origin string) bool {
	return origin != "" && (slices.Contains(o, "*") || slices.Contains(o, strings.ToLower(origin)))
}

// readOrigins lets pages of any origin read: they send no cookies, so they learn
// nothing that anybody else could not ask for.
func readOrigins(c *fiber.Ctx) error {
	h := &c.Response().Header
	h.SetCanonical(fieldAllowOrigin, anyOrigin)
	h.SetCanonical(fieldExposeHeaders, exposedFields)
	return c.Next()
}

// As fasthttp keeps them: see fieldVary.
var (
	fieldAllowOrigin   = []byte(fiber.HeaderAccessControlAllowOrigin)
	fieldExposeHeaders = []byte(fiber.HeaderAccessControlExposeHeaders)
	anyOrigin          = []byte("*")
	exposedFields      = []byte(exposed)
)

// writeOrigins marks the answers for pages that may write, and refuses what a
// browser sends for other pages without asking first.
func (s *Server) writeOrigins(c *fiber.Ctx) error {
	origin := string(FieldOf(c, Origin))
	switch {
	case s.cfg.Origins.allow(origin):
		c.Set(fiber.HeaderAccessControlAllowOrigin, origin)
		c.Set(fiber.HeaderAccessControlExposeHeaders, exposed)
		c.Vary(fiber.HeaderOrigin)
	case s.isRebound(c, origin):
		return &Problem{
			Status: http.StatusForbidden,
			Detail: "a page may write to this machine only under a name that is known to be this server's: set --public-url to the URL at which clients reach it, or list the page's origin in --allow-origins",
		}
	case s.isForeign(c, origin) && isSimpleRequest(c):
		return &Problem{
			Status: http.StatusForbidden,
			Detail: "a page of another origin may not write: --allow-origins names those whose pages may",
		}
	}
	return c.Next()
}

// isForeign reports whether a browser sends the request for a page of another site.
// Newer ones say so, whatever a proxy has changed on the way, and also where they
// send no Origin, as for an image (Fetch Metadata, section 2.3).
func (s *Server) isForeign(c *fiber.Ctx, origin string) bool {
	switch string(FieldOf(c, FetchSite)) {
	case "same-origin", "none":
		return false
	case "":
	default:
		return true
	}
	return origin != "" && !s.isOwn(c, origin)
}

// isOwn reports whether a page is of this server: a proxy may have changed the
// scheme, but hardly the host.
func (s *Server) isOwn(c *fiber.Ctx, origin string) bool {
	page, err := url.Parse(origin)
	if err != nil || page.Host == "" {
		return false
	}
	own, err := url.Parse(s.Base(c))
	return strings.EqualFold(page.Host, string(c.Request().Host())) || err == nil && strings.EqualFold(page.Host, own.Host)
}

// isRebound reports whether a browser sends the request for a page whose name may have been
// made to mean this machine (DNS rebinding): to the browser it is of this server, whatever
// the owner of the name put on it. It matters where nobody is asked who they are, on
// loopback, which others cannot reach: the names that are this server's are known there.
//
// What a page can set proves nothing, such as X-Forwarded-For. It cannot set Host and
// Origin, nor make this server's certificate valid for its name; so it cannot have an
// origin of HTTPS, either, unless a proxy that speaks it stands between.
func (s *Server) isRebound(c *fiber.Ctx, origin string) bool {
	if s.cfg.Access != nil || !fromBrowser(c, origin) || isEncrypted(c) || len(origin) > 8 && strings.EqualFold(origin[:8], "https://") {
		return false
	}
	if local := addressOf(c.Context().LocalAddr()); !local.IsLoopback() {
		return false
	}
	return !s.isOwnName(hostName(string(c.Request().Host()))) && !s.isBehindProxy(c)
}

// fromBrowser reports whether a page may have sent the request: all that browsers send but
// by GET has an Origin (Fetch, section 3.2). By GET it has none, and to a name that is not
// loopback's no Sec-Fetch-Site by HTTP, so that what such a program calls itself must do.
func fromBrowser(c *fiber.Ctx, origin string) bool {
	if origin != "" || len(FieldOf(c, FetchSite)) > 0 {
		return true
	}
	if c.Method() != http.MethodGet && c.Method() != http.MethodHead {
		return false
	}
	h := &c.Request().Header
	return bytes.HasPrefix(h.UserAgent(), []byte("Mozilla/")) || len(h.Referer()) > 0
}

// isOwnName reports whether a host is this server, whoever answers for names: nobody can
// make an address, or a name below localhost (RFC 6761, section 6.3), mean another.
func (s *Server) isOwnName(host string) bool {
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || host == machineName() || slices.Contains(s.cfg.Origins, "*") {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	for _, known := range append([]string{s.publicURL}, s.cfg.Origins...) {
		if u, err := url.Parse(known); err == nil && u.Host != "" && hostName(u.Host) == host {
			return true
		}
	}
	return false
}

// isBehindProxy reports whether the request came by a proxy on this machine that the
// operator has named. By default all of this machine is trusted, and so a browser.
func (s *Server) isBehindProxy(c *fiber.Ctx) bool {
	return s.cfg.Proxies != nil && s.cfg.Proxies.trust(addressOf(c.Context().RemoteAddr())) &&
		(len(FieldOf(c, ForwardedFor)) > 0 || len(FieldOf(c, Forwarded)) > 0)
}

// machineName is what this machine is called.
var machineName = sync.OnceValue(func() string {
	name, _ := os.Hostname()
	return strings.ToLower(name)
})

// hostName is a host without its port, brackets and final dot, in small letters.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// isSimpleRequest reports whether a browser would send such a request for any page, without
// a preflight (Fetch, section 2.2.2: the CORS-safelisted types of a body).
func isSimpleRequest(c *fiber.Ctx) bool {
	if c.Method() == http.MethodGet || c.Method() == http.MethodHead {
		return true
	}
	if c.Method() != http.MethodPost {
		return false
	}
	field := c.Get(fiber.HeaderContentType)
	switch field {
	case "":
		return true
	case fiber.MIMEApplicationJSON: // nearly all, and to parse it takes long
		return false
	}
	media, _, err := mime.ParseMediaType(field)
	if err != nil { // a browser may be more lenient
		media, _, _ = strings.Cut(field, ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	return media == "text/plain" || media == "multipart/form-data" || media == "application/x-www-form-urlencoded"
}

// preflight answers OPTIONS, which a browser asks first: pages of any origin may
// use the methods that read, those of the allowed ones all.
func (s *Server) preflight(methods *methods) fiber.Handler {
	all, reading := methods.allow(), ""
	if len(methods.reading) > 0 {
		reading = strings.Join(append(methods.reading, http.MethodOptions), ", ")
	}
	return func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderAllow, all)
		if slices.Contains(methods.all, http.MethodPatch) {
			c.Set("Accept-Patch", "application/merge-patch+json") // RFC 5789, section 3.1
		}
		allowed, origin, age := reading, "*", readAge
		if asker := c.Get(fiber.HeaderOrigin); len(methods.reading) < len(methods.all) {
			c.Vary(fiber.HeaderOrigin)
			if s.cfg.Origins.allow(asker) {
				allowed, origin, age = all, strings.Clone(asker), writeAge
			}
		}
		if allowed != "" {
			c.Set(fiber.HeaderAccessControlAllowOrigin, origin)
			c.Set(fiber.HeaderAccessControlExposeHeaders, exposed)
			c.Set(fiber.HeaderAccessControlAllowMethods, allowed)
			c.Set(fiber.HeaderAccessControlAllowHeaders, "*, Authorization") // which * does not mean
			c.Set(fiber.HeaderAccessControlMaxAge, strconv.Itoa(age))
		}
		return c.SendStatus(http.StatusNoContent)
	}
}
