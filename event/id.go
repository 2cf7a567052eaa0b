package event

import (
	"crypto/sha1" //nolint:gosec // for names, not for secrets
	"strconv"

	"github.com/google/uuid"
)

// MaxExternalID is the most bytes that an id given by a client, or an
// Idempotency-Key, may have: what fits the common database columns.
const MaxExternalID = 255

// The namespaces of Cairn's version 5 UUIDs (RFC 9562, section 5.5). They are
// part of the wire form: another value would give a retry another id.
var (
	namespaceExternal    = uuid.MustParse("6f0c3a5e-4f0b-5b5c-9d59-1f7a8d0f2c11")
	namespaceIdempotency = uuid.MustParse("a2b7f1d4-96c1-5f60-8a3e-50d8f4c9b722")
)

// Key is the primary key of the point that a client calls id. A UUID in its
// usual form of 36 characters is its own key, but for the nil UUID, which says
// that there is none; anything else is keyed by its version 5 UUID in a
// namespace of its own, so 42 and "42" are one point.
func Key(id string) uuid.UUID {
	if len(id) == 36 {
		if u, err := uuid.Parse(id); err == nil && u != uuid.Nil {
			return u
		}
	}
	return version5(namespaceExternal, []byte(id))
}

// RowKey is the primary key of a point that came without an id in the given
// row (from 1) of a request with an Idempotency-Key: the same at every retry.
func RowKey(idempotencyKey string, row int64) uuid.UUID {
	name := make([]byte, 0, len(idempotencyKey)+21)
	name = append(name, idempotencyKey...)
	name = append(name, 0) // cannot occur in a header, so no two pairs meet
	name = strconv.AppendInt(name, row, 10)
	return version5(namespaceIdempotency, name)
}

// version5 is uuid.NewSHA1 without its three allocations: a bulk upload makes
// one a row.
func version5(namespace uuid.UUID, name []byte) uuid.UUID {
	var buffer [16 + MaxExternalID + 21]byte
	sum := sha1.Sum(append(append(buffer[:0], namespace[:]...), name...)) //nolint:gosec // what RFC 9562, section 5.5, says
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}

// NewKey is the primary key of a point that came with neither: a version 7
// UUID, whose leading time keeps the index's newest pages warm.
func NewKey() uuid.UUID { return uuid.Must(uuid.NewV7()) }
