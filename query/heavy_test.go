package query

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cairn/event"
	"cairn/query/filter"
)

// comparing is a query string with so many comparisons of that prefix.
func comparing(n int, prefix string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`properties.%s%d="x"`, prefix, i)
	}
	return strings.Join(parts, "&")
}

// However it is written, and wherever, a filter has so many comparisons and no more.
func TestComparisonsAreBounded(t *testing.T) {
	f := newFixture(t)
	f.put(1, [2]float64{1, 1})
	const most = filter.MaxComparisons
	text := func(n int) string {
		return "filter=" + url.QueryEscape(strings.Repeat("a=1 OR ", n-1)+"NOT (b IN (1, 2, 3))")
	}
	inJSON := func(n int) string {
		return "filter-lang=cql2-json&filter=" + url.QueryEscape(`{"op":"or","args":[`+strings.Repeat(`{"op":"=","args":[{"property":"a"},1]},`, n-1)+`{"op":"isNull","args":[{"property":"b"}]}]}`)
	}
	list := make([]string, 300)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	for _, route := range []string{"/points", "/points.csv", "/collections/points/items", "/latest", "/tracks", "/collections/points/tiles/WebMercatorQuad/0/0/0", "/stream"} {
		stream := route == "/stream"
		for title, test := range map[string]struct {
			at, beyond, parameter string
			filtered              bool
		}{
			"parameters":  {comparing(most, "q"), comparing(most+1, "q"), fmt.Sprintf("properties.q%d", most), false},
			"numbers":     {strings.ReplaceAll(comparing(most/2, "q"), `"x"`, "1"), strings.ReplaceAll(comparing(most/2+1, "q"), `"x"`, "1"), fmt.Sprintf("properties.q%d", most/2), false},
			"many":        {"", strings.ReplaceAll(comparing(800, "q"), `"x"`, "1"), fmt.Sprintf("properties.q%d", most/2), false},
			"CQL2 text":   {text(most), text(most + 1), "filter", true},
			"CQL2 JSON":   {inJSON(most), inJSON(most + 1), "filter", true},
			"lists":       {"filter=" + url.QueryEscape("a IN ("+strings.Join(list, ",")+")"), "", "filter", true},
			"both":        {comparing(most/2, "q") + "&" + text(most/2), comparing(most/2, "q") + "&" + text(most/2+1), "filter", true},
			"with others": {"name=a&datetime=2026-11-21&" + comparing(most-3, "q"), "name=a&datetime=2026-11-21&" + comparing(most-2, "q"), fmt.Sprintf("properties.q%d", most-3), false},
		} {
			if test.filtered && stream {
				continue // it takes no filter
			}
			method := http.MethodGet
			if stream {
				method = http.MethodHead // a stream does not end
			}
			if r := f.do(method, route+"?"+test.at); r.status != http.StatusOK && r.status != http.StatusNoContent {
				t.Errorf("%s, %s: %d %s", route, title, r.status, r.body)
			}
			if test.beyond == "" {
				continue
			}
			r := f.get(route + "?" + test.beyond)
			detail := f.detail(r, http.StatusBadRequest)
			var p struct{ Parameter string }
			if err := json.Unmarshal(r.body, &p); err != nil || p.Parameter != test.parameter || !strings.HasPrefix(detail, test.parameter+": ") || !strings.Contains(detail, fmt.Sprintf("more than %d comparisons", most)) {
				t.Errorf("%s, %s: %v %s", route, title, err, r.body)
			}
		}
	}
}

// created are changes of new points with these properties.
func createdWith(properties ...string) batch {
	b := batch{upTo: event.EndOf(1), sequence: 1}
	for i, text := range properties {
		c := &change{kind: created, at: event.At(1, i), wire: fmt.Appendf(nil, "id: %d\n\n", i)}
		c.Position, c.Revision, c.Altitude, c.Properties, c.Feature = c.at, c.at, math.NaN(), []byte(text), c.wire
		b.changes = append(b.changes, c)
	}
	return b
}

