package format

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"

	"cairn/event"
	"cairn/internal/web"
)

const (
	// maxXMLDepth bounds how deep elements nest: GPX and KML need a dozen levels.
	maxXMLDepth = 64
	// maxTrack bounds the points of one KML track, which are only known when all
	// of it was read: a week at one a second is 600,000, and 32 MiB.
	maxTrack = 600_000
)

// A foundPoint is one as another format has it.
type foundPoint struct {
	position   []float64 // longitude, latitude, perhaps altitude
	text       []string  // the same as it was written; nil where there was none
	time       string
	properties map[string]any
	err        error // why it is no point
}

// An xmlReader reads GPX or KML as it comes: a row is a point.
type xmlReader struct {
	xml     *xml.Decoder
	in      *budget
	options *Options
	kind    Kind
	number  int64
	depth   int
	compact compactor

	track    string // GPX: the name of the track or route that is open
	trackErr error  // GPX: why its points are refused
	segment  int
	last     foundPoint   // that Next was about
	pending  []foundPoint // KML: what the last Placemark has left
}

// openXML begins to read. The encoding is the one that the document declares;
// entities of its own are an error, so that none can be expanded.
func openXML(r *bufio.Reader, k Kind, o Options) (Rows, error) {
	x := &xmlReader{in: &budget{r: r}, options: &o, kind: k}
	x.in.refill()
	if bom, _ := r.Peek(2); len(bom) == 2 && (bom[0] == 0xff || bom[0] == 0xfe) {
		x.in.r = inUTF8(r, &o)
	}
	x.xml = xml.NewDecoder(x.in)
	x.xml.CharsetReader = func(name string, r io.Reader) (io.Reader, error) {
		if isASCII(name) {
			return r, nil
		}
		e, err := htmlindex.Get(name)
		if err != nil {
			return nil, errors.New("the encoding " + Quote(name) + " is not known")
		}
		if strings.HasPrefix(strings.ToLower(name), "utf-16") { // its byte order mark was seen to
			return r, nil
		}
		return strictly(r, e, name), nil
	}
	want := map[Kind]string{GPX: "gpx", KML: "kml"}[k]
	for {
		t, err := x.token()
		if err == io.EOF {
			return nil, web.BadRequest("there is no element " + want + " in it, so it has no points")
		}
		if err != nil {
			return nil, err
		}
		if start, ok := t.(xml.StartElement); ok {
			if start.Name.Local != want {
				return nil, web.BadRequest(fmt.Sprintf("the root element is %s, but it must be %s", Quote(start.Name.Local), want))
			}
			return x, nil
		}
	}
}

func (x *xmlReader) Row() int64 { return x.number }

// token reads on. Its errors but io.EOF are problems.
func (x *xmlReader) token() (xml.Token, error) {
	x.in.refill()
	t, err := x.xml.Token()
	var syntax *xml.SyntaxError
	switch {
	case err == io.EOF:
		return nil, err
	case errors.Is(err, ErrRowSize):
		return nil, &web.Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("a single text or element in it is larger than %d bytes", MaxRowBytes)}
	case errors.As(err, &syntax):
		return nil, problemAt("", fmt.Sprintf("not XML: %s, in line %d of the body", syntax.Msg, syntax.Line))
	case err != nil:
		var problem *web.Problem
		if errors.As(err, &problem) {
			return nil, problem
		}
		return nil, problemAt("", "the XML cannot be read: "+err.Error())
	}
	switch t.(type) {
	case xml.StartElement:
		if x.depth++; x.depth > maxXMLDepth {
			return nil, problemAt("", fmt.Sprintf("the XML nests deeper than %d levels", maxXMLDepth))
		}
	case xml.EndElement:
		x.depth--
	}
	return t, nil
}

// text reads what is left of an element: its text, without that of its children.
func (x *xmlReader) text() (string, error) {
	var b strings.Builder
	for depth := 1; depth > 0; {
		t, err := x.token()
		if err != nil {
			return "", x.cut(err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 1 && b.Len()+len(t) <= MaxRowBytes {
				b.Write(t)
			}
		}
	}
	return strings.TrimSpace(b.String()), nil
}

// cut says of an end of the body within an element that it is one.
func (x *xmlReader) cut(err error) error {
	if err == io.EOF {
		return problemAt("", "not XML: it ends too early")
	}
	return err
}

// attribute is one of an element's, "" where it has none.
func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func (x *xmlReader) Next(p *event.Point) error {
	for {
		if len(x.pending) > 0 {
			found := x.pending[0]
			x.pending, x.last = x.pending[1:], found
			return x.point(&found, p)
		}
		t, err := x.token()
		if err != nil {
			return err
		}
		start, ok := t.(xml.StartElement)
		if !ok {
			continue
		}
		if x.kind == KML {
			if start.Name.Local == "Placemark" {
				err = x.placemark()
			}
		} else {
			err = x.gpx(start)
		}
		if err != nil {
			return err
		}
	}
}

// point makes a point of what was read.
func (x *xmlReader) point(found *foundPoint, p *event.Point) error {
	x.number++
	*p = event.Point{Altitude: math.NaN()}
	if found.err == nil {
		found.err = setPosition(p, found.position)
	}
	if found.err != nil {
		return &event.FieldError{Reason: ClipReason(found.err.Error())}
	}
	field, own := "time", found.time != ""
	if named := x.options.columns[timeRole]; named != "" || !own {
		name, text := x.timeAmong(found.properties)
		switch {
		case text == "" && named != "":
			if err := x.options.notThere(x.number, named); err != nil {
				return err
			}
		case text != "" && own:
			found.properties = maps.Clone(found.properties) // a track's points share them
			found.properties["time"] = found.time
			fallthrough
		case text != "":
			field, found.time, own = name, text, false
		}
	}
	if found.time != "" {
		if err := x.options.observe(p, x.number, field, found.time); err != nil {
			return err
		}
		if p.Time.IsZero() && own {
			found.properties = maps.Clone(found.properties) // a track's points share them
			found.properties["time"] = found.time
		}
	}
	if name, _ := found.properties["name"].(string); utf8.RuneCountInString(name) > event.MaxNameRunes {
		if err := x.options.tooLong(x.number, "name"); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(found.properties)
	if err != nil {
		return err
	}
	if len(raw) > MaxRowBytes {
		return ErrRowSize
	}
	p.Properties = raw
	return x.compact.point(p)
}

// timeAmong is the property that has the time, as in every format.
func (x *xmlReader) timeAmong(properties map[string]any) (field, text string) {
	best := len(timeNames) + 1
	for name, value := range properties {
		rank := timeRank([]byte(name))
		if x.options.columns[timeRole] != "" {
			rank = 0
			if name == x.options.columns[timeRole] {
				rank = 1
			}
		}
		if rank > 0 && (rank < best || rank == best && name < field) {
			best, field, text = rank, name, fmt.Sprint(value)
		}
	}
	return field, text
}

// maxSameNames bounds how many properties of one name a point has.
const maxSameNames = 100

// setProperty adds one. Where there is another value of that name already, it goes
// in as name_2, and so on: a Placemark's data may be called name, too.
func setProperty(properties map[string]any, name, text string) {
	v, unique := value(text), name
	for n := 2; n <= maxSameNames; n++ {
		other, taken := properties[unique]
		if !taken || other == v {
			break
		}
		unique = name + "_" + strconv.Itoa(n)
	}
	properties[unique] = v
}

// value is a text as a property: a number where that keeps every digit.
func value(text string) any {
	if isPlainNumber(text) {
		return json.Number(text)
	}
	return text
}
