package query

import (
	"strconv"

	"cairn/event"

	"github.com/gofiber/fiber/v2"
)

const (
	headerPosition    = "Cairn-Position"
	headerMinPosition = "Cairn-Min-Position"

	mediaGeoJSON = "application/geo+json" // RFC 7946, section 12

	// preflightSeconds is how long a browser may keep what OPTIONS said: a
	// day, the most that any browser honours.
	preflightSeconds = 24 * 60 * 60
)

// exposed are the header fields that a page of another origin may read, beside
// those it always may.
const exposed = "Link, Location, ETag, Age, " + headerPosition + ", Retry-After"

// cors lets pages of any origin read the answers, errors among them: maps live
// elsewhere than data, and nothing here depends on who asks.
func cors(c *fiber.Ctx) error {
	c.Set(fiber.HeaderAccessControlAllowOrigin, "*")
	c.Set(fiber.HeaderAccessControlExposeHeaders, exposed)
	return c.Next()
}

// OPTIONS /points, /points/{id}: the question a browser asks first.
func preflight(c *fiber.Ctx) error {
	c.Set(fiber.HeaderAllow, "GET, HEAD, OPTIONS")
	c.Set(fiber.HeaderAccessControlAllowMethods, "GET, HEAD, OPTIONS")
	c.Set(fiber.HeaderAccessControlAllowHeaders, "*")
	c.Set(fiber.HeaderAccessControlMaxAge, strconv.Itoa(preflightSeconds))
	return c.SendStatus(fiber.StatusNoContent)
}

// setPosition says what the answer is true for.
func setPosition(c *fiber.Ctx, sequence uint64) {
	c.Response().Header.Set(headerPosition, positionText(sequence))
}

func positionText(sequence uint64) string {
	return strconv.FormatInt(int64(event.EndOf(sequence)), 10)
}
