package recent

import (
	"bytes"

	"cairn/event"
)

// A blob is the text of some rows, in one piece of its exact size.
type blob struct {
	bytes   []byte
	entries []entry
	charged bool
	number  uint32 // in the chunk that took it last
}

// newBlob copies the text of the rows above a position. A name or properties that
// stand in the Feature as they are, which is usual, are not copied again.
func newBlob(rows []Row, above event.Position) blob {
	size := 0
	for i := range rows {
		if rows[i].Position > above {
			size += rows[i].size()
		}
	}
	b := blob{entries: make([]entry, len(rows))}
	if size > 0 {
		b.bytes = make([]byte, 0, size)
	}
	for i := range rows {
		if rows[i].Position > above {
			b.entries[i] = b.add(&rows[i])
		}
	}
	return b
}

func (r *Row) size() int {
	n := len(r.Feature)
	texts := r.texts()
	texts[2] = tail(texts[2])
	for _, text := range texts {
		if !bytes.Contains(r.Feature, text) {
			n += len("{") + len(text)
		}
	}
	return n
}

// tail is what of properties stands in a Feature that has more of them before: all but
// the brace at the beginning.
func tail(text []byte) []byte {
	return text[min(1, len(text)):]
}

func (r *Row) texts() [3][]byte {
	return [...][]byte{[]byte(r.Name), []byte(r.Author), r.Properties}
}

func (b *blob) add(r *Row) entry {
	e := entry{position: r.Position, revision: r.Revision, x: r.X, y: r.Y, altitude: r.Altitude, time: r.Time, received: r.Received}
	if r.Feature == nil {
		return e
	}
	begin := len(b.bytes)
	b.bytes = append(b.bytes, r.Feature...)
	e.feature = spanOf(begin, len(r.Feature))
	part := func(text []byte) span {
		if len(text) == 0 {
			return span{}
		}
		if i := bytes.Index(r.Feature, text); i >= 0 {
			return spanOf(begin+i, len(text))
		}
		b.bytes = append(b.bytes, text...)
		return spanOf(len(b.bytes)-len(text), len(text))
	}
	texts := r.texts()
	e.name, e.author = part(texts[0]), part(texts[1])
	if !bytes.Contains(r.Feature, r.Properties) && bytes.Contains(r.Feature, tail(r.Properties)) {
		texts[2], e.open = tail(r.Properties), true
	}
	e.properties = part(texts[2])
	return e
}

func spanOf(at, n int) span { return span{uint32(at), uint32(n)} } //nolint:gosec // a batch is a few megabytes

func (b *blob) spans(i int) entry { return b.entries[i] }
