// Package projector turns the stream's envelopes into rows. It stands between
// bus and the database and is the only writer of points.
//
// Each event is applied exactly once, in the stream's order: a batch's rows and
// its checkpoint are one transaction, whose first statement moves the
// checkpoint only from where this projector read it. Whatever fails — the
// broker, Postgres, this process — ends the session; the next one reads the
// checkpoint and continues after it. There is no other state.
//
// Two projectors at once are harmless: one waits for the other to end, and if both
// should work, the checkpoint's condition makes one of them roll back and read again.
package projector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"cairn/bus"
	"cairn/internal/hosts"
	"cairn/internal/web"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

const (
	// commitInterval is the least time from one commit to the next, unless a
	// batch is full: the readers' caches live that long, and a point is visible
	// within twice that.
	commitInterval = 25 * time.Millisecond
	// applyTimeout bounds one batch. It is a hundred times what a full batch
	// takes; a connection that stalls longer is given up.
	applyTimeout = 60 * time.Second
	// stopTimeout bounds the last batch after the stop.
	stopTimeout = 10 * time.Second
	// rollbackTimeout bounds a rollback; after it the connection is closed.
	rollbackTimeout = 5 * time.Second
	// fencePatience is how long we wait for another transaction to drop
	// the checkpoint before we end its backend: no batch of ours takes as long,
	// and a projector that was stopped in the middle of one never ends on its own.
	fencePatience = 10 * time.Second
	// connectTimeout bounds an attempt to reach Postgres.
	connectTimeout = 5 * time.Second
	// pauseMin and pauseMax bound the pause after a session that failed.
	pauseMin, pauseMax = 100 * time.Millisecond, 2 * time.Second
	// mismatchPause is the pause while stream and database do not belong
	// together: only a person's act changes that.
	mismatchPause = 2 * time.Second
	// Where the stream has several copies its leader changes, and nobody answers
	// meanwhile: replicatedPause bounds the pause then, and replicatedTimeout a
	// request to a leader that may be dead.
	replicatedPause   = 500 * time.Millisecond
	replicatedTimeout = 2 * time.Second
	// leadEvery is how often a projector looks whether it is its turn, where every
	// node has one.
	leadEvery = 250 * time.Millisecond
)

// Config says what to connect.
type Config struct {
	Server      *web.Server
	Bus         bus.Endpoint
	DatabaseURL string
	// MaxBytes bounds the stream, should it have to be created, as the disk of this
	// process allows; WantBytes is what is asked for, where the queue's own nodes say
	// what their disks allow. 0: MaxBytes is all there is to say.
	MaxBytes, WantBytes int64
	// Replicas is how many copies of the stream there are to be; 0: as many as the
	// queue in this process keeps, else one.
	Replicas int
	// Replay says how much of what is projected the stream keeps.
	Replay ReplayWindow
	// Keep is how long points are kept after they came in; 0: forever.
	Keep time.Duration
	// TrimStandbys says which standbys must have what is trimmed.
	TrimStandbys TrimStandbys
	// HookNetworks are where hooks may send to beside public addresses.
	HookNetworks []netip.Prefix
	Log          *slog.Logger

	sizes     segmentSizes  // of tests; else the usual ones
	hungAfter time.Duration // of tests; else the usual one
	batchRows int           // of tests; else maxBatchRows
}

func (c Config) replicas() int { return max(c.Replicas, c.Bus.Replicas(), 1) }

// Run projects until ctx ends, then finishes the current batch. Where continuing
// would break a guarantee (a [*Mismatch]) it does not continue: it says so in the
// log, in /status and by /readyz, and looks again every mismatchPause, until a
// person has decided.
func Run(ctx context.Context, cfg Config) error {
	from := source{url: cfg.DatabaseURL, seen: &hosts.Seen{}}
	p := &projector{cfg: cfg, metrics: newMetrics(cfg.Server.Registry()), source: from, several: from.several(),
		standbys: &standbys{want: cfg.TrimStandbys, log: cfg.Log, source: from, known: map[string]standby{}}}
	defer p.standbys.end()
	registerState(cfg.Server.Registry(), p)
	p.maintenance = newMaintenance(cfg, from, newSegmentMetrics(cfg.Server.Registry()))
	p.maintenance.behind = p.behind
	reconnected := make(chan struct{}, 1)
	nc, err := bus.Connect(cfg.Bus, cfg.Log, nats.ReconnectHandler(func(*nats.Conn) {
		select {
		case reconnected <- struct{}{}:
		default:
		}
	}))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, p.timeout())
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	p.nc, p.js = nc, js
	end, err := p.serve(ctx)
	if err != nil {
		return err
	}
	defer end()
	cfg.Server.Mount(p.role())
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { p.maintenance.only(sealing).run(ctx) })
	group.Go(func() { p.maintenance.only(shaping).run(ctx) })
	group.Go(func() { p.hooks.run(ctx) })

	pause := pauseMin
	for ctx.Err() == nil {
		if !cfg.Bus.Leads() {
			p.problem.Store(nil)
			p.metrics.behind.Set(0) // another node's to tell
			rest(ctx, leadEvery)
			continue
		}
		select {
		case <-reconnected: // before this session: it has nothing to lose
		default:
		}
		began := time.Now()
		err := p.believe(p.session(ctx, reconnected))
		if ctx.Err() != nil {
			break
		}
		p.metrics.sessions.Inc()
		if time.Since(began) > pauseMax {
			pause = pauseMin
		}
		p.interrupted(err, pause)
		p.leave(err)
		var stop *Mismatch
		if errors.As(err, &stop) {
			pause = mismatchPause
		}
		rest(ctx, pause)
		pause = min(2*pause, p.pauseMax(err))
	}
	return nil
}

