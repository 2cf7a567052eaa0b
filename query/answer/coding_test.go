package answer

import (
	"bytes"
	"testing"
)

func TestChoose(t *testing.T) {
	tests := []struct {
		accept string
		size   int
		want   coding
	}{
		{"", 1 << 20, identity},
		{"gzip", 1 << 20, gzipped},
		{"gzip", minCompressBytes - 1, identity},
		{"gzip", minCompressBytes, gzipped},
		{"gzip, deflate, br, zstd", 1 << 20, zstandard},
		{"GZip;q=1.0, ZSTD;q=0.9", 1 << 20, gzipped},
		{"gzip;q=0.001,zstd;q=0", 1 << 20, gzipped},
		{"gzip;q=0", 1 << 20, identity},
		{"gzip;q=0.5, identity", 1 << 20, identity},
		{"gzip;q=0.5, identity;q=0.5", 1 << 20, gzipped},
		{"*", 1 << 20, zstandard},
		{"*;q=0", 1 << 20, identity},
		{"*;q=0, gzip", 10, gzipped},
		{"identity;q=0, gzip", 10, gzipped},
		{"identity;q=0", 1 << 20, identity},
		{"br", 1 << 20, identity},
		{" gzip ; q=1", 1 << 20, gzipped},
		{"gzip;q=1.0000", 1 << 20, gzipped},
		{",,;q=,=;", 1 << 20, identity},
	}
	for _, test := range tests {
		if got := choose([]byte(test.accept), test.size); got != test.want {
			t.Errorf("Accept-Encoding: %s, %d bytes: %v, want %v", test.accept, test.size, got, test.want)
		}
	}
}

func TestMatches(t *testing.T) {
	for field, want := range map[string]bool{
		`"a"`: true, `W/"a"`: true, `"b", "a"`: true, `"b" , W/"a"`: true, `*`: true, `"b"`: false, `a`: false, ``: false, `"ab"`: false,
	} {
		if got := Matches([]byte(field), []byte(`"a"`)); got != want {
			t.Errorf("If-None-Match: %s: %v", field, got)
		}
	}
}

// A coding that is refused is never chosen, unless all are.
func FuzzAcceptEncoding(f *testing.F) {
	for _, s := range []string{"gzip", "gzip;q=0, zstd;q=0.5", "*;q=0", "identity;q=0, *", "zstd ; q=1.000,gzip;Q=0.999", "gzip;q=;q=,"} {
		f.Add([]byte(s), 5000)
	}
	f.Fuzz(func(t *testing.T, accept []byte, size int) {
		c := choose(accept, size)
		if c < identity || c > codings {
			t.Fatalf("%q: %d", accept, c)
		}
		if c != identity && !bytes.Contains(bytes.ToLower(accept), []byte(c.String())) && !bytes.Contains(accept, []byte("*")) {
			t.Fatalf("%q: %v, which it does not name", accept, c)
		}
	})
}

func FuzzIfNoneMatch(f *testing.F) {
	const tag = `"0123456789abcdef012345"`
	f.Add([]byte(`W/"x", ` + tag))
	f.Add([]byte("*"))
	f.Fuzz(func(t *testing.T, field []byte) {
		if Matches(field, []byte(tag)) && !bytes.Contains(field, []byte(tag)) && !bytes.Contains(field, []byte("*")) {
			t.Fatalf("%q names %s", field, tag)
		}
	})
}
