package ingest

import (
	"testing"

	"cairn/event"
)

func FuzzIdempotencyKey(f *testing.F) {
	f.Add([]byte(`"a\"b"`))
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		key, ok := parseKey(raw)
		if !ok {
			return
		}
		if len(key) == 0 || len(key) > event.MaxExternalID {
			t.Fatalf("%d bytes", len(key))
		}
		for _, b := range []byte(key) {
			if b <= ' ' || b > '~' {
				t.Fatalf("%q", key)
			}
		}
	})
}

func FuzzPrefer(f *testing.F) {
	f.Add([]byte(`respond-async, wait=10`))
	f.Add([]byte(`wait="99999999999999999999";x, wait=1`))
	f.Fuzz(func(t *testing.T, field []byte) {
		if d := parsePrefer(field).time; d < 0 || d > maxWait {
			t.Fatalf("%q: %v", field, d)
		}
	})
}
