package query

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"cairn/internal/auth"
	"cairn/internal/web"
	"cairn/query/ogc"
)

// siteRoutes are what OGC API Features has beside the items.
func (s *service) siteRoutes() (out []web.Route) {
	// To whoever holds a key for an area, too: none of these tells of any point but
	// what their view has.
	get := func(path, media string, document func(ogc.Site, string, view) map[string]any) {
		out = append(out, web.Route{Method: http.MethodGet, Path: path, Scope: auth.Read, Areas: true, Handler: s.document(path, media, document)})
	}
	plain := func(document func(ogc.Site, string) map[string]any) func(ogc.Site, string, view) map[string]any {
		return func(site ogc.Site, sent string, _ view) map[string]any { return document(site, sent) }
	}
	get("/", ogc.JSON, plain(ogc.Site.Landing))
	get("/conformance", ogc.JSON, plain(ogc.Site.Conformance))
	get("/collections", ogc.JSON, plain(ogc.Site.List))
	for _, c := range ogc.Collections {
		out = append(out, s.itemRoutes(c)...)
		get(c.Path(), ogc.JSON, func(site ogc.Site, sent string, _ view) map[string]any { return site.Describe(c, sent) })
		out = append(out, web.Route{Method: http.MethodGet, Path: c.Path() + "/schema", Scope: auth.Read, Areas: true, Handler: s.getSchema(c)})
		get(c.Path()+"/queryables", ogc.SchemaJSON, func(site ogc.Site, _ string, v view) map[string]any { return site.Queryables(c, s.seen(v)) })
		get(c.Path()+"/sortables", ogc.SchemaJSON, func(site ogc.Site, _ string, _ view) map[string]any { return site.Sortables(c) })
	}
	return append(out, web.Route{Method: http.MethodGet, Path: "/api", Scope: auth.Read, Areas: true, Handler: s.getAPI})
}

func (s *service) site(c *fiber.Ctx) ogc.Site {
	return ogc.Site{Base: s.server.Base(c), Writable: s.writable}
}

// form is the media type that a client wants: by the parameter f, else by Accept.
func form(c *fiber.Ctx, media string) (string, error) {
	c.Vary(fiber.HeaderAccept)
	switch f := c.Query("f"); f {
	case "":
		if c.Context().QueryArgs().Has("f") {
			return "", badParameter("f", "f: it is empty; the forms are json and html")
		}
		return ogc.Prefers(c.Get(fiber.HeaderAccept), media, ogc.HTML), nil
	case "json":
		return media, nil
	case "html":
		return ogc.HTML, nil
	default:
		return "", badParameter("f", "f: there is no form %q, only json and html", f)
	}
}

// document answers with one of the documents that do not depend on the points.
func (s *service) document(path, media string, document func(ogc.Site, string, view) map[string]any) fiber.Handler {
	return func(c *fiber.Ctx) error {
		sent, err := form(c, media)
		if err != nil {
			return err
		}
		if sent == ogc.HTML && path == "/" { // the map, whose state is in its parameters
			return s.mapPage.Index(c)
		}
		if err := onlyForm(c); err != nil {
			return err
		}
		site := s.site(c)
		d := document(site, sent, viewOf(c))
		if sent == ogc.HTML {
			return sendView(c, site.ViewDocument(path, d))
		}
		return sendDocument(c, media, d)
	}
}

// GET /collections/{collection}/schema: what an item has; with f=geojson as the JSON
// Schema of a GeoJSON Feature.
func (s *service) getSchema(collection *ogc.Collection) fiber.Handler {
	logical := s.document(collection.Path()+"/schema", ogc.SchemaJSON, func(site ogc.Site, _ string, v view) map[string]any { return site.Schema(collection, s.seen(v)) })
	return func(c *fiber.Ctx) error {
		if c.Query("f") != "geojson" {
			return logical(c)
		}
		if err := onlyForm(c); err != nil {
			return err
		}
		return sendDocument(c, ogc.SchemaJSON, s.site(c).FeatureSchema(collection, s.seen(viewOf(c))))
	}
}

// GET /api: the definition of what this server answers, of all its roles.
func (s *service) getAPI(c *fiber.Ctx) error {
	if err := onlyForm(c); err != nil {
		return err
	}
	sent, err := form(c, ogc.OpenAPIJSON)
	if err != nil {
		return err
	}
	site := s.site(c)
	var served []ogc.Operation
	for _, o := range s.server.Operations() {
		served = append(served, ogc.Operation(o))
	}
	d, err := site.OpenAPI(s.server.Version(), served, s.seen(viewOf(c)))
	if err != nil {
		return err
	}
	if sent == ogc.HTML {
		return sendView(c, site.ViewAPI(d))
	}
	return sendDocument(c, ogc.OpenAPIJSON, d)
}

// onlyForm refuses every parameter but f.
func onlyForm(c *fiber.Ctx) error {
	return eachParameter(string(c.Request().URI().QueryString()), []string{"f"}, func(string, string) error { return nil })
}

func sendDocument(c *fiber.Ctx, media string, d map[string]any) error {
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("write %s: %w", media, err)
	}
	c.Set(fiber.HeaderContentType, media)
	return sendSmall(c, body)
}

func sendView(c *fiber.Ctx, v *ogc.View) error {
	body, err := v.Render()
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "text/html; charset=utf-8")
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'")
	return sendSmall(c, body)
}

func sendSmall(c *fiber.Ctx, body []byte) error {
	c.Set(fiber.HeaderCacheControl, "no-cache")
	c.Response().SetStatusCode(http.StatusOK)
	c.Response().SetBody(body)
	return nil
}
