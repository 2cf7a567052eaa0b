package format

import (
	"mime"
	"net/http"
	"strings"

	"cairn/internal/web"
)

// A format is a way to write points.
type Kind int

const (
	OnePoint Kind = iota + 1
	GeoJSON       // RFC 7946, Feature or FeatureCollection
	Lines         // one Feature or point a line
	Sequence      // RFC 8142 and RFC 7464
	Table         // RFC 4180, with a header
)

var formats = map[string]Kind{
	"application/json":         OnePoint,
	"application/geo+json":     GeoJSON,
	"application/x-ndjson":     Lines,
	"application/ndjson":       Lines,
	"application/jsonl":        Lines,
	"application/jsonlines":    Lines,
	"application/geo+json-seq": Sequence,
	"application/json-seq":     Sequence,
	"text/csv":                 Table,
}

// AcceptedTypes is for people and for the Accept field of a 415 (RFC 9110,
// section 15.5.16).
const AcceptedTypes = "application/json, application/geo+json, application/x-ndjson, application/geo+json-seq, text/csv"

// KindOf reads the Content-Type.
func KindOf(contentType string) (Kind, error) {
	if contentType == "application/json" { // nearly always: spare it the parser
		return OnePoint, nil
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
	if f == Table && strings.EqualFold(params["header"], "absent") {
		return 0, web.BadRequest("a CSV needs a header row: send it, and leave header=absent out")
	}
	return f, nil
}

func unsupported(detail string) *web.Problem {
	return &web.Problem{
		Status: http.StatusUnsupportedMediaType, Detail: detail + "; accepted are " + AcceptedTypes,
	}
}
