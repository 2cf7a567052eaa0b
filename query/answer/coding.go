package answer

import "bytes"

// A coding is a content coding (RFC 9110, section 8.4.1) that answers come in.
type coding int

const (
	identity coding = iota
	gzipped
	zstandard
	codings = 2 // beside identity
)

func (c coding) String() string { return [...]string{"identity", "gzip", "zstd"}[c] }

// choose picks the coding that the field Accept-Encoding likes best (RFC 9110,
// section 12.5.3); of those that it likes the same, zstd before gzip before
// none. A body that is too small to gain is only compressed for a client that
// refuses it as it is. One that accepts none of ours gets it as it is.
func choose(accept []byte, size int) coding {
	if len(accept) == 0 {
		return identity
	}
	const unset = -1
	weights := [...]int{unset, unset, unset}
	any := unset
	for len(accept) > 0 {
		var item []byte
		item, accept, _ = bytes.Cut(accept, comma)
		name, parameters, _ := bytes.Cut(item, semicolon)
		name = bytes.TrimSpace(name)
		q := weight(parameters)
		switch {
		case bytes.EqualFold(name, nameGzip):
			weights[gzipped] = q
		case bytes.EqualFold(name, nameZstd):
			weights[zstandard] = q
		case bytes.EqualFold(name, nameIdentity):
			weights[identity] = q
		case string(name) == "*":
			any = q
		}
	}
	if weights[identity] == unset && any != 0 {
		// Not named, it is acceptable, and less liked than what is.
		weights[identity] = 1
	}
	best := identity
	for _, c := range [...]coding{zstandard, gzipped} {
		if weights[c] == unset {
			weights[c] = any
		}
		if weights[c] > 0 && (weights[c] > weights[best] || best == identity && weights[c] == weights[best]) {
			best = c
		}
	}
	if size < minCompressBytes && weights[identity] > 0 {
		return identity
	}
	return best
}

var (
	comma, semicolon = []byte{','}, []byte{';'}

	nameGzip, nameZstd, nameIdentity = []byte("gzip"), []byte("zstd"), []byte("identity")
)

// weight reads ;q=0.5 in thousandths; what is no weight counts as 1.
func weight(parameters []byte) int {
	p := bytes.TrimSpace(parameters)
	if len(p) < 3 || p[0]|0x20 != 'q' || p[1] != '=' {
		return 1000
	}
	n, scale := 0, 1000
	for i, c := range p[2:] {
		switch {
		case i == 1 && c == '.':
		case c < '0' || c > '9' || i > 4:
			return 1000
		default:
			n += int(c-'0') * scale
			scale /= 10
		}
	}
	return min(n, 1000)
}

// Matches reports whether the field If-None-Match names the tag: the comparison
// is the weak one (RFC 9110, section 13.1.2).
func Matches(field, tag []byte) bool {
	for len(field) > 0 {
		var item []byte
		item, field, _ = bytes.Cut(field, comma) // ours have no comma in them
		item = bytes.TrimPrefix(bytes.TrimSpace(item), weak)
		if string(item) == "*" || bytes.Equal(item, tag) {
			return true
		}
	}
	return false
}

var weak = []byte("W/")
