// Package recent holds a replica's newest rows in memory, encoded as they are
// answered, so that most pages cost the database nothing. It stands beside the
// statements of query: what is not here is read there.
//
// Its guarantee: every row from [Rows.Low] up is held as it was at [Rows.Sequence]
// or later, deleted ones as nothing. The feed keeps it so; when that cannot be
// (too far behind, a database that went back), it is emptied and refilled.
// It is bounded in bytes, and drops the oldest rows first.
package recent

import (
	"hash/maphash"
	"math"
	"sort"
	"sync"
	"unsafe"

	"cairn/event"
	"cairn/query/filter"
)

const (
	// chunkBits: a chunk has at most so many rows, 4,096: small beside the whole,
	// because whole chunks are dropped, and large enough that there are few.
	chunkBits = 12
	chunkRows = 1 << chunkBits
	// firstChunk leaves room for numbers on both sides: chunks are added before
	// and behind.
	firstChunk = 1 << 19
	lastChunk  = 1<<(32-chunkBits) - 1
	// chunkShare: a chunk ends at this part of the bound too, in bytes, so that
	// rows of 256 KiB do not make chunks that are most of it.
	chunkShare = 64
	// fillShare of the bound is filled with older rows, in eighths; the rest is
	// for those to come, so that what was just read is not dropped at once.
	fillShare = 7
	// rowBytes is what a row costs beside its text.
	rowBytes = int(unsafe.Sizeof(entry{}))
)

// A Row is what the feed hands in.
type Row struct {
	filter.Row
	Feature []byte // as it is answered; nil where the row is deleted

	scratch []byte // for properties that are not there as they are
}

// Rows are the newest rows. One goroutine changes them, any number read.
type Rows struct {
	bound int

	mu       sync.RWMutex
	sequence uint64         // what is here is true for it
	low      event.Position // every row from here up is held
	chunks   []*chunk       // the oldest first
	first    uint32         // the number of chunks[0]
	seed     maphash.Seed   // of hashes of names
	grid     grid
	bytes    int
}

// A chunk is up to chunkRows rows in the order of their positions. The texts of
// a batch are one blob; a row that was changed has one of its own.
type chunk struct {
	rows     []entry
	blobs    [][]byte
	bytes    int
	from, to int64 // between them are the rows' times
	names    names
}

func newChunk(rows int) *chunk {
	return &chunk{rows: make([]entry, 0, rows), from: math.MaxInt64, to: math.MinInt64, names: newNames(rows)}
}

// cover notes that the chunk has a row of that time and name.
func (r *Rows) cover(c *chunk, row *Row) {
	c.from, c.to = min(c.from, row.Time), max(c.to, row.Time)
	if row.Name != "" {
		c.names.add(r.hash(row.Name))
	}
}

func (r *Rows) hash(name string) uint64 { return maphash.String(r.seed, name) }

// An entry has no pointer in it, so that the garbage collector passes over it.
type entry struct {
	position, revision       event.Position
	x, y, altitude           float64
	time, received           int64
	blob                     uint32 // in the chunk's blobs
	own                      bool   // the blob is this row's alone
	open                     bool   // the properties want a brace before them
	feature                  span   // none: deleted
	name, author, properties span
}

// A span is a part of a blob.
type span struct{ at, n uint32 }

func (s span) of(blob []byte) []byte { return blob[s.at : s.at+s.n] }

// New makes rows of at most bound bytes.
func New(bound int) *Rows {
	r := &Rows{bound: bound, seed: maphash.MakeSeed()}
	r.clear(0)
	return r
}

// Reset drops all rows. What comes is what follows the sequence.
func (r *Rows) Reset(sequence uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear(sequence)
}

func (r *Rows) clear(sequence uint64) {
	r.sequence, r.low = sequence, event.EndOf(sequence)+1
	r.chunks, r.first = nil, firstChunk
	r.grid = newGrid()
	r.bytes = r.grid.bytes()
}

// Sequence is what the rows are true for.
func (r *Rows) Sequence() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.sequence
}

// Low is the position from which on every row is held.
func (r *Rows) Low() event.Position {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.low
}

