package ingest

import (
	"mime"
	"net/http"
	"strings"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/web"
)

// A format is a way to write points.
type format int

const (
	onePoint     format = iota + 1
	geoJSON             // RFC 7946, Feature or FeatureCollection
	jsonLines           // one Feature or point a line
	jsonSequence        // RFC 8142 and RFC 7464
	csvTable            // RFC 4180, with a header
)

var formats = map[string]format{
	"application/json":         onePoint,
	"application/geo+json":     geoJSON,
	"application/x-ndjson":     jsonLines,
	"application/ndjson":       jsonLines,
	"application/jsonl":        jsonLines,
	"application/jsonlines":    jsonLines,
	"application/geo+json-seq": jsonSequence,
	"application/json-seq":     jsonSequence,
	"text/csv":                 csvTable,
}

// acceptedTypes is for people and for the Accept field of a 415 (RFC 9110,
// section 15.5.16).
const acceptedTypes = "application/json, application/geo+json, application/x-ndjson, application/geo+json-seq, text/csv"

// formatOf reads the Content-Type.
func formatOf(contentType string) (format, error) {
	if contentType == "application/json" { // nearly always: spare it the parser
		return onePoint, nil
	}
	if contentType == "" {
		return 0, unsupported("the request has no Content-Type")
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, web.BadRequest("the Content-Type cannot be read: " + err.Error())
	}
	f, ok := formats[media]
	switch {
	case media == "application/x-www-form-urlencoded":
		return 0, unsupported("the Content-Type is " + media + ", which curl -d sends by itself: add -H 'Content-Type: application/json'")
	case !ok:
		return 0, unsupported("the Content-Type " + clip(media) + " is not one that is taken here")
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return 0, unsupported("the charset " + clip(charset) + " is not taken: send UTF-8")
	}
	if f == csvTable && strings.EqualFold(params["header"], "absent") {
		return 0, web.BadRequest("a CSV needs a header row: send it, and leave header=absent out")
	}
	return f, nil
}

func unsupported(detail string) *web.Problem {
	return &web.Problem{
		Status: http.StatusUnsupportedMediaType, Detail: detail + "; accepted are " + acceptedTypes,
	}
}

func refuseFormat(c *fiber.Ctx, err error) error {
	c.Set(fiber.HeaderAccept, acceptedTypes)
	return err
}
