package query

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"cairn/event"
)

// What Cairn knows of a point stands in the Feature's properties too, because
// most programs look nowhere else: GDAL and what is built on it, browsers' maps,
// notebooks. The names are these; where the user has a property of that name, the
// user's stays, and Cairn's has event.ClashPrefix before its name.
//
// The id is among them, as text, because maps and GDAL want a number for a
// Feature's own id and lose or mix up what is none. Cairn's come first, and the time
// received before the id: GDAL takes the type of a first field "id" from the points
// that it happens to see, against what the schema says.
const (
	memberReceived = `"received": `
	memberTime     = `"time": `
	memberPosition = `"position": `
	memberRevision = `"revision": `
	memberID       = `"id": `
)

// appendProperties appends Cairn's properties and the user's, which are JSON as jsonb
// writes it or nil: those that are wanted, or all where wanted is nil.
func appendProperties(dst, user []byte, r row, wanted []string) ([]byte, error) {
	position, ok := r.int64(colPosition)
	received, ok2 := r.int64(colReceived)
	if !ok || !ok2 {
		return dst, errRow
	}
	if len(user) < len("{}") {
		user = []byte("{}")
	}
	w := memberWriter{dst: append(dst, '{'), user: user, wanted: wanted, clash: mayClash(user)}
	if w.begin(memberReceived) {
		w.dst = append(appendTime(append(w.dst, '"'), received), '"')
	}
	if observed, ok := r.int64(colObserved); ok && w.begin(memberTime) {
		w.dst = append(appendTime(append(w.dst, '"'), observed), '"')
	}
	if w.begin(memberPosition) {
		w.dst = strconv.AppendInt(w.dst, position, 10)
	}
	if w.begin(memberRevision) {
		w.dst = strconv.AppendInt(w.dst, int64(r.revision(position)), 10)
	}
	if w.begin(memberID) {
		var err error
		if w.dst, err = appendIDText(w.dst, r); err != nil {
			return w.dst, err
		}
	}
	if wanted != nil {
		user = pick(user, wanted)
	}
	if len(user) > len("{}") {
		if w.dst[len(w.dst)-1] != '{' {
			w.dst = append(w.dst, ", "...)
		}
		w.dst = append(w.dst, user[1:len(user)-1]...)
	}
	return append(w.dst, '}'), nil
}

// A memberWriter writes Cairn's own properties into an object.
type memberWriter struct {
	dst, user []byte
	wanted    []string
	clash     bool // the user may have members of these names
}

// begin writes the name that the member has beside the user's, and reports whether its
// value is to follow.
func (w *memberWriter) begin(member string) bool {
	prefix := ""
	if w.clash && hasMember(w.user, member) {
		if prefix = event.ClashPrefix; hasMember(w.user, `"`+prefix+member[1:]) {
			return false
		}
	}
	if w.wanted != nil && !slices.Contains(w.wanted, prefix+member[1:len(member)-len(`": `)]) {
		return false
	}
	if w.dst[len(w.dst)-1] != '{' {
		w.dst = append(w.dst, ", "...)
	}
	w.dst = append(append(append(w.dst, '"'), prefix...), member[1:]...)
	return true
}

// pick returns an object, as jsonb writes it, with the wanted members only.
func pick(object []byte, wanted []string) []byte {
	d := jsontext.NewDecoder(bytes.NewBuffer(object))
	if _, err := d.ReadToken(); err != nil {
		return []byte("{}")
	}
	out := []byte{'{'}
	for d.PeekKind() == '"' {
		raw, err := d.ReadValue()
		if err != nil {
			break
		}
		name, err := jsontext.AppendUnquote(nil, raw)
		quoted := bytes.Clone(raw)
		if err != nil {
			break
		}
		value, err := d.ReadValue()
		if err != nil {
			break
		}
		if slices.Contains(wanted, string(name)) {
			if len(out) > 1 {
				out = append(out, ", "...)
			}
			out = append(append(append(out, quoted...), ": "...), value...)
		}
	}
	return append(out, '}')
}

// appendIDText appends the id as a string, be it a number or not.
func appendIDText(dst []byte, r row) ([]byte, error) {
	begin := len(dst)
	dst, err := appendID(dst, r)
	if err != nil || dst[begin] == '"' {
		return dst, err
	}
	dst = append(dst, '"', '"')
	copy(dst[begin+1:], dst[begin:len(dst)-2])
	dst[begin] = '"'
	return dst, nil
}

// mayClash reports whether a member of an object, as jsonb writes it, at whatever depth,
// has one of Cairn's names, or that it takes a closer look to tell. Nearly always the
// strings in it need but be passed over.
func mayClash(object []byte) bool {
	for {
		begin := bytes.IndexByte(object, '"')
		if begin < 0 {
			return false
		}
		object = object[begin+1:]
		end := bytes.IndexByte(object, '"')
		if end < 0 || bytes.IndexByte(object[:end], '\\') >= 0 {
			return true
		}
		switch string(object[:end]) {
		case "received", "time", "position", "revision", "id":
			return true
		}
		object = object[end+1:]
	}
}

// hasMember reports whether an object, as jsonb writes it, has this member at its
// top: jsonb puts a colon and a space behind every name, and escapes nothing in
// names such as Cairn's. Nearly always the bytes are nowhere in it.
func hasMember(object []byte, member string) bool {
	for from := 0; ; {
		at := bytes.Index(object[from:], []byte(member))
		if at < 0 {
			return false
		}
		at += from
		if isTop(object[:at]) {
			return true
		}
		from = at + 1
	}
}

// isTop reports whether what follows is directly in the object that begins here,
// not in a string and not in another object or list.
func isTop(before []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(before); i++ {
		switch c := before[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			depth--
		}
	}
	return depth == 1 && !quoted
}
