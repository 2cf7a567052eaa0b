package faults

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"cairn/event"

	"github.com/google/uuid"

	"cairn/internal/testrig"
)

const (
	// singlePause and bulkPause come after each request of a writer: some
	// hundreds of points a second in all, for the harness is about what is
	// right, not about what is fast.
	singlePause = 20 * time.Millisecond
	bulkPause   = 120 * time.Millisecond
	// smallBulk and largeBulk bound the rows of a body; one in largeEvery is
	// large: several envelopes.
	smallBulk, largeBulk, largeEvery = 60, 2500, 80
	// againEvery is how many acknowledged requests there are to one that is
	// sent again.
	againEvery = 15
)

// A writer sends one request after the other in its own way.
type writer struct {
	name string
	bulk bool
	once bool // it has neither ids nor keys
	// make fills the point that comes next.
	next func(w *writer, c *client, unique string) *testrig.Request
}

// writers are the ways that clients write.
var writers = []writer{
	{name: "text-ids", next: func(_ *writer, _ *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormPoint, "", testrig.NewPoint(u).Called("p-"+u, false))
	}},
	{name: "uuids", next: func(_ *writer, _ *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormPoint, "", testrig.NewPoint(u).Called(uuid.NewSHA1(uuid.Nil, []byte(u)).String(), false))
	}},
	{name: "features", next: func(_ *writer, c *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormFeature, "", testrig.NewPoint(u).Called(c.s.number(), true))
	}},
	{name: "keys", next: func(_ *writer, _ *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormPoint, "key-"+u, testrig.NewPoint(u).Keyed(event.OnePoint, "key-"+u, 1))
	}},
	{name: "bare", once: true, next: func(_ *writer, _ *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormPoint, "", testrig.NewPoint(u))
	}},
	{name: "ndjson-ids", bulk: true, next: func(_ *writer, c *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormNDJSON, "", c.many(u, func(p *testrig.Point, _ int) { p.Called("p-"+p.Name, false) })...)
	}},
	{name: "ndjson-key", bulk: true, next: func(_ *writer, c *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormNDJSON, "key-"+u, c.many(u, func(p *testrig.Point, row int) { p.Keyed(event.Upload, "key-"+u, row) })...)
	}},
	{name: "csv-key", bulk: true, next: func(_ *writer, c *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormCSV, "key-"+u, c.many(u, func(p *testrig.Point, row int) { p.Keyed(event.Upload, "key-"+u, row) })...)
	}},
	{name: "csv-ids", bulk: true, next: func(_ *writer, c *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormCSV, "", c.many(u, func(p *testrig.Point, _ int) { p.Called("p-"+p.Name, false) })...)
	}},
	{name: "collection", bulk: true, next: func(_ *writer, c *client, u string) *testrig.Request {
		return testrig.NewRequest(testrig.FormCollection, "key-"+u, c.many(u, func(p *testrig.Point, row int) { p.Keyed(event.Upload, "key-"+u, row) })...)
	}},
}

// many makes the points of one body.
func (c *client) many(unique string, name func(p *testrig.Point, row int)) []*testrig.Point {
	n := 1 + c.rng.IntN(smallBulk)
	if c.rng.IntN(largeEvery) == 0 {
		n = largeBulk/2 + c.rng.IntN(largeBulk/2)
	}
	points := make([]*testrig.Point, n)
	for i := range points {
		points[i] = testrig.NewPoint(unique + "." + strconv.Itoa(i+1))
		name(points[i], i+1)
	}
	return points
}

// number is an id that no other point of the system has.
func (s *system) number() string { return strconv.FormatInt(1_000_000+s.serial.Add(1), 10) }

// writing starts all writers. The result tells them to send nothing new and
// waits until all they have sent is answered for good, or ctx ends.
func (s *system) writing(ctx context.Context, round int, seed uint64) (finish func()) {
	enough := make(chan struct{})
	var group sync.WaitGroup
	for i, w := range writers {
		c := newClient(s, seed+uint64(i))
		group.Go(func() {
			defer c.http.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				select {
				case <-enough:
					return
				default:
				}
				s.write(ctx, c, &w, fmt.Sprintf("%s.r%d.%s.%d", s.name, round, w.name, n))
			}
		})
	}
	return func() {
		close(enough)
		group.Wait()
	}
}

func (s *system) write(ctx context.Context, c *client, w *writer, unique string) {
	r := w.next(w, c, unique)
	t := c.send(ctx, w.name, r, w.once)
	if t.Acked && !w.once && c.rng.IntN(againEvery) == 0 {
		c.again(ctx, r)
	}
	rest := singlePause
	if w.bulk {
		rest = bulkPause
	}
	_ = testrig.Pause(ctx, rest)
}
