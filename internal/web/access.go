package web

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"cairn/internal/auth"
)

// errNoConn refuses what came on no connection of the server's, where the caller is noted.
var errNoConn = errors.New("the request came on no connection of this server")

// guard calls the route's handler for who may use it, and notes who that is.
func (s *Server) guard(r Route) fiber.Handler {
	return func(c *fiber.Ctx) error {
		conn, ok := c.Context().Conn().(*conn)
		if !ok {
			return errNoConn
		}
		err := s.admit(c, r, conn)
		if err == nil {
			err = r.Handler(c)
		}
		if !conn.varies && cacheable(c) {
			varyByAuthorization(&c.Response().Header)
		}
		return err
	}
}

// admit notes who the caller is, or says why they may not use the route.
func (s *Server) admit(c *fiber.Ctx, r Route, conn *conn) error {
	who, err := s.cfg.Access.Identify(tokenOf(conn.authorization), c.Context().Time()) // when it came: no clock is asked again
	if err != nil {
		return unidentified(c, err)
	}
	if err := PermitAs(who, r.Scope); err != nil {
		return err
	}
	if who.Area != nil && !r.Areas {
		return &Problem{Status: http.StatusForbidden, Detail: "this tells of all points, wherever they are: a key that holds for an area may not ask"}
	}
	conn.caller = who
	return nil
}

// cacheable reports whether a cache may keep the answer. Those to PUT and DELETE it may not,
// those to POST and PATCH only if they say for how long and name what they show in
// Content-Location, as none of Cairn's does (RFC 9110, section 9.3; RFC 5789, section 2).
func cacheable(c *fiber.Ctx) bool {
	m := c.Method()
	return m == fiber.MethodGet || m == fiber.MethodHead
}

// varyByAuthorization keeps what one asker was told out of caches that others share (RFC 9111,
// section 5.2.2.7). Without it, a cache may ask again in the name of another, be told
// that nothing has changed since, and hand on what it had: the tag of a point is its
// revision, the caller. A key in the URL leaves no Authorization that would warn it.
func varyByAuthorization(h *fasthttp.ResponseHeader) {
	switch string(h.PeekBytes(fieldCacheControl)) {
	case "":
		h.SetCanonical(fieldCacheControl, noStore)
	case "no-cache":
		h.SetCanonical(fieldCacheControl, privately)
	}
	switch vary := string(h.PeekBytes(fieldVary)); vary {
	case "":
		h.SetCanonical(fieldVary, byAuthorization)
	case fiber.HeaderAcceptEncoding: // what is asked for most
		h.SetCanonical(fieldVary, byCodingAndAuthorization)
	default:
		h.Set(fiber.HeaderVary, vary+", "+fiber.HeaderAuthorization)
	}
}

// Revalidated marks an answer that is asked for again at every use, and differs by the
// client's codings if byCoding. It does what the guard does else to the answer of a
// request that says who asks, once and not twice: for what is asked for most.
func Revalidated(c *fiber.Ctx, byCoding bool) {
	h := &c.Response().Header
	conn, ok := c.Context().Conn().(*conn)
	if ok && conn.caller != nil {
		conn.varies = true
		h.SetCanonical(fieldCacheControl, privately)
		if byCoding {
			h.SetCanonical(fieldVary, byCodingAndAuthorization)
		} else {
			h.SetCanonical(fieldVary, byAuthorization)
		}
		return
	}
	h.SetCanonical(fieldCacheControl, noCache)
	if byCoding {
		h.SetCanonical(fieldVary, byCodingOnly)
	}
}

// As fasthttp keeps them: of text they would be recreated at each request, which is
// much of what asking for a key costs.
var (
	fieldCacheControl        = []byte(fiber.HeaderCacheControl)
	fieldVary                = []byte(fiber.HeaderVary)
	noStore                  = []byte("no-store")
	noCache                  = []byte("no-cache")
	privately                = []byte("private, no-cache")
	byAuthorization          = []byte(fiber.HeaderAuthorization)
	byCodingOnly             = []byte(fiber.HeaderAcceptEncoding)
	byCodingAndAuthorization = []byte(fiber.HeaderAcceptEncoding + ", " + fiber.HeaderAuthorization)
)

// Permit says why the caller may not do what needs the scope, or nil: for
// handlers where the body decides. Where there is no access control, all may.
func Permit(c *fiber.Ctx, scope auth.Scope) error {
	if who := Caller(c); who != nil {
		return PermitAs(who, scope)
	}
	return nil
}

