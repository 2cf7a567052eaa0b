package projector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/bus"
	"cairn/internal/hosts"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
)

// errSilent says that the database, or the queue, left a session without an answer before
// it projected.
var errSilent = errors.New("no answer for too long: the connection may carry nothing any more")

// session connects, checks that stream and database belong together, and
// projects until something fails or ctx ends.
func (p *projector) session(ctx context.Context, reconnected <-chan struct{}) error {
	if err := p.begin(ctx); err != nil {
		return err
	}
	conn, err := p.source.connect(ctx, applicationName)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	o, err := p.open(ctx, conn)
	if err != nil {
		return err
	}
	p.resumed = true
	p.source.seen.Raise(o.lineage)
	p.lineage.Store(&o.lineage)
	w := &writer{conn: conn, at: o.at, log: p.cfg.Log, patience: fencePatience, inPlace: map[int]int{}}
	p.cfg.Log.Info("projecting", "after_sequence", o.at.sequence, "database", hosts.HostOf(conn.PgConn()), "timeline", o.lineage.Timeline)
	p.problem.Store(nil)
	p.projecting.Store(true)
	defer p.projecting.Store(false)
	p.note(func(s *state) { s.Sequence = o.at.sequence })
	return p.work(ctx, w, o.lineage, o.stream, o.consumer, reconnected)
}

// An opening is what a session projects from and to.
type opening struct {
	lineage  hosts.Lineage
	at       checkpoint
	stream   jetstream.Stream
	consumer jetstream.Consumer
}

// open finds out from where on to project, when it is this projector's turn. Its
// statements take milliseconds: one that does not end is given up, as nobody tells of a
// connection that a firewall or a proxy has forgotten.
func (p *projector) open(ctx context.Context, conn *pgx.Conn) (o opening, err error) {
	bound := cmp.Or(p.cfg.hungAfter, hungAfter)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(bound, func() { cancel(errSilent) })
	defer silent.Stop()
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), errSilent) {
			err = fmt.Errorf("%w: %w", errSilent, err)
		}
	}()
	if err := checkSchema(ctx, conn); err != nil {
		return o, err
	}
	if o.lineage, err = hosts.Of(ctx, conn.PgConn()); err != nil {
		return o, err
	}
	if err := p.await(ctx, conn, o.lineage, func() { silent.Reset(bound) }); err != nil {
		return o, err
	}
	if o.at, err = readCheckpoint(ctx, conn); err != nil {
		return o, err
	}
	o.stream, o.at, err = openStream(ctx, p.js, conn, o.at, p.cfg)
	if o.stream != nil {
		p.replicated = o.stream.CachedInfo().Config.Replicas > 1
	}
	if err != nil {
		return o, err
	}
	p.makeUploads(ctx)
	if err := p.checkGap(ctx, o.stream, o.at); err != nil {
		return o, err
	}
	resume := bus.ResumeAfter
	if p.replicated && p.resumed {
		resume = bus.ResumeAgain
	}
	o.consumer, err = resume(ctx, p.js, o.at.sequence, o.lineage.String())
	return o, err
}