// serve answers ingest, and prepares what sends to hooks, on connections of their own.
func (p *projector) serve(ctx context.Context) (end func(), err error) {
	reads, err := serveReads(ctx, p.nc, p.source)
	if err != nil {
		return nil, err
	}
	k := changeServer{pool: reads, networks: p.cfg.HookNetworks}
	if err = k.serve(ctx, p.nc); err == nil {
		p.hooks, err = p.newDeliverer(ctx, p.source)
	}
	if err != nil {
		reads.Close()
		return nil, err
	}
	return func() { p.hooks.pool.Close(); reads.Close() }, nil
}

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// timeout bounds requests to the queue that have no bound of their own: by the
// client's default, or shorter where there is another server to ask.
func (p *projector) timeout() jetstream.JetStreamOpt {
	if p.cfg.replicas() > 1 || p.cfg.Bus.Several() {
		return jetstream.WithDefaultTimeout(replicatedTimeout)
	}
	return jetstream.WithDefaultTimeout(defaultTimeout)
}

// defaultTimeout is that of the client of JetStream.
const defaultTimeout = 5 * time.Second

func (p *projector) pauseMax(err error) time.Duration {
	var unreached *pgconn.ConnectError
	switch {
	case p.several && errors.As(err, &unreached):
		return severalPause
	case p.replicated:
		return replicatedPause
	}
	return pauseMax
}

// leave goes to another node where this one does not lead to whoever leads the stream:
// it may be cut off from the others.
func (p *projector) leave(err error) {
	if !p.replicated || !p.cfg.Bus.Several() || !bus.Unanswered(err) {
		return
	}
	if err := p.nc.ForceReconnect(); err != nil {
		p.cfg.Log.Debug("go to another node", "error", err)
	}
}

// believe takes a mismatch for one only when it is seen twice in a row, where the
// stream has several copies: a leader that was just elected may not know yet all that
// it has.
func (p *projector) believe(err error) error {
	var stop *Mismatch
	if !errors.As(err, &stop) || !p.replicated && p.cfg.replicas() == 1 {
		p.suspected = false
		return err
	}
	if !p.suspected {
		p.suspected = true
		return fmt.Errorf("looking again: %s", stop.What)
	}
	return err
}

// interrupted notes why a session ended; the same reason again is logged as
// debug only.
func (p *projector) interrupted(err error, pause time.Duration) {
	before := p.problem.Swap(&err)
	var stop *Mismatch
	switch {
	case before != nil && (*before).Error() == err.Error():
		p.cfg.Log.Debug("projection interrupted again", "error", err)
	case errors.As(err, &stop):
		p.cfg.Log.Error("projection stopped: a person has to decide", "error", err)
	default:
		p.cfg.Log.Warn("projection interrupted; trying again", "error", err, "pause", pause)
	}
}

type projector struct {
	cfg     Config
	nc      *nats.Conn
	js      jetstream.JetStream
	metrics metrics
	source  source
	several bool // the database is several servers
	// standbys are those of the primary that is projected to.
	standbys *standbys
	hooks    *deliverer
	// maintenance works beside the projection, on the same tables.
	maintenance *maintenance
	state       atomic.Pointer[state]
	problem     atomic.Pointer[error] // why the last session ended, until one works
	gapAt       uint64                // the message that the consumer passed over; 0: none
	replicated  bool                  // the stream has several copies
	suspected   bool                  // the last session met a mismatch
	uploads     bool                  // the bucket of uploads is there
	resumed     bool                  // the consumer was there
	projecting  atomic.Bool           // a session is at work
	rate        rate
	lastFull    atomic.Int64 // when a full batch was applied, in nanoseconds since 1970
	lineage     atomic.Pointer[hosts.Lineage]
	backend     uint32        // of the last connection that had the turn
	met         hosts.Lineage // a later primary than the one that was projected to
	metAt       time.Time
}

// makeUploads makes the bucket of uploads, once there is a stream: what a cluster
// adopts brings its own along.
func (p *projector) makeUploads(ctx context.Context) {
	if p.uploads {
		return
	}
	if err := bus.CreateUploads(ctx, p.js, p.cfg.replicas()); err != nil {
		p.cfg.Log.Warn("uploads with an Idempotency-Key will not be remembered", "error", err)
		return
	}
	p.uploads = true
}

// work projects what the consumer hands out, from where the writer is, until something
// fails or ctx ends.
func (p *projector) work(ctx context.Context, w *writer, lineage hosts.Lineage, stream jetstream.Stream, consumer jetstream.Consumer, reconnected <-chan struct{}) error {
	begun := w.at.sequence // the writer moves on
	e := &progress{}
	e.taken.Store(begun)
	messages, full, any := make(chan jetstream.Msg), make(chan *batch), make(chan *batch)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return fetch(ctx, consumer, p.pull(), messages, e) })
	group.Go(func() error { return build(ctx, begun, cmp.Or(p.cfg.batchRows, maxBatchRows), messages, full, any, e) })
	group.Go(func() error { return p.write(ctx, w, full, any) })
	group.Go(func() error { return p.housekeeping(ctx, stream, e) })
	group.Go(func() error {
		select {
		case <-reconnected:
			return errors.New("the connection to NATS was lost and is back: checking the stream again")
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	group.Go(func() error { return p.turn(ctx) })
	group.Go(func() error { return p.follow(ctx, w.conn, lineage) })
	err := group.Wait()
	var passed gap
	if errors.As(err, &passed) {
		p.gapAt = uint64(passed)
	}
	return err
}

// turn ends with an error when another node is to project.
func (p *projector) turn(ctx context.Context) error {
	ticker := time.NewTicker(leadEvery)
	defer ticker.Stop()
	for p.cfg.Bus.Leads() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return errors.New("another node leads the stream, and projects")
}
