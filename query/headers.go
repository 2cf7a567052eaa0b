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
)

// setPosition says what the answer is true for.
func setPosition(c *fiber.Ctx, sequence uint64) {
	c.Response().Header.Set(headerPosition, positionText(sequence))
}

func positionText(sequence uint64) string {
	return strconv.FormatInt(int64(event.EndOf(sequence)), 10)
}
