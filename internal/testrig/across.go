package testrig

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Across is how to write at several servers that take the same points: what one does
// not take goes to the next, as a load balancer or a sensible client sends it.
type Across struct {
	Bases   []string
	Writers int
	// Padding makes the points larger, by so many bytes.
	Padding int
	// Pause is between two points of a writer.
	Pause time.Duration
	// Attempt bounds one attempt: a server that is stopped answers nothing.
	Attempt time.Duration
	// Heard, if not nil, is called after each attempt.
	Heard func(began time.Time, a Answer, acked bool)
}

// WriteAcross is Write at several servers.
func (l *Ledger) WriteAcross(a Across) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for w := range a.Writers {
		group.Go(func() {
			writer := fmt.Sprintf("%s-%d", l.Prefix, w)
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("%s-%d", writer, n)
				p := NewPoint(name).Called(name, false)
				p.Padding = a.Padding
				l.writeAcross(ctx, &a, w+n, writer, NewRequest(FormPoint, "", p))
				_ = Pause(ctx, a.Pause)
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

func (l *Ledger) writeAcross(ctx context.Context, a *Across, first int, writer string, r *Request) {
	l.Sending(r)
	t := &Turn{Writer: writer, Request: r}
	defer func() { l.Ended(t) }()
	for ctx.Err() == nil {
		base := a.Bases[(first+t.Attempts)%len(a.Bases)]
		t.Attempts++
		began := time.Now()
		once, cancel := context.WithTimeout(ctx, a.Attempt)
		answer, err := Do(once, http.MethodPost, base+r.Path, r.Media, bytes.NewReader(r.Body))
		cancel()
		ended := err == nil && l.note(t, answer)
		if a.Heard != nil {
			a.Heard(began, answer, t.Acked)
		}
		if ended {
			return
		}
		_ = Pause(ctx, retryPause)
	}
}