// Stat is how many rows there are, deleted ones among them, and what they cost
// in bytes.
func (r *Rows) Stat() (rows, bytes int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, c := range r.chunks {
		rows += len(c.rows)
	}
	return rows, r.bytes
}

// Add takes all that was created or changed between the sequence before and this
// one, in the order of positions where created. A row that is older than
// what is held is left out.
func (r *Rows) Add(rows []Row, sequence uint64) {
	fresh := newBlob(rows, r.above())
	r.mu.Lock()
	defer r.mu.Unlock()
	top := r.top()
	var last *chunk
	for i := range rows {
		switch row := &rows[i]; {
		case row.Position > top:
			if last == nil || len(last.rows) == chunkRows {
				if last = r.open(&fresh); last == nil { // the numbers are at their end
					r.clear(sequence)
					return
				}
			}
			r.append(last, row, fresh.spans(i), fresh.number)
			top = row.Position
		case row.Position >= r.low:
			r.change(row)
		}
	}
	r.sequence = max(r.sequence, sequence)
	r.shrink()
}

// above is the position above which a row is new.
func (r *Rows) above() event.Position {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.top()
}

func (r *Rows) top() event.Position {
	if n := len(r.chunks); n > 0 {
		rows := r.chunks[n-1].rows
		return rows[len(rows)-1].position
	}
	return r.low - 1
}

// open returns a chunk for new rows, which has the blob as its last.
func (r *Rows) open(b *blob) *chunk {
	var c *chunk
	if n := len(r.chunks); n > 0 {
		c = r.chunks[n-1]
	}
	if c == nil || len(c.rows) == chunkRows || c.bytes > r.bound/chunkShare {
		if int(r.first)+len(r.chunks) >= lastChunk {
			return nil
		}
		c = newChunk(chunkRows)
		r.chunks = append(r.chunks, c)
		r.charge(c, chunkRows*rowBytes+c.names.bytes())
	}
	if b.bytes != nil {
		b.number = uint32(len(c.blobs)) //nolint:gosec // a chunk has few blobs
		c.blobs = append(c.blobs, b.bytes)
		if !b.charged { // it may be part of two chunks
			b.charged = true
			r.charge(c, len(b.bytes))
		}
	}
	return c
}

func (r *Rows) charge(c *chunk, n int) {
	c.bytes += n
	r.bytes += n
}

// append adds the row, whose text is in the chunk's blob of that number: a row that
// changed meanwhile may have put its own behind it.
func (r *Rows) append(c *chunk, row *Row, e entry, blob uint32) {
	e.blob = blob
	n := r.number(len(r.chunks)-1, len(c.rows))
	c.rows = append(c.rows, e)
	r.cover(c, row)
	if row.Feature != nil {
		r.bytes += r.grid.push(row.X, row.Y, n)
	}
}

// number is that of a row: they rise with positions.
func (r *Rows) number(chunk, row int) uint32 {
	return (r.first+uint32(chunk))<<chunkBits | uint32(row) //nolint:gosec // both are bounded
}

func (r *Rows) chunk(n uint32) *chunk { return r.chunks[n>>chunkBits-r.first] }

func (r *Rows) entry(n uint32) (*chunk, *entry) {
	c := r.chunk(n)
	return c, &c.rows[n&(chunkRows-1)]
}

// change puts the row in the place of what is held at its position, unless that
// is as new.
func (r *Rows) change(row *Row) {
	n, ok := r.find(row.Position)
	if !ok {
		return
	}
	c, e := r.entry(n)
	if e.position != row.Position || e.revision >= row.Revision {
		return
	}
	if e.feature.n > 0 {
		r.grid.remove(e.x, e.y, n)
	}
	b := newBlob([]Row{*row}, 0)
	fresh := b.spans(0)
	switch {
	case e.own: // what it had goes; a blob that rows share stays for the others
		r.charge(c, len(b.bytes)-len(c.blobs[e.blob]))
		c.blobs[e.blob] = b.bytes
		fresh.blob, fresh.own = e.blob, true
	case b.bytes != nil:
		r.charge(c, len(b.bytes))
		fresh.blob, fresh.own = uint32(len(c.blobs)), true //nolint:gosec // one a row at most
		c.blobs = append(c.blobs, b.bytes)
	}
	*e = fresh
	if row.Feature != nil {
		r.cover(c, row)
		r.bytes += r.grid.insert(row.X, row.Y, n)
	}
}

