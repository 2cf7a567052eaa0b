package cli

import (
	"encoding/json"
	"strings"

	"cairn/query/ogc"
)

// openapiCmd is for generators of clients and of documents: GET /api of a server, of
// which none has to run.
type openapiCmd struct {
	URL string `default:"http://127.0.0.1:8080" env:"CAIRN_URL" placeholder:"URL" help:"Server address to put into the definition (${default})."`
}

func (c *openapiCmd) Run(s *session) error {
	described, err := ogc.Described()
	if err != nil {
		return err
	}
	var operations []ogc.Operation
	for _, d := range described {
		method, path, _ := strings.Cut(d, " ")
		operations = append(operations, ogc.Operation{Method: method, Path: path})
	}
	definition, err := ogc.Site{Base: c.URL}.OpenAPI(s.build.Version, operations, nil)
	if err != nil {
		return err
	}
	out := json.NewEncoder(s.stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(definition)
}
