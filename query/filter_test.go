package query

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"testing"

	"cairn/event"
	"cairn/internal/web"
	"cairn/query/filter"
	"cairn/query/plan"
)

func TestCursor(t *testing.T) {
	for range 1000 {
		want := plan.Key{Position: event.Position(rand.Int64N(int64(newest)) + 1)}
		sort := plan.Sort(rand.IntN(3))
		switch sort {
		case plan.ByTime:
			want.Time = int64(rand.Uint64())
		case plan.ByDistance:
			want.Distance = rand.Float64() * farthest
		}
		text := string(appendCursor(nil, sort, &want))
		if by, got, err := parseCursor(text); err != nil || *got != want || by != sort {
			t.Fatalf("%s: %v by %d, %v; want %v by %d", text, got, by, err, want, sort)
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
				if _, got, err := parseCursor(bad); err == nil && bad != text {
					t.Fatalf("%q for %q is taken for position %d", bad, text, got.Position)
				}
			}
		}
	}
}

func FuzzListQuery(f *testing.F) {
	cursor := func(sort plan.Sort) string {
		return string(appendCursor(nil, sort, &plan.Key{Position: 4097, Time: -5}))
	}
	for _, s := range []string{
		"", "limit=5", "bbox=1,2,3,4&limit=99999", "bbox=170,-10.5,-170,1e-7", "bbox=-0,0,0,0", "bbox=170,0,5,190,1,6",
		"cursor=" + cursor(plan.ByPosition), "sortby=-time&cursor=" + cursor(plan.ByTime), "near=1,2,3&cursor=" + cursor(plan.ByDistance),
		"min_position=12&&", "a=%zz", "limit=%31&bbox=1%2C2,3,4", "=&=", "sortby=+time", "numberMatched=true", "properties.a%26=1..2&properties.b=%22x%22",
		"datetime=2026-11-21T22:43:01.123456789Z", "datetime=2026-11-21", "datetime=../0001-01-01t00:00:00z", "datetime=9999-12-31T23:59:59-01:00/", "name=a+b%26%22",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseItems(raw, pointsParameters)
		if err != nil {
			var p *web.Problem
			if !errors.As(err, &p) || p.Status != http.StatusBadRequest || p.Detail == "" {
				t.Fatalf("%q: %v is no problem that a client can use", raw, err)
			}
			return
		}
		if q.Limit < 1 || q.Limit > maxLimit || q.After != nil && q.After.Position < 1 || q.minPosition < 0 {
			t.Fatalf("%q became %+v", raw, q)
		}
		query := q.text(q.After)
		again, err := parseItems(query, pointsParameters)
		if err != nil || again.minPosition != 0 {
			t.Fatalf("%q became %q, which is refused: %v", raw, query, err)
		}
		if again.Limit != q.Limit || again.Sort != q.Sort || again.Ascending != q.Ascending || again.counted != q.counted ||
			(again.After == nil) != (q.After == nil) || q.After != nil && *again.After != *q.After || filter.Canonical(again.Filter) != filter.Canonical(q.Filter) {
			t.Fatalf("%q became %q, which is another question", raw, query)
		}
		if again.text(again.After) != query {
			t.Fatalf("%q and %q", again.text(again.After), query)
		}
		_, _ = parseOne(raw)
	})
}
