package parked

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"cairn/bus"
	"cairn/event"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
)

const (
	// retryStep is how many events are published before their outcomes are waited for:
	// a projection that takes 25 ms for a batch of others takes no longer for 100.
	retryStep = 100
	// outcomeWait bounds that wait. Where it is over once, the projection is not at work,
	// and no step behind it is waited for.
	outcomeWait = 10 * time.Second
	// maxHeard is how many announcements are kept: one may overtake the queue's answer
	// that says at which position an event is.
	maxHeard = 128
)

// Retry publishes the events again at new positions, marks the parked ones, and says
// what became of each; with replace, creations take the place of what is there, or was
// deleted. One that still cannot become a row is parked again. One whose point was
// deleted changes nothing, and stays parked. The error says how many did not go in.
//
// If it is ended half-way, the next retry may publish some a second time, which their
// ids make harmless.
func Retry(ctx context.Context, conn *pgx.Conn, nc *nats.Conn, collector *bus.Collector, which Which, replace bool, out io.Writer) error {
	events, err := find(ctx, conn, which)
	if err != nil {
		return err
	}
	w := &watch{open: map[event.Position]bool{}, more: make(chan struct{}, 1)}
	if err := bus.OnApplied(nc, w.hear); err != nil {
		return fmt.Errorf("listen to the projection: %w", err)
	}
	if err := nc.FlushTimeout(outcomeWait); err != nil {
		return fmt.Errorf("listen to the projection: %w", err)
	}
	r := retry{conn: conn, collector: collector, watch: w, replace: replace, patience: outcomeWait, out: out}
	for step := range slices.Chunk(events, retryStep) {
		if err := r.step(ctx, step); err != nil {
			return err
		}
	}
	return r.err(len(events))
}

type retry struct {
	conn      *pgx.Conn
	collector *bus.Collector
	watch     *watch
	replace   bool
	patience  time.Duration
	out       io.Writer

	again, deleted int // of those published: parked again, and of deleted points
}

// step publishes some events, and marks them by their outcomes.
func (r *retry) step(ctx context.Context, events []entry) error {
	positions := make([]event.Position, 0, len(events))
	var failed error
	for _, e := range events {
		line := e.Event
		if r.replace {
			line = asPut(line)
		}
		p, err := publish(ctx, r.collector, line)
		if err != nil { // what was published before is marked all the same
			failed = fmt.Errorf("publish the event of position %d again: %w", e.Position, err)
			break
		}
		r.watch.add(p)
		positions = append(positions, p)
	}
	waiting, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	outcomes := r.watch.wait(waiting)
	if waiting.Err() != nil {
		r.patience = 0
	}
	for i, p := range positions {
		outcome := outcomes[p]
		if outcome == bus.OutcomeLate {
			r.deleted++
			fmt.Fprintf(r.out, "%d stays parked: its point was deleted, and a late creation does not bring it back; --replace does\n", events[i].Position)
			continue
		}
		_, err := r.conn.Exec(ctx, `update parked set resolved_at = now(), resolved_position = $2 where position = $1`, events[i].Position, int64(p))
		if err != nil {
			return fmt.Errorf("mark position %d: %w", events[i].Position, err)
		}
		if outcome.Parked() {
			r.again++
		}
		fmt.Fprintf(r.out, "%d is published again at %d%s\n", events[i].Position, p, told(outcome))
	}
	return failed
}

// told says what became of an event that was published again; "" is not known.
func told(o bus.Outcome) string {
	switch {
	case o == "":
		return "; what became of it was not heard"
	case o.Parked():
		return ", and parked there again: " + string(o)
	}
	return ": " + string(o)
}

func (r *retry) err(all int) error {
	if r.again+r.deleted == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d did not go in: %d parked again, %d of deleted points", r.again+r.deleted, all, r.again, r.deleted)
}

// asPut makes a creation one that takes the place of what is there, or was deleted. Any
// other event stays as it is.
func asPut(line []byte) []byte {
	var d event.Decoder
	var e event.Event
	if err := d.Event(line, &e); err != nil || e.Type != event.Created {
		return line // one that cannot be read is parked again
	}
	e.Type, e.If = event.Put, event.Condition{}.Within(e.If.Area())
	return bytes.TrimSuffix(event.AppendEvent(nil, &e), []byte{'\n'})
}

func publish(ctx context.Context, collector *bus.Collector, line []byte) (event.Position, error) {
	b := bus.NewBatch()
	defer b.Release()
	b.Lines, b.Count = append(append(b.Lines, line...), '\n'), 1
	if err := collector.Enqueue(ctx, b); err != nil {
		return 0, err
	}
	return b.Wait()
}

// A watch hears what becomes of events.
type watch struct {
	mu    sync.Mutex
	heard []bus.Applied // the last of those about a batch, oldest first
	open  map[event.Position]bool
	known map[event.Position]bus.Outcome
	more  chan struct{} // holds one: none is open any more
}

func (w *watch) hear(a bus.Applied) {
	if a.First == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heard) == maxHeard {
		w.heard = slices.Delete(w.heard, 0, 1)
	}
	w.heard = append(w.heard, a)
	for p := range w.open {
		w.take(&a, p)
	}
}

// take notes what the announcement says of the position, or that its own was lost.
func (w *watch) take(a *bus.Applied, p event.Position) {
	outcome, known := a.Outcome(p)
	switch {
	case known:
		w.known[p] = outcome
	case p.Sequence() > a.Sequence:
		return
	}
	delete(w.open, p)
	if len(w.open) == 0 {
		select {
		case w.more <- struct{}{}:
		default:
		}
	}
}

// add asks for the outcome of an event, which may have been announced already.
func (w *watch) add(p event.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil {
		w.known = map[event.Position]bus.Outcome{}
	}
	w.open[p] = true
	for i := range w.heard {
		if w.open[p] && w.heard[i].Sequence >= p.Sequence() {
			w.take(&w.heard[i], p)
		}
	}
}

// wait returns the outcomes of all that was added since the last wait, as far as they
// are known when ctx ends.
func (w *watch) wait(ctx context.Context) map[event.Position]bus.Outcome {
	for {
		w.mu.Lock()
		if len(w.open) == 0 || ctx.Err() != nil {
			known := w.known
			clear(w.open)
			w.known = nil
			w.mu.Unlock()
			return known
		}
		w.mu.Unlock()
		select {
		case <-w.more:
		case <-ctx.Done():
		}
	}
}