// readerOf is one of a tail that nobody follows.
func (t *tail) readerOf(e filter.Expr, cut func()) *reader {
	r := &reader{tail: t, wake: make(chan struct{}, 1), cut: cut, filter: e}
	if !t.join(r) {
		panic("not joined")
	}
	return r
}

// The filters of all streams read each row once, however many streams there are and however
// heavy their filters, and none of the heaviest that there may be is too heavy.
func TestStreamsShareARow(t *testing.T) {
	f := newFixture(t)
	var properties []string
	for i := range batchRows {
		properties = append(properties, fmt.Sprintf(`{"a": %d, "b": "text", "c": [1, 2, 3], "d": {"e": 1}}`, i))
	}
	large := []byte(`{"a": 7`)
	for i := range 10_000 {
		large = fmt.Appendf(large, `, "p%d": %d`, i, i)
	}
	properties[7] = string(append(large, '}'))
	b := createdWith(properties...)
	tail := newTail(f.tracker, nil, nil, nil, newStreamMetrics(prometheus.NewRegistry()))
	const streams = 30
	var readers []*reader
	for i := range streams {
		var e filter.Or
		for k := 0; filter.Comparisons(e) < filter.MaxComparisons-2; k++ {
			p, _, err := filter.ParseParameter(fmt.Sprintf("properties.q%d.%d", i, k), "1")
			if err != nil {
				t.Fatal(err)
			}
			e = append(e, p.Expr)
		}
		p, _, err := filter.ParseParameter("properties.a", "7")
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, tail.readerOf(append(e, p.Expr), func() { t.Error("cut off") }))
	}
	states := tail.states(b)
	read := make([]int, len(states))
	for n, r := range readers {
		left := math.MaxInt
		if !r.take(b, states, &left, &tail.backlog) {
			t.Fatal("not taken")
		}
		for i := range states {
			now := states[i].now.Read()
			// Names are compared until there is an index of them, which is in proportion to the row.
			if bound := 20 * (len(properties[i]) + 100); n > 2 && now != read[i] || now > bound {
				t.Fatalf("stream %d reads row %d once more: %d before, %d now, of %d", n, i, read[i], now, bound)
			}
			read[i] = now
		}
		if got := said(r); len(got) != 1 {
			t.Fatalf("a stream is told %v", got)
		}
		r.at = 0
	}
	if !tail.deliver(b, 0, 0) {
		t.Fatal("not handed out")
	}
	for _, r := range readers {
		if got := said(r); len(got) != 1 {
			t.Fatalf("a stream is told %v", got)
		}
	}
}

// A stream whose filter takes more than its share of a batch is cut off as one that is too
// slow, and the others are told what they are to be told.
func TestExpensiveFilterIsCutOff(t *testing.T) {
	f := newFixture(t)
	b := createdWith(`{"note": "` + strings.Repeat("a", 100_000) + `"}`)
	tail := newTail(f.tracker, nil, nil, nil, newStreamMetrics(prometheus.NewRegistry()))
	like := func(pattern string) filter.Expr {
		l, err := filter.NewLike(filter.Property("note"), pattern)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	const expensive = 20
	cut := 0
	plain := []*reader{tail.readerOf(nil, func() { t.Error("cut off") })}
	for i := range expensive {
		tail.readerOf(like(fmt.Sprintf("%%%s_b%%%d", strings.Repeat("a", 400), i)), func() { cut++ })
		plain = append(plain, tail.readerOf(like("%aa%"), func() { t.Error("cut off") }))
	}
	if !tail.deliver(b, 0, 0) {
		t.Fatal("not handed out")
	}
	if cut != expensive || len(tail.readers) != len(plain) {
		t.Errorf("%d are cut off, %d are left", cut, len(tail.readers))
	}
	for _, r := range plain {
		if got := said(r); len(got) != 1 {
			t.Fatalf("a stream is told %v", got)
		}
	}
}