// find is the number of the first row at or above the position; ok is false
// where there is none.
func (r *Rows) find(p event.Position) (n uint32, ok bool) {
	i := sort.Search(len(r.chunks), func(i int) bool {
		rows := r.chunks[i].rows
		return rows[len(rows)-1].position >= p
	})
	if i == len(r.chunks) {
		return r.number(i, 0), false
	}
	rows := r.chunks[i].rows
	return r.number(i, sort.Search(len(rows), func(k int) bool { return rows[k].position >= p })), true
}

// shrink drops the oldest rows until the bound is kept.
func (r *Rows) shrink() {
	for r.bytes > r.bound && len(r.chunks) > 0 {
		c := r.chunks[0]
		r.low = c.rows[len(c.rows)-1].position + 1
		r.drop()
	}
}

// drop drops the oldest chunk.
func (r *Rows) drop() {
	c := r.chunks[0]
	for i := range c.rows {
		r.vanish(&c.rows[i])
	}
	r.bytes -= c.bytes
	r.chunks[0] = nil
	r.chunks = r.chunks[1:]
	r.first++
}

// vanish takes the oldest row that there still is out of its cell.
func (r *Rows) vanish(e *entry) {
	if e.feature.n > 0 {
		r.bytes += r.grid.shift(e.x, e.y)
	}
	e.feature = span{}
}

// Drop takes away what is below a position: there is nothing any more, so that what
// is held may be all there is.
func (r *Rows) Drop(below event.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if below > r.low {
		r.low = 0
	}
	for len(r.chunks) > 0 {
		c := r.chunks[0]
		if c.rows[len(c.rows)-1].position < below {
			r.drop()
			continue
		}
		for i := range c.rows {
			if c.rows[i].position >= below {
				return
			}
			r.vanish(&c.rows[i])
		}
	}
}

// Room reports whether older rows may be filled in.
func (r *Rows) Room() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.bytes < r.bound/8*fillShare && r.first > 1
}

// Fill takes the rows from low up to what is held, in the order of positions: at
// most chunkRows.
func (r *Rows) Fill(rows []Row, low event.Position) {
	b := newBlob(rows, 0)
	c := newChunk(len(rows))
	r.mu.Lock()
	defer r.mu.Unlock()
	if low >= r.low {
		return
	}
	r.low = low
	if len(rows) == 0 {
		return
	}
	c.blobs = [][]byte{b.bytes}
	r.first--
	r.chunks = append([]*chunk{c}, r.chunks...)
	r.charge(c, len(b.bytes)+len(rows)*rowBytes+c.names.bytes())
	for i := range rows {
		c.rows = append(c.rows, b.spans(i))
		r.cover(c, &rows[i])
	}
	r.bytes += r.grid.fill(c.rows, r.number(0, 0))
	r.shrink()
}

// MaxFill is how many rows Fill takes.
const MaxFill = chunkRows

// At is the row at a position, if it is held. It is deleted where it has no Feature.
func (r *Rows) At(p event.Position) (row Row, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p < r.low {
		return row, false
	}
	n, ok := r.find(p)
	if !ok {
		return row, false
	}
	c, e := r.entry(n)
	if e.position != p {
		return row, false
	}
	row.Position, row.Revision = e.position, e.revision
	if e.feature.n > 0 {
		e.fill(&row, c.blobs[e.blob])
		row.Feature = e.feature.of(c.blobs[e.blob])
	}
	return row, true
}

// fill sets what filters compare, nearly without copying: blobs do not change.
func (e *entry) fill(row *Row, blob []byte) {
	row.X, row.Y, row.Altitude, row.Time, row.Received = e.x, e.y, e.altitude, e.time, e.received
	row.Name, row.Author = text(e.name.of(blob)), text(e.author.of(blob))
	switch {
	case e.properties.n == 0:
		row.Properties = nil
	case e.open:
		row.scratch = append(append(row.scratch[:0], '{'), e.properties.of(blob)...)
		row.Properties = row.scratch
	default:
		row.Properties = e.properties.of(blob)
	}
}
