// Package page is the map page at /: static files in the binary, which use the
// same routes as any client. Its libraries come from npm (package.json) and are
// put into lib by "make page"; a binary that was built without them says so at /.
package page

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"cairn/internal/web"

	"github.com/gofiber/fiber/v2"
	"github.com/klauspost/compress/gzip"
)

//go:embed static lib
var embedded embed.FS

// mapLibrary is there if the binary was built with the libraries.
const mapLibrary = "lib/maplibre-gl-csp.js"

// The pages that / may be.
const (
	mapIndex  = "static/index.html"
	bareIndex = "static/nomap.html"
)

// A Page serves the files.
type Page struct {
	// Whole reports whether there is a map: the binary was built with its libraries.
	Whole bool

	files  map[string]*file // by path from /
	policy string           // Content-Security-Policy of the page
}

type file struct {
	plain, packed []byte
	tag, media    string
}

// mediaTypes are not left to what is installed on the machine.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".json": "application/json",
}

// New prepares the files: each is hashed and compressed once. style is the URL of
// a MapLibre style to draw under the points, or "" for the outline of the world
// that is in the binary.
func New(style string) (*Page, error) { return newPage(embedded, style) }

func newPage(files fs.FS, style string) (*Page, error) {
	p := &Page{files: map[string]*file{}}
	policy, err := policyFor(style)
	if err != nil {
		return nil, err
	}
	p.policy = policy
	index := mapIndex
	if _, err := fs.Stat(files, mapLibrary); err != nil {
		index = bareIndex
	}
	p.Whole = index == mapIndex
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if name == index {
			name = ""
			config, err := json.Marshal(map[string]string{"style": style})
			if err != nil {
				return err
			}
			content = []byte(strings.Replace(string(content), `content="{}"`, `content="`+html.EscapeString(string(config))+`"`, 1))
		}
		p.files["/"+name], err = newFile(name, content)
		return err
	})
	return p, err
}

func newFile(name string, content []byte) (*file, error) {
	extension := path.Ext(name)
	if name == "" {
		extension = ".html"
	}
	media := mediaTypes[extension]
	if media == "" {
		media = mime.TypeByExtension(extension)
	}
	sum := sha256.Sum256(content)
	f := &file{plain: content, media: media, tag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
	var packed strings.Builder
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if packed.Len() < len(content) {
		f.packed = []byte(packed.String())
	}
	return f, nil
}

// policyFor lets the page load from its own server only, and from that of the
// style, whose tiles and fonts may be anywhere over HTTPS.
func policyFor(style string) (string, error) {
	more := ""
	if style != "" {
		u, err := url.Parse(style)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return "", fmt.Errorf("the map style %q must be an http or https URL", style)
		}
		more = " https: " + u.Scheme + "://" + u.Host
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self'; img-src 'self' data: blob:" + more +
		"; connect-src 'self'" + more + "; font-src 'self'" + more + "; base-uri 'none'; form-action 'none'; frame-ancestors 'self'", nil
}

// Index answers with the page: GET / of a browser.
func (p *Page) Index(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentSecurityPolicy, p.policy)
	return p.send(c, "/")
}

// Asset answers with one of the files that the page loads: GET /static/*, GET /lib/*.
func (p *Page) Asset(c *fiber.Ctx) error { return p.send(c, c.Path()) }

func (p *Page) send(c *fiber.Ctx, name string) error {
	f := p.files[name]
	if f == nil {
		return &web.Problem{Status: http.StatusNotFound, Detail: "there is no such file"}
	}
	c.Set(fiber.HeaderCacheControl, "no-cache") // asked for every time, answered by 304
	c.Vary(fiber.HeaderAcceptEncoding)
	c.Set(fiber.HeaderContentType, f.media)
	body, tag := f.plain, f.tag
	if f.packed != nil && strings.Contains(c.Get(fiber.HeaderAcceptEncoding), "gzip") {
		body, tag = f.packed, f.tag[:len(f.tag)-1]+`-gz"`
		c.Set(fiber.HeaderContentEncoding, "gzip")
	}
	c.Set(fiber.HeaderETag, tag)
	if c.Get(fiber.HeaderIfNoneMatch) == tag {
		c.Response().SetStatusCode(http.StatusNotModified)
		return nil
	}
	c.Response().SetBodyRaw(body)
	return nil
}
