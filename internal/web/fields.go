package web

import (
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// A Field is a header field that is asked for at most requests, and that few of them
// have.
type Field uint8

// What [FieldOf] knows.
const (
	Authorization Field = iota
	AcceptEncoding
	ContentEncoding
	FetchSite
	Forwarded // RFC 7239
	ForwardedFor
	ForwardedHost
	ForwardedPrefix
	ForwardedProto
	IdempotencyKey
	IfNoneMatch
	MinPosition
	Origin
	Prefer
	Traceparent

	otherField // any that is not among them
)

// fieldNames are as the parser writes them.
var fieldNames = [otherField][]byte{
	Authorization:   []byte("Authorization"),
	AcceptEncoding:  []byte("Accept-Encoding"),
	ContentEncoding: []byte("Content-Encoding"),
	FetchSite:       []byte("Sec-Fetch-Site"),
	Forwarded:       []byte("Forwarded"),
	ForwardedFor:    []byte("X-Forwarded-For"),
	ForwardedHost:   []byte("X-Forwarded-Host"),
	ForwardedPrefix: []byte("X-Forwarded-Prefix"),
	ForwardedProto:  []byte("X-Forwarded-Proto"),
	IdempotencyKey:  []byte("Idempotency-Key"),
	IfNoneMatch:     []byte("If-None-Match"),
	MinPosition:     []byte("Cairn-Min-Position"),
	Origin:          []byte("Origin"),
	Prefer:          []byte("Prefer"),
	Traceparent:     []byte("Traceparent"),
}

// fieldNamed is the inverse of fieldNames. The compiler finds the name by its length
// first: a map takes several times as long.
func fieldNamed(name []byte) Field {
	switch string(name) {
	case "Authorization":
		return Authorization
	case "Accept-Encoding":
		return AcceptEncoding
	case "Content-Encoding":
		return ContentEncoding
	case "Sec-Fetch-Site":
		return FetchSite
	case "Forwarded":
		return Forwarded
	case "X-Forwarded-For":
		return ForwardedFor
	case "X-Forwarded-Host":
		return ForwardedHost
	case "X-Forwarded-Prefix":
		return ForwardedPrefix
	case "X-Forwarded-Proto":
		return ForwardedProto
	case "Idempotency-Key":
		return IdempotencyKey
	case "If-None-Match":
		return IfNoneMatch
	case "Cairn-Min-Position":
		return MinPosition
	case "Origin":
		return Origin
	case "Prefer":
		return Prefer
	case "Traceparent":
		return Traceparent
	}
	return otherField
}

// noteFields notes which fields the request has, and what it says of who asks. To ask the parser for one that it does
// not have costs as much as for one that it has: a copy of the name, and all fields are
// looked through, which are out of the processor's cache once the request has waited
// for the disk.
func (c *conn) noteFields(h *fasthttp.RequestHeader) {
	var has uint32
	var authorization []byte
	h.VisitAll(func(name, value []byte) {
		f := fieldNamed(name)
		has |= 1 << f
		if f == Authorization {
			authorization = value
		}
	})
	c.fields, c.authorization = has, authorization
}

func (c *conn) has(f Field) bool { return c.fields&(1<<f) != 0 }

// FieldOf is the value of the request's field: of the first one, where there are
// several; nil where there is none. What a handler adds to the request is not seen.
func FieldOf(c *fiber.Ctx, f Field) []byte {
	if conn, ok := c.Context().Conn().(*conn); ok && !conn.has(f) {
		return nil
	}
	return c.Request().Header.PeekBytes(fieldNames[f])
}

// fieldsOf are the values of the request's field, one for each of its lines.
func fieldsOf(c *fiber.Ctx, f Field) [][]byte {
	if conn, ok := c.Context().Conn().(*conn); ok && !conn.has(f) {
		return nil
	}
	return c.Request().Header.PeekAll(string(fieldNames[f]))
}
