package event

import (
	"crypto/sha1" //nolint:gosec // for names, not for secrets
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// MaxExternalID is the most bytes that an id given by a client, or an
// Idempotency-Key, may have: what fits the common database columns.
const MaxExternalID = 255

// The namespaces of Cairn's named UUIDs (RFC 9562, sections 5.5 and 5.8). They
// are part of the wire form: another value would give a retry another id.
var (
	namespaceExternal    = uuid.MustParse("6f0c3a5e-4f0b-5b5c-9d59-1f7a8d0f2c11")
	namespaceIdempotency = uuid.MustParse("a2b7f1d4-96c1-5f60-8a3e-50d8f4c9b722")
)

// Key is the primary key of the point that a client calls id. A UUID in its
// usual form of 36 characters is its own key, but for the nil UUID, which says
// that there is none; anything else is keyed by its version 5 UUID in a
// namespace of its own, so 42 and "42" are one point.
func Key(id string) uuid.UUID { return KeyOf([]byte(id)) }

// KeyOf is Key, for those who call it for every row.
func KeyOf(id []byte) uuid.UUID {
	if len(id) == 36 {
		if u, err := uuid.ParseBytes(id); err == nil && u != uuid.Nil {
			return u
		}
	}
	return version5(namespaceExternal, id)
}

// A Scope tells requests apart that have the same Idempotency-Key and are not one
// request sent twice. It is part of the wire form, as the namespaces are.
type Scope byte

const (
	OnePoint Scope = 'p' // a request of one point
	Upload   Scope = 'u' // a request of many
)

// Rows gives the points that came without an id in one request, with an
// Idempotency-Key, their primary keys: the same at every retry. They are version 8
// UUIDs (RFC 9562, section 5.8) which begin alike and end in the row's number, so
// that the rows of a request stand side by side in an index, in their order: a
// retry, and a first upload too, touches a few of its pages instead of all.
type Rows struct{ prefix [rowsPrefix]byte }

// rowsPrefix is the bytes that the rows of one request share. 74 of their 80 bits
// come from the hash: that any two of a million requests meet has a chance of 1 in
// 40,000,000,000, of four thousand million 1 in 2,000. The 48 bits that are left
// number more rows than a body can have.
const rowsPrefix = 10

// RowsOf is for the request of the author, "" where none is known.
func RowsOf(scope Scope, author, idempotencyKey string) Rows {
	name := make([]byte, 0, 16+1+len(author)+1+len(idempotencyKey))
	name = append(append(name, namespaceIdempotency[:]...), byte(scope))
	name = append(append(name, author...), 0) // in neither, so that no two pairs meet
	name = append(name, idempotencyKey...)
	sum := sha256.Sum256(name)
	r := Rows{prefix: [rowsPrefix]byte(sum[:rowsPrefix])}
	r.prefix[6] = r.prefix[6]&0x0f | 0x80 // the version
	r.prefix[8] = r.prefix[8]&0x3f | 0x80 // the variant
	return r
}

// Key is the primary key of the point in the row, counted from 1.
func (r Rows) Key(row int64) uuid.UUID {
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], uint64(row)) //nolint:gosec // rows are counted from 1
	var id uuid.UUID
	copy(id[:], r.prefix[:])
	copy(id[rowsPrefix:], number[2:])
	return id
}

// version5 is uuid.NewSHA1 without its three allocations: a bulk upload may make
// one a row.
func version5(namespace uuid.UUID, name []byte) uuid.UUID {
	var buffer [16 + MaxExternalID]byte
	sum := sha1.Sum(append(append(buffer[:0], namespace[:]...), name...)) //nolint:gosec // what RFC 9562, section 5.5, says
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}

// The random bits of keys keep them apart, and are no secret: they are drawn many at
// once.
func init() { uuid.EnableRandPool() }

// NewKey is the primary key of a point that came with neither: a version 7
// UUID, above every other that this process made, so that an index of them is
// entered at its end.
func NewKey() uuid.UUID { return uuid.Must(uuid.NewV7()) }
