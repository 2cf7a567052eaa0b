package format

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
	"cairn/internal/web"
)

// A collection reads a GeoJSON FeatureCollection (RFC 7946, section 3.3) as it
// comes: a row is a Feature. Whatever is well-formed JSON can be skipped; what
// is not ends the body.
type collection struct {
	json    *jsontext.Decoder
	in      *budget
	decoder FeatureDecoder
	number  int64
	kind    string // the type, once it was seen
	inside  bool   // the array of features
	had     bool   // that array
	ended   bool

	// single is the whole body where that is one Feature.
	single []byte
	record *recorder
}

// A recorder keeps what passes, until it is too much for one Feature.
type recorder struct {
	r    io.Reader
	kept []byte
	on   bool
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if r.on {
		r.kept = append(r.kept, p[:n]...)
		if len(r.kept) > MaxRowBytes+ReadBuffer {
			r.kept, r.on = nil, false
		}
	}
	return n, err
}

// openCollection reads up to the first feature, or all of a single one.
func openCollection(r *bufio.Reader) (Rows, error) {
	c := &collection{record: &recorder{r: r, on: true}}
	c.in = &budget{r: c.record}
	c.in.refill()
	// Each Feature is read once more, by those who mind the names and the
	// UTF-8, so that what is wrong with one rejects that one.
	c.json = jsontext.NewDecoder(c.in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	switch c.json.PeekKind() {
	case '{':
	case jsontext.KindInvalid:
		_, err := c.json.ReadToken()
		if err == io.EOF {
			return nil, web.BadRequest("the body has no points")
		}
		return nil, c.syntax(err)
	default:
		return nil, web.BadRequest("the body must be a GeoJSON Feature or FeatureCollection")
	}
	if _, err := c.json.ReadToken(); err != nil {
		return nil, c.syntax(err)
	}
	if err := c.members(); err != nil && err != io.EOF {
		return nil, err
	}
	if c.had {
		return c, nil
	}
	if c.kind == "FeatureCollection" {
		return nil, web.BadRequest("the FeatureCollection has no features")
	}
	if !c.record.on || len(c.record.kept) > MaxRowBytes {
		return nil, TooLarge(MaxRowBytes)
	}
	c.single = c.record.kept
	return c, nil
}

// Single is the whole body, where that is one Feature and not many rows.
func Single(r Rows) (raw []byte, ok bool) {
	c, ok := r.(*collection)
	if !ok || c.single == nil {
		return nil, false
	}
	return c.single, true
}

func (c *collection) Row() int64 { return c.number }

func (c *collection) Next(p *event.Point) error {
	for {
		if c.ended {
			return io.EOF
		}
		if !c.inside {
			if err := c.members(); err != nil {
				return err
			}
			continue
		}
		c.in.refill()
		if c.json.PeekKind() == ']' {
			if _, err := c.json.ReadToken(); err != nil {
				return c.syntax(err)
			}
			c.inside = false
			continue
		}
		c.number++
		raw, err := c.json.ReadValue()
		switch {
		case errors.Is(err, ErrRowSize):
			if err := c.skip(); err != nil {
				return err
			}
			return ErrRowSize
		case err != nil:
			return c.syntax(err)
		case len(raw) > MaxRowBytes:
			return ErrRowSize
		}
		return c.decoder.Decode(raw, p)
	}
}

// members reads the collection's own members up to its features, or to the end
// of the body: then it returns io.EOF.
func (c *collection) members() error {
	for {
		c.in.refill()
		t, err := c.json.ReadToken()
		if err != nil {
			return c.syntax(err)
		}
		if t.Kind() == '}' {
			return c.end()
		}
		switch t.String() {
		case "type":
			err = c.readKind()
		case "crs":
			err = c.readCRS()
		case "features":
			if c.kind == "Feature" {
				err = c.skip()
				break
			}
			return c.begin()
		default:
			err = c.skip()
		}
		if err != nil {
			return err
		}
	}
}

// begin enters the array of features.
func (c *collection) begin() error {
	c.in.refill()
	switch {
	case c.had:
		return problemAt("/features", "the collection has features twice")
	case c.json.PeekKind() != '[':
		if err := c.skip(); err != nil {
			return err
		}
		return problemAt("/features", "the features must be an array")
	}
	if _, err := c.json.ReadToken(); err != nil {
		return c.syntax(err)
	}
	c.had, c.inside = true, true
	c.record.kept, c.record.on = nil, false
	return nil
}

// end checks what only the whole body shows.
func (c *collection) end() error {
	c.ended = true
	c.in.refill()
	switch _, err := c.json.ReadToken(); {
	case err == nil:
		return problemAt("", "something follows the GeoJSON object: to send many, use Content-Type: application/x-ndjson")
	case err != io.EOF:
		return c.syntax(err)
	case c.had && c.kind != "FeatureCollection":
		return problemAt("", `it has no "type": "FeatureCollection"`)
	}
	return io.EOF
}

func (c *collection) readKind() error {
	c.in.refill()
	raw, err := c.json.ReadValue()
	if err != nil {
		return c.syntax(err)
	}
	if raw.Kind() == '"' {
		text, _ := jsontext.AppendUnquote(nil, raw) // what is wrong with it differs from both
		c.kind = string(text)
	}
	if c.kind == "Feature" && !c.had || c.kind == "FeatureCollection" {
		return nil
	}
	return problemAt("/type", "the type is "+clip(string(raw))+"; it must be \"Feature\" or \"FeatureCollection\"")
}

// readCRS refuses positions in another system than that of RFC 7946, section 4:
// they would be taken for degrees. The member is of the older GeoJSON, of 2008.
func (c *collection) readCRS() error {
	c.in.refill()
	raw, err := c.json.ReadValue()
	if err != nil {
		return c.syntax(err)
	}
	text := strings.ToUpper(string(raw))
	if raw.Kind() == 'n' || strings.Contains(text, "CRS84") || strings.Contains(text, `EPSG::4326"`) || strings.Contains(text, `EPSG:4326"`) {
		return nil
	}
	return problemAt("/crs", "positions must be in WGS 84 degrees, longitude first (CRS84): convert them, and leave crs out")
}

// skip passes over a value of any length, in little memory.
func (c *collection) skip() error {
	depth := c.json.StackDepth()
	for {
		c.in.refill()
		if _, err := c.json.ReadToken(); err != nil {
			return c.syntax(err)
		}
		if c.json.StackDepth() <= depth {
			return nil
		}
	}
}

// syntax says why the body cannot be read on.
func (c *collection) syntax(err error) error {
	if errors.Is(err, ErrRowSize) {
		return &web.Problem{Status: http.StatusRequestEntityTooLarge, Detail: "a single string or number in it is too large"}
	}
	var f *event.FieldError
	if errors.As(event.AsFieldError(err), &f) {
		if c.number > 0 && c.inside {
			return atRow(c.number, f.Reason, f.Pointer)
		}
		return problemAt(f.Pointer, f.Reason)
	}
	return err
}

func problemAt(pointer, reason string) *web.Problem {
	p := web.BadRequest(ClipReason(reason))
	p.Pointer = ClipPointer(pointer)
	return p
}
