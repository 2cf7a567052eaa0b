package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// rowsSeed makes every run's rows the same.
	rowsSeed = 20
	// uploadRows are in one POST: seconds of work for the projector.
	uploadRows = 100_000
	// rowBytes is about what a row has as NDJSON.
	rowBytes = 200
	// rareEvery: one row in so many has a rare name, of which there are rareNames.
	rareEvery, rareNames = 20_000, 50
	// vehicles are in each town.
	vehicles = 40
	// rowEvery is the time between a row and the next: five million are a year.
	rowEvery = 6300 * time.Millisecond
	// jitter is the standard deviation of a row's time: trackers report late.
	jitter = 6 * time.Hour
)

// firstTime is the first row's.
var firstTime = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)

// rowTime is about when row n was observed.
func rowTime(n int) time.Time { return firstTime.Add(time.Duration(n) * rowEvery) }

// A rowWriter writes rows around towns, always the same ones.
type rowWriter struct {
	rng *rand.Rand
	n   int // rows so far
}

func newRowWriter() *rowWriter { return &rowWriter{rng: rand.New(rand.NewPCG(rowsSeed, 1))} }

// body is the next rows as NDJSON, with these members before the others in each.
func (w *rowWriter) body(rows int, members string) *bytes.Buffer {
	b := &bytes.Buffer{}
	b.Grow(rows * rowBytes)
	for range rows {
		w.row(b, members)
	}
	return b
}

// replacing is rows as NDJSON, one for each id: one in every has the id and replaces
// that row, the others are new.
func (w *rowWriter) replacing(ids []string, every int) *bytes.Buffer {
	b := &bytes.Buffer{}
	b.Grow(len(ids) * rowBytes)
	for i, id := range ids {
		members := ""
		if i%every == 0 {
			members = fmt.Sprintf(`"id":%q,`, id)
		}
		w.row(b, members)
	}
	return b
}

func (w *rowWriter) row(b *bytes.Buffer, members string) {
	t := anyTown(w.rng)
	longitude, latitude := t.near(w.rng)
	name := fmt.Sprintf("%s %d", t.name, w.rng.IntN(vehicles))
	if w.n%rareEvery == 0 {
		name = rareName(w.n / rareEvery)
	}
	at := rowTime(w.n).Add(time.Duration(w.rng.NormFloat64() * float64(jitter))).Format("2006-01-02T15:04:05Z")
	fmt.Fprintf(b, `{%s"longitude":%.6f,"latitude":%.6f,"name":%q,"time":%q,"properties":{"speed":%d,"heading":%d,"battery":%d}}`+"\n",
		members, longitude, latitude, name, at, w.rng.IntN(130), w.rng.IntN(360), w.rng.IntN(101))
	w.n++
}

func rareName(n int) string { return fmt.Sprintf("lighthouse tender %d", n%rareNames) }
