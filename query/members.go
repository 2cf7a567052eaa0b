package query

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// What Cairn knows of a point stands in the Feature's properties too, because
// most programs look nowhere else: GDAL and what is built on it, browsers' maps,
// notebooks. The names are these; where the user has a property of that name, the
// user's stays, and Cairn's is found beside the properties only.
//
// The id is among them, as text, because maps and GDAL want a number for a
// Feature's own id and lose or mix up what is none.
const (
	memberID       = `"id": `
	memberTime     = `"time": `
	memberReceived = `"received": `
	memberPosition = `"position": `
	memberRevision = `"revision": `
)

// appendProperties appends the user's properties, which are JSON as jsonb writes
// it or nil, and Cairn's: those that are wanted, or all where wanted is nil.
func appendProperties(dst, user []byte, r row, wanted []string) ([]byte, error) {
	position, ok := r.int64(colPosition)
	received, ok2 := r.int64(colReceived)
	if !ok || !ok2 {
		return dst, errRow
	}
	if len(user) < len("{}") {
		user = []byte("{}")
	}
	if wanted != nil {
		user = pick(user, wanted)
	}
	dst = append(dst, user[:len(user)-1]...)
	begin := len(dst) // where Cairn's begin, if the user has none
	add := func(member string) bool {
		if wanted != nil && !slices.Contains(wanted, member[1:len(member)-len(`": `)]) || hasMember(user, member) {
			return false
		}
		if len(user) > len("{}") || len(dst) > begin {
			dst = append(dst, ", "...)
		}
		dst = append(dst, member...)
		return true
	}
	if add(memberID) {
		var err error
		if dst, err = appendIDText(dst, r); err != nil {
			return dst, err
		}
	}
	if observed, ok := r.int64(colObserved); ok && add(memberTime) {
		dst = append(appendTime(append(dst, '"'), observed), '"')
	}
	if add(memberReceived) {
		dst = append(appendTime(append(dst, '"'), received), '"')
	}
	if add(memberPosition) {
		dst = strconv.AppendInt(dst, position, 10)
	}
	if add(memberRevision) {
		dst = strconv.AppendInt(dst, int64(r.revision(position)), 10)
	}
	return append(dst, '}'), nil
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

// hasMember tells whether an object, as jsonb writes it, has this member at its
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

// isTop tells whether what follows is directly in the object that begins here,
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
