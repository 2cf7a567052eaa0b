package format

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/internal/web"
)

// crsNames are the members that name a reference system, as JSON.
var crsNames = [...][]byte{[]byte(`"crs"`), []byte(`"coordRefSys"`)}

// ForeignCRS looks through a GeoJSON collection for a reference system that is not
// that of RFC 7946, which may stand behind the features: whoever has the whole of a
// body asks before the first row goes in. open gives the body from its beginning;
// nearly always it is read once, and not parsed. What is wrong with it otherwise is
// for the reader of the rows to say.
func ForeignCRS(open func() (io.Reader, error)) error {
	r, err := open()
	if err != nil || !mentionsCRS(inUTF8(bufio.NewReaderSize(r, ReadBuffer), &Options{})) {
		return nil
	}
	if r, err = open(); err != nil {
		return nil
	}
	var problem *web.Problem
	if err := findCRS(inUTF8(bufio.NewReaderSize(r, ReadBuffer), &Options{})); errors.As(err, &problem) {
		return problem
	}
	return nil
}

func mentionsCRS(r io.Reader) bool {
	const longest = len(`"coordRefSys"`)
	buffer, kept := make([]byte, ReadBuffer), 0
	for {
		n, err := r.Read(buffer[kept:])
		text := buffer[:kept+n]
		for _, name := range crsNames {
			if bytes.Contains(text, name) {
				return true
			}
		}
		if err != nil {
			return false
		}
		kept = copy(buffer, text[max(0, len(text)-longest+1):]) // a name may be cut
	}
}

// findCRS returns the problem of the first such member of the object itself.
func findCRS(r io.Reader) error {
	c := &collection{in: &budget{r: r}}
	c.in.refill()
	c.json = jsontext.NewDecoder(c.in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if c.json.PeekKind() != '{' {
		return nil
	}
	if _, err := c.json.ReadToken(); err != nil {
		return nil
	}
	for {
		c.in.refill()
		t, err := c.json.ReadToken()
		if err != nil || t.Kind() != '"' {
			return nil
		}
		if name := t.String(); name == "crs" || name == "coordRefSys" {
			err = c.readCRS(name)
		} else {
			err = c.skip()
		}
		if err != nil {
			return err
		}
	}
}
