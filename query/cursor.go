package query

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"cairn/event"
)

// A cursor is opaque to clients: a version, the position that the next page is
// before, and a checksum, in base64url (RFC 4648, section 5). The checksum
// keeps no secret. It turns a cursor that was cut or mistyped into an error,
// where it would be another page.
const (
	cursorVersion = 1
	cursorBytes   = 1 + 8 + 4
)

var (
	cursorText = base64.RawURLEncoding.Strict()
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errCursor = errors.New("it is not a cursor of this service; take it from a page's next link, as it is")
)

func appendCursor(dst []byte, before event.Position) []byte {
	raw := append(make([]byte, 0, cursorBytes), cursorVersion)
	raw = binary.BigEndian.AppendUint64(raw, uint64(before))
	raw = binary.BigEndian.AppendUint32(raw, crc32.Checksum(raw, castagnoli))
	return cursorText.AppendEncode(dst, raw)
}

func parseCursor(s string) (event.Position, error) {
	if len(s) != cursorText.EncodedLen(cursorBytes) {
		return 0, errCursor
	}
	raw, err := cursorText.DecodeString(s)
	if err != nil || len(raw) != cursorBytes || raw[0] != cursorVersion {
		return 0, errCursor
	}
	body, sum := raw[:cursorBytes-4], raw[cursorBytes-4:]
	before := event.Position(binary.BigEndian.Uint64(body[1:]))
	if binary.BigEndian.Uint32(sum) != crc32.Checksum(body, castagnoli) || before <= 0 {
		return 0, errCursor
	}
	return before, nil
}
