package format

import (
	"bufio"
	"errors"
	"io"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
	"cairn/internal/web"
)

// lists are the members of a JSON object that hold rows, and what they are: the
// features of a FeatureCollection (RFC 7946, section 3.3), the locations of
// Overland and of Google's older exports, and the parts of a Google Timeline.
var lists = map[string]bool{ // whether their elements are of a Timeline
	"features": false, "locations": false,
	"timelineObjects": true, "semanticSegments": true, "rawSignals": true,
}

// A collection reads JSON with many points as it comes: a row is a Feature, or a
// point. Whatever is well-formed JSON can be skipped; what is not ends the body.
type collection struct {
	json     *jsontext.Decoder
	in       *budget
	decoder  *ObjectDecoder
	options  *Options
	number   int64
	kind     string // the type, once it was seen
	any      bool   // it need not be GeoJSON
	inside   bool   // a list of rows
	timeline bool   // which is of a Timeline
	array    bool   // the body is a list itself
	had      string // the list that was read
	ended    bool
	text     jsontext.Value // that Next was about
	queue    timeline       // what an element of several points has left
	exploder *exploder      // nil: a MultiPoint is refused

	// single is the whole body where that is one object.
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

// openJSON reads up to the first row, or all of a single one.
func openJSON(r *bufio.Reader, o Options, k Kind) (Rows, error) {
	c := &collection{record: &recorder{r: r, on: true}, decoder: NewObjectDecoder(&o), options: &o, any: k == JSON}
	c.in = &budget{r: c.record}
	if o.explode {
		c.exploder = &exploder{decoder: c.decoder}
	}
	c.in.refill()
	// Each row is read once more, by those who mind the names and the UTF-8, so
	// that what is wrong with one rejects that one.
	c.json = jsontext.NewDecoder(c.in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	switch kind := c.json.PeekKind(); {
	case kind == '{', kind == '[' && c.any:
	case kind == jsontext.KindInvalid:
		_, err := c.json.ReadToken()
		if err == io.EOF {
			return nil, web.BadRequest("the body has no points")
		}
		return nil, c.syntax(err)
	default:
		return nil, web.BadRequest("the body must be a GeoJSON Feature or FeatureCollection")
	}
	first, err := c.json.ReadToken()
	if err != nil {
		return nil, c.syntax(err)
	}
	if first.Kind() == '[' {
		c.enter("")
		c.array = true
		return c, nil
	}
	if err := c.members(); err != nil && err != io.EOF {
		return nil, err
	}
	if c.had != "" {
		return c, nil
	}
	if c.kind == "FeatureCollection" {
		return nil, web.BadRequest("the FeatureCollection has no features")
	}
	limit := MaxRowBytes
	if c.any {
		limit = MaxPointBytes
	}
	if !c.record.on || len(c.record.kept) > limit {
		return nil, TooLarge(limit)
	}
	c.single = c.record.kept
	return c, nil
}

// Single is the whole body, where that is one object and not many rows.
func Single(r Rows) (raw []byte, ok bool) {
	c, ok := r.(*collection)
	if !ok || c.single == nil || c.exploder != nil {
		return nil, false
	}
	return c.single, true
}

func (c *collection) Row() int64 { return c.number }

func (c *collection) Next(p *event.Point) error {
	for {
		if c.single != nil { // one that is a file's among many
			raw := c.single
			c.single = nil
			c.number++
			return c.decode(raw, p)
		}
		if c.exploder != nil && len(c.exploder.pending) > 0 {
			c.number++
			return c.explode(nil, p)
		}
		if c.queue.more() {
			c.number++
			return c.queue.next(c.options, c.number, p)
		}
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
			if c.array {
				if err := c.end(); err != nil {
					return err
				}
			}
			continue
		}
		raw, err := c.element()
		if err != nil {
			return err
		}
		if c.timeline || c.any && isTimeline(raw) {
			if err := c.queue.open(raw); err != nil {
				c.number++
				c.text = raw
				return err
			}
			continue
		}
		c.number++
		return c.decode(raw, p)
	}
}

// element reads one of a list.
func (c *collection) element() (jsontext.Value, error) {
	c.text = nil
	raw, err := c.json.ReadValue()
	switch {
	case errors.Is(err, ErrRowSize):
		c.number++
		if err := c.skip(); err != nil {
			return nil, err
		}
		return nil, ErrRowSize
	case err != nil:
		c.number++
		return nil, c.syntax(err)
	case len(raw) > MaxRowBytes:
		c.number++
		return nil, ErrRowSize
	}
	return raw, nil
}

func (c *collection) decode(raw jsontext.Value, p *event.Point) error {
	c.text = raw
	if c.exploder != nil {
		return c.explode(raw, p)
	}
	c.decoder.at(c.number)
	if !c.any {
		return c.decoder.feature.Decode(raw, p)
	}
	return c.decoder.Decode(raw, p)
}

// explode reads raw, or what is left of a MultiPoint.
func (c *collection) explode(raw jsontext.Value, p *event.Point) error {
	c.exploder.number = c.number - 1 // which it counts up
	if raw == nil {
		return c.exploder.next(p)
	}
	return c.exploder.one(raw, p)
}

// members reads the object's own members up to a list of rows, or to the end of
// the body: then it returns io.EOF.
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
		name := t.String()
		_, isList := lists[name]
		switch {
		case name == "type":
			err = c.readKind()
		case name == "crs", name == "coordRefSys":
			err = c.readCRS(name)
		case c.any && c.had == "" && foreignJSON[`"`+name+`"`] != "":
			return problemAt("/"+name, foreignJSON[`"`+name+`"`])
		case name == "features" && c.kind != "Feature", isList && c.any && c.kind == "" && c.json.PeekKind() == '[':
			return c.begin(name)
		default:
			err = c.skip()
		}
		if err != nil {
			return err
		}
	}
}

// begin enters a list.
func (c *collection) begin(name string) error {
	c.in.refill()
	switch {
	case c.had == name:
		return problemAt("/"+name, "the collection has "+name+" twice")
	case c.json.PeekKind() != '[':
		if err := c.skip(); err != nil {
			return err
		}
		return problemAt("/"+name, "the "+name+" must be an array")
	}
	if _, err := c.json.ReadToken(); err != nil {
		return c.syntax(err)
	}
	c.enter(name)
	return nil
}

func (c *collection) enter(name string) {
	c.had, c.inside, c.timeline = name, true, lists[name]
	c.record.kept, c.record.on = nil, false
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
	case c.had == "features" && c.kind != "FeatureCollection":
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
		if what := foreignJSON[string(raw)]; what != "" && c.any {
			return problemAt("/type", what)
		}
	}
	if c.any && c.had == "" || c.kind == "Feature" && c.had == "" || c.kind == "FeatureCollection" {
		return nil
	}
	return problemAt("/type", "the type is "+Clip(string(raw))+"; it must be \"Feature\" or \"FeatureCollection\"")
}

// readCRS refuses positions in another system than that of RFC 7946, section 4:
// they would be taken for degrees.
func (c *collection) readCRS(name string) error {
	c.in.refill()
	raw, err := c.json.ReadValue()
	if err != nil {
		return c.syntax(err)
	}
	if event.IsCRS84(raw) {
		return nil
	}
	if c.number > 0 {
		return problemAt("/"+name, event.NotCRS84+". It stands behind the features, and was seen when they had been taken for that: those accepted are wrong; delete them")
	}
	return problemAt("/"+name, event.NotCRS84)
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