// PermitAs is Permit of a caller who is known already.
func PermitAs(who *auth.Identity, scope auth.Scope) error {
	if who.Scopes.Has(scope) {
		return nil
	}
	return &Problem{Status: http.StatusForbidden, Detail: fmt.Sprintf("this needs the scope %v, which %q does not have", scope, who.Name),
		Members: map[string]any{"scope": scope.String()}}
}

// AuthorOf is the name of the caller; "" where that is not known.
func AuthorOf(c *fiber.Ctx) string {
	if who := Caller(c); who != nil {
		return who.Name
	}
	return ""
}

// Ends says when the caller may not any more: gone is closed when their key was
// removed (nil where that cannot be), and at expires, if it is not zero, it ends on its
// own. What answers for long honours both.
func Ends(c *fiber.Ctx) (gone <-chan struct{}, expires time.Time) {
	if who := Caller(c); who != nil {
		return who.Gone(), who.Expires
	}
	return nil, time.Time{}
}

// Caller is who asks; nil where there is no access control.
func Caller(c *fiber.Ctx) *auth.Identity {
	if conn, ok := c.Context().Conn().(*conn); ok {
		return conn.caller
	}
	return nil
}

// unidentified is 401 with how to be known (RFC 9110, section 11.6.1; RFC 6750,
// section 3), or why that cannot be said now.
func unidentified(c *fiber.Ctx, err error) error {
	switch {
	case errors.Is(err, auth.ErrRate):
		return &Problem{Status: http.StatusTooManyRequests, Detail: err.Error(), RetryAfter: time.Second}
	case errors.Is(err, auth.ErrMissing):
		c.Response().Header.Add(fiber.HeaderWWWAuthenticate, `Bearer realm="cairn"`)
	case errors.Is(err, auth.ErrWrong), errors.Is(err, auth.ErrExpired):
		c.Response().Header.Add(fiber.HeaderWWWAuthenticate, `Bearer realm="cairn", error="invalid_token"`)
	default:
		return fmt.Errorf("%w: %w", Unavailable("the caller cannot be identified now", time.Second), err)
	}
	c.Response().Header.Add(fiber.HeaderWWWAuthenticate, `Basic realm="cairn", charset="UTF-8"`)
	return &Problem{Status: http.StatusUnauthorized, Detail: err.Error()}
}

var (
	bearer = []byte("Bearer ")
	basic  = []byte("Basic ")
)

// tokenOf is the key or token in a field Authorization: as bearer, or as the password of
// any user. Of what cannot send header fields, see takeKey.
func tokenOf(field []byte) []byte {
	switch {
	case hasScheme(field, bearer):
		return bytes.TrimSpace(field[len(bearer):])
	case hasScheme(field, basic):
		pair, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSpace(field[len(basic):]))
		_, password, ok := bytes.Cut(pair, []byte{':'})
		if err != nil || !ok || len(password) == 0 {
			return []byte{0} // something, and nobody's
		}
		return password
	case len(field) > 0:
		return []byte{0}
	}
	return nil
}

func hasScheme(field, scheme []byte) bool {
	return len(field) > len(scheme) && (bytes.HasPrefix(field, scheme) || bytes.EqualFold(field[:len(scheme)], scheme))
}

// takeKey moves the parameter key to where keys belong, unless there is one, so that
// no handler, cache, link or log has it.
func takeKey(c *fasthttp.RequestCtx) {
	uri := c.Request.Header.RequestURI()
	if !bytes.Contains(uri, []byte("key=")) {
		return
	}
	path, query, ok := bytes.Cut(uri, []byte{'?'})
	if !ok {
		return
	}
	rest := append(make([]byte, 0, len(uri)), path...)
	separator, token := byte('?'), ""
	for parameter := range bytes.SplitSeq(query, []byte{'&'}) {
		if value, is := bytes.CutPrefix(parameter, []byte("key=")); is {
			if key, err := url.QueryUnescape(string(value)); err == nil && key != "" {
				token = key
			}
			continue
		}
		rest = append(append(rest, separator), parameter...)
		separator = '&'
	}
	c.Request.SetRequestURIBytes(rest)
	if token != "" && len(c.Request.Header.Peek(fiber.HeaderAuthorization)) == 0 {
		c.Request.Header.Set(fiber.HeaderAuthorization, string(bearer)+token)
	}
}
