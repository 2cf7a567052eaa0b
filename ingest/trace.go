package ingest

import (
	"github.com/gofiber/fiber/v2"

	"cairn/internal/web"
)

// maxTrace bounds a traceparent: version 00 has 55 bytes, later ones may have
// more (W3C Trace Context, section 3.2).
const maxTrace = 128

// traceOf is the request's traceparent, which the queue's message carries on;
// "" where there is none, or none that has the form: hex digits and dashes.
func traceOf(c *fiber.Ctx) string {
	raw := web.FieldOf(c, web.Traceparent)
	if len(raw) < 55 || len(raw) > maxTrace {
		return ""
	}
	for _, b := range raw {
		if b != '-' && (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return ""
		}
	}
	return string(raw)
}
