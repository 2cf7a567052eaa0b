package ingest

import (
	"fmt"

	"github.com/gofiber/fiber/v2"

	"cairn/event"
	"cairn/internal/web"
)

const headerIdempotencyKey = "Idempotency-Key"

// idempotencyKey reads the header field of that name; "" where there is none.
// It may come bare, or as a string of RFC 9651, section 3.3.3, as the draft of
// the field has it: both are the same key.
func idempotencyKey(c *fiber.Ctx) (string, error) {
	raw := web.FieldOf(c, web.IdempotencyKey)
	if raw == nil {
		return "", nil
	}
	key, ok := parseKey(raw)
	if !ok {
		return "", web.BadRequest(fmt.Sprintf(
			"the %s must have 1 to %d visible ASCII characters, and may stand in double quotes", headerIdempotencyKey, event.MaxExternalID))
	}
	return key, nil
}

func parseKey(raw []byte) (string, bool) {
	quoted := len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"'
	if quoted {
		raw = raw[1 : len(raw)-1]
	}
	key := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		if quoted {
			if b == '"' {
				return "", false
			}
			if b == '\\' {
				if i++; i == len(raw) || raw[i] != '"' && raw[i] != '\\' {
					return "", false
				}
				b = raw[i]
			}
		}
		if b <= ' ' || b > '~' {
			return "", false
		}
		key = append(key, b)
	}
	return string(key), len(key) >= 1 && len(key) <= event.MaxExternalID
}
