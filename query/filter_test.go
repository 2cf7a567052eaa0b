package query

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"cairn/event"
	"cairn/internal/web"
)

func TestCursor(t *testing.T) {
	for range 1000 {
		want := event.Position(rand.Int64N(int64(newest)) + 1)
		text := string(appendCursor(nil, want))
		if got, err := parseCursor(text); err != nil || got != want {
			t.Fatalf("%s: %d, %v; want %d", text, got, err, want)
		}
		// Any one letter changed, or two neighbours swapped, is refused.
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=\n"
		for i := range text {
			changed := []byte(text)
			changed[i] = letters[rand.IntN(len(letters))]
			swapped := []byte(text)
			j := (i + 1) % len(text)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			for _, bad := range []string{string(changed), string(swapped), text[:i], text[i:] + "A", text + text[i:]} {
				if got, err := parseCursor(bad); err == nil && bad != text {
					t.Fatalf("%q for %q is taken for position %d", bad, text, got)
				}
			}
		}
	}
}

func FuzzListQuery(f *testing.F) {
	for _, s := range []string{
		"", "limit=5", "bbox=1,2,3,4&limit=99999", "bbox=170,-10.5,-170,1e-7", "bbox=-0,0,0,0",
		"cursor=" + string(appendCursor(nil, 4097)), "min_position=12&&", "a=%zz", "limit=%31&bbox=1%2C2,3,4", "=&=",
		"datetime=2026-11-21T22:43:01.123456789Z", "datetime=../0001-01-01t00:00:00z", "datetime=9999-12-31T23:59:59-01:00/", "name=a+b%26%22",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseList(raw)
		if err != nil {
			var p *web.Problem
			if !errors.As(err, &p) || p.Status != http.StatusBadRequest || p.Detail == "" {
				t.Fatalf("%q: %v is no problem that a client can use", raw, err)
			}
			return
		}
		if q.limit < 1 || q.limit > maxLimit || q.before < 1 || q.minPosition < 0 {
			t.Fatalf("%q became %+v", raw, q)
		}
		_, query, _ := strings.Cut(q.href(), "?")
		again, err := parseList(query)
		if err != nil || again.minPosition != 0 {
			t.Fatalf("%q became %q, which is refused: %v", raw, query, err)
		}
		if again.limit != q.limit || again.before != q.before || (again.bbox == nil) != (q.bbox == nil) ||
			q.bbox != nil && *again.bbox != *q.bbox || again.name != q.name ||
			(again.when == nil) != (q.when == nil) || q.when != nil && *again.when != *q.when {
			t.Fatalf("%q became %q, which is another question", raw, query)
		}
		if again.href() != q.href() {
			t.Fatalf("%q and %q", again.href(), q.href())
		}
		_, _ = parseOne(raw)
	})
}
