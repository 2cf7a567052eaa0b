package ingest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn/bus"
	"cairn/event"
	"cairn/ingest/format"
	"cairn/internal/web"
)

// manyRows are rows with the ids 1 to n.
func manyRows(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(feature(fmt.Sprint(i+1), "null") + "\n")
	}
	return b.String()
}

// wantIDs checks that the stored points are just these, in order.
func wantIDs(t *testing.T, q *fakeQueue, from, to int) {
	t.Helper()
	events := q.events(t)
	if len(events) != to-from+1 {
		t.Fatalf("%d points stored, want %d", len(events), to-from+1)
	}
	for i, e := range events {
		if string(e.Point.ExternalID) != fmt.Sprint(from+i) {
			t.Fatalf("point %d has the id %s", from+i, e.Point.ExternalID)
		}
	}
}

func TestQueueRecovers(t *testing.T) {
	for _, failure := range []error{bus.ErrFull, bus.ErrUnavailable, bus.ErrUncertain} {
		q := &fakeQueue{fail: func(attempt int) error {
			if attempt == 5 || attempt == 6 { // the last batch, twice
				return failure
			}
			return nil
		}}
		a := post(t, serve(t, q, testLimits()), "/point", ndjson, manyRows(4500))
		a.want(t, http.StatusAccepted, `{"accepted":4500,"rejected":0,"position":`+fmt.Sprint(event.At(5, 499))+`}`)
		wantIDs(t, q, 1, 4500)
	}
}

// A batch in the middle fails: those behind it were on their way, it follows.
func TestQueueRecoversInTheMiddle(t *testing.T) {
	q := &fakeQueue{fail: func(attempt int) error {
		if attempt == 2 {
			return bus.ErrFull
		}
		return nil
	}}
	a := post(t, serve(t, q, testLimits()), "/point", ndjson, manyRows(9000))
	a.want(t, http.StatusAccepted, `"accepted":9000`)
	seen := map[string]bool{}
	for _, e := range q.events(t) {
		seen[string(e.Point.ExternalID)] = true
	}
	if len(seen) != 9000 || len(q.lines) != 9000 {
		t.Errorf("%d points, %d of them different", len(q.lines), len(seen))
	}
}

// The queue ends for good: the answer says exactly what is stored.
func TestQueueGone(t *testing.T) {
	q := &fakeQueue{fail: func(attempt int) error {
		switch {
		case attempt <= 3:
			return nil
		case attempt == 5:
			return bus.ErrUncertain
		}
		return bus.ErrFull
	}}
	address := serve(t, q, testLimits())
	body := "bad\n" + manyRows(20000)
	a := post(t, address, "/point", ndjson, body, "Idempotency-Key", "k")
	a.want(t, http.StatusServiceUnavailable,
		`"accepted":3000`, `"rejected":1`, `"row":1,"reason"`, fmt.Sprintf(`"position":%d`, event.At(3, 999)),
		`"uncertain":[{"first":4002,"last":5001}]`, "same Idempotency-Key")
	if a.header.Get("Retry-After") != "10" {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	wantIDs(t, q, 1, 3000)

	q.fail = nil
	post(t, address, "/point", ndjson, body, "Idempotency-Key", "k").want(t, http.StatusAccepted, `"accepted":20000`)
}

// The retry of an upload without ids of its own makes the same points.
func TestRetryIsExact(t *testing.T) {
	q := &fakeQueue{fail: func(attempt int) error {
		if attempt > 2 {
			return bus.ErrUnavailable
		}
		return nil
	}}
	address := serve(t, q, testLimits())
	body := strings.Repeat(feature("", "null")+"\n", 5000)
	post(t, address, "/point", ndjson, body, "Idempotency-Key", "k").want(t, http.StatusServiceUnavailable, `"accepted":2000`)
	q.fail = nil
	post(t, address, "/point", ndjson, body, "Idempotency-Key", "k").want(t, http.StatusAccepted, `"accepted":5000`)
	ids := map[string]int{}
	for _, e := range q.events(t) {
		ids[e.ID.String()]++
	}
	if len(q.lines) != 7000 || len(ids) != 5000 {
		t.Errorf("%d events of %d points", len(q.lines), len(ids))
	}
	a := post(t, address, "/point", ndjson, body)
	a.want(t, http.StatusAccepted)
	q.fail = func(int) error { return bus.ErrFull }
	post(t, address, "/point", ndjson, body).want(t, http.StatusServiceUnavailable, "without an Idempotency-Key")
}

// A queue that stalls for a while gets the same bytes repeatedly,
// and each success starts the clock again.
func TestQueueCrawls(t *testing.T) {
	q := &fakeQueue{fail: func(attempt int) error {
		if attempt%2 == 0 {
			return bus.ErrUncertain
		}
		return nil
	}}
	post(t, serve(t, q, testLimits()), "/point", ndjson, manyRows(8000)).want(t, http.StatusAccepted, `"accepted":8000`)
}

// A full channel in front of the collector is no different.
type noRoom struct{ fakeQueue }

func (*noRoom) Enqueue(ctx context.Context, _ *bus.Batch) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestNoRoom(t *testing.T) {
	l := testLimits()
	l.queueStall = 30 * time.Millisecond
	a := post(t, serve(t, &noRoom{}, l), "/point", ndjson, manyRows(10))
	a.want(t, http.StatusServiceUnavailable, `"accepted":0`)
}

// At a stop an upload hands over what it has read, and says how far it got.
func TestStopEndsUploads(t *testing.T) {
	l := testLimits()
	l.queueStall = time.Hour
	for name, full := range map[string]bool{"reading": false, "waiting": true} {
		ctx, stop := context.WithCancel(context.Background())
		h := testHandler(&fakeQueue{fail: func(int) error {
			stop()
			if full {
				return bus.ErrFull
			}
			return nil
		}})
		h.stop, h.limits = ctx, l
		u := &upload{h: h}
		rows, err := format.Open(bufio.NewReader(strings.NewReader(manyRows(5000))), format.Lines, format.Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = u.run(rows)
		var p *web.Problem
		switch {
		case full && (!errors.Is(err, errStuck) || !errors.Is(err, bus.ErrFull)):
			t.Errorf("%s: %v", name, err)
		case !full && (!errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || u.accepted != 1000):
			t.Errorf("%s: %v, %d accepted", name, err, u.accepted)
		}
		u.release()
	}
}
