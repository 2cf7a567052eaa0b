package projector

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"time"

	"cairn/event"
	"cairn/fence"
	"cairn/hook"
	"cairn/internal/hosts"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Hooks are sent fences' events from the table that the batches write them to, so that
// a process that dies between a crossing and its delivery loses nothing. Each hook has a sender
// of its own, that keeps how far it has come, and beside that what was not taken at the
// first attempt: a receiver that is slow or away delays no other, and one message that
// it does not take delays none behind it.
//
// What was sent is noted after it was: a process that dies in between sends it again,
// under the same id. So does another projector that is at work without knowing it.

const (
	// hookWindow is how many crossings a sender looks at, at once: a receiver that answers
	// within a millisecond is sent some 4,000 a second.
	hookWindow = 256
	// hookEvery is how often it looks where nobody told it that there is something.
	hookEvery = time.Second
	// hookPace is the least time between two looks, which what comes with a crossing has
	// to come, too: as many hooks as there may be are bounded by hookConnections.
	hookPace = 10 * time.Millisecond
	// hookDay is how long a message is tried, from the crossing on.
	hookDay = 24 * time.Hour
	// retryFirst is the wait after the first attempt; it quadruples up to retryMost.
	retryFirst, retryMost = 5 * time.Second, 4 * time.Hour
	// restFirst is how long a hook rests of which all that was tried failed; it doubles up
	// to restMost, and only one message is tried between two rests.
	restFirst, restMost = time.Second, time.Minute
	// hookConnections bounds the connections to the database for all of it.
	hookConnections = 4
	// hookStatement bounds one of its statements.
	hookStatement = 10 * time.Second
)

// A deliverer runs the senders.
type deliverer struct {
	pool    *pgxpool.Pool
	sender  *hook.Sender
	log     *slog.Logger
	metrics hookMetrics
	wake    chan struct{} // holds one: there are crossings
	working func() bool   // it is this process' turn
	keep    time.Duration // how long crossings are kept
}

type hookMetrics struct {
	attempts *prometheus.CounterVec
	delay    prometheus.Histogram
	open     *prometheus.GaugeVec
}

func newHookMetrics(r prometheus.Registerer) hookMetrics {
	m := hookMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cairn_hook_messages_total", Help: "Messages to hooks: delivered, failed attempts, and given up (dead)."}, []string{"outcome"}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cairn_hook_delay_seconds", Help: "Time from the crossing's commit to its delivery.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 5, 60, 3600}}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cairn_hook_retries", Help: "Messages that hooks did not take: waiting for another attempt, and given up (dead)."}, []string{"state"}),
	}
	r.MustRegister(m.attempts, m.delay, m.open)
	for _, outcome := range []string{"delivered", "failed", "dead"} {
		m.attempts.WithLabelValues(outcome)
	}
	return m
}

func (p *projector) newDeliverer(ctx context.Context, from source) (*deliverer, error) {
	cfg, err := pgxpool.ParseConfig(from.url)
	if err != nil {
		return nil, fmt.Errorf("read the database URL: %w", err)
	}
	cfg.MaxConns, cfg.MinConns = hookConnections, 0
	hosts.ToWrite(&cfg.ConnConfig.Config, applicationName+"-hooks", connectTimeout, from.seen)
	pool, err := pgxpool.NewWithConfig(ctx, cfg) // makes no connection yet
	if err != nil {
		return nil, fmt.Errorf("prepare database connections: %w", err)
	}
	return &deliverer{pool: pool, sender: hook.NewSender(p.cfg.HookNetworks, p.cfg.Server.Version()), log: p.cfg.Log, metrics: newHookMetrics(p.cfg.Server.Registry()),
		wake: make(chan struct{}, 1), working: p.projecting.Load, keep: p.cfg.Keep}, nil
}

// notify says that there are crossings.
func (d *deliverer) notify() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends.
func (d *deliverer) run(ctx context.Context) {
	var number int64 = -1
	running := map[string]*hookSender{}
	stop := func() {
		for id, s := range running {
			s.end()
			delete(running, id)
		}
		number = -1
	}
	defer stop()
	ticker := time.NewTicker(hookEvery)
	defer ticker.Stop()
	for rounds := 0; ; rounds++ {
		if !d.working() {
			stop()
		} else if err := d.round(ctx, &number, running, rounds); err != nil && ctx.Err() == nil {
			d.log.Warn("hooks wait for the database", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-ticker.C:
		}
		for _, s := range running {
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
	}
}

// tidyRounds is how often the table of crossings is looked at for what is to go: some
// ten seconds.
const tidyRounds = 10

// round follows the list of hooks, and at times clears up.
func (d *deliverer) round(ctx context.Context, number *int64, running map[string]*hookSender, rounds int) error {
	ctx, cancel := context.WithTimeout(ctx, hookStatement)
	defer cancel()
	var now int64
	if err := d.pool.QueryRow(ctx, `select fences from checkpoint`).Scan(&now); err != nil {
		return err
	}
	if now != *number {
		if err := d.follow(ctx, running); err != nil {
			return err
		}
		*number = now
	}
	if rounds%tidyRounds != 0 {
		return nil
	}
	return d.tidy(ctx)
}

// follow starts and ends senders as the list of hooks says.
func (d *deliverer) follow(ctx context.Context, running map[string]*hookSender) error {
	rows, err := d.pool.Query(ctx, `select h.id, h.revision, h.definition, s.secret from hooks h join hook_secrets s on s.hook = h.id where not h.gone`)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	var id, definition, secret string
	var revision int64
	_, err = pgx.ForEachRow(rows, []any{&id, &revision, &definition, &secret}, func() error {
		if there[id] = true; running[id] != nil && running[id].revision == revision {
			return nil
		}
		h, err := hook.Parse(id, []byte(definition))
		if err != nil {
			d.log.Error("a hook cannot be read, and is told nothing", "hook", id, "error", err)
			return nil
		}
		if running[id] != nil {
			running[id].end()
		}
		h.Secret = secret
		running[id] = d.start(h, revision)
		return nil
	})
	for id, s := range running {
		if err == nil && !there[id] {
			s.end()
			delete(running, id)
		}
	}
	return err
}

// A hookSender sends what one hook is to be told.
type hookSender struct {
	*deliverer
	hook     *hook.Hook
	revision int64
	wake     chan struct{}
	end      func() // and waits for it
	failing  int    // how many rounds in a row have failed
}

func (d *deliverer) start(h *hook.Hook, revision int64) *hookSender {
	s := &hookSender{deliverer: d, hook: h, revision: revision, wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	s.end = func() { cancel(); <-ended }
	go func() { defer close(ended); s.run(ctx) }()
	return s
}

func (s *hookSender) run(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := s.round(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, errHookChanged):
			return
		case err != nil:
			s.log.Warn("a hook waits for the database", "hook", s.hook.ID, "error", err)
			rest(ctx, hookEvery)
		case s.failing > 0:
			rest(ctx, min(restFirst<<min(s.failing-1, 10), restMost))
		case more:
			rest(ctx, hookPace)
		default:
			select {
			case <-ctx.Done():
			case <-s.wake:
				rest(ctx, hookPace)
			case <-time.After(hookEvery):
			}
		}
	}
}

// errHookChanged ends a sender whose hook is another by now.
var errHookChanged = errors.New("the hook was changed")

// A hookMessage is one crossing for one hook.
type hookMessage struct {
	position event.Position
	n        int
	name     string
	body     []byte
	recorded time.Time
	attempts int
	err      error
}

// A hookRound is what a sender does at once.
type hookRound struct {
	messages []*hookMessage
	// Up to here all is taken.
	position int64
	n        int
	more     bool
}

// round sends what is due, and notes what became of it; more says that there may be more
// at once.
func (s *hookSender) round(ctx context.Context) (more bool, err error) {
	r, err := s.take(ctx)
	if err != nil || r == nil {
		return false, err
	}
	s.send(ctx, r.messages)
	if ctx.Err() != nil {
		return false, ctx.Err() // an attempt that was ended is none
	}
	tried, failed := 0, 0
	for _, m := range r.messages {
		if m.attempts++; m.attempts > 0 {
			tried++
		}
		if m.err != nil {
			failed++
		}
	}
	if s.failing++; tried == 0 || failed < tried {
		s.failing = 0
	}
	return r.more, s.note(ctx, r)
}

// take reads what is due: of what failed before, and of what came since. Of a hook of
// which nothing arrives, one message is enough to find out.
func (s *hookSender) take(ctx context.Context) (*hookRound, error) {
	ctx, cancel := context.WithTimeout(ctx, hookStatement)
	defer cancel()
	most := hookWindow
	if s.failing > 0 {
		most = 1
	}
	r := &hookRound{}
	err := s.pool.QueryRow(ctx, `select position, n from hooks where id = $1 and revision = $2 and not gone`, s.hook.ID, s.revision).Scan(&r.position, &r.n)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errHookChanged
	}
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, `select position, n, name, body, recorded_at, attempts from hook_retries where hook = $1 and next_at <= now() order by position, n limit $2`, s.hook.ID, most)
	if err != nil {
		return nil, err
	}
	var m hookMessage
	_, err = pgx.ForEachRow(rows, []any{(*int64)(&m.position), &m.n, &m.name, &m.body, &m.recorded, &m.attempts}, func() error {
		one := m
		r.messages = append(r.messages, &one)
		return nil
	})
	if err != nil {
		return nil, err
	}
	before := *r
	if len(r.messages) < most {
		if err := s.takeNew(ctx, r, most); err != nil {
			return nil, err
		}
	}
	if len(r.messages) == 0 && r.position == before.position && r.n == before.n {
		return nil, nil
	}
	r.more = r.more || len(r.messages) == most
	return r, nil
}

// takeNew reads the crossings behind what was taken.
func (s *hookSender) takeNew(ctx context.Context, r *hookRound, most int) error {
	rows, err := s.pool.Query(ctx, `select position, n, fence, name, entered, cause, at, recorded_at, point, longitude, latitude from fence_events
		where position >= $1 and (position, n) > ($1, $2) order by position, n limit $3`, r.position, r.n, hookWindow)
	if err != nil {
		return err
	}
	var e fence.Event
	var point *string
	var longitude, latitude *float64
	seen := 0
	_, err = pgx.ForEachRow(rows, []any{(*int64)(&e.Position), &e.N, &e.Fence, &e.Name, &e.Entered, &e.Cause, &e.Time, &e.Recorded, &point, &longitude, &latitude}, func() error {
		if len(r.messages) == most {
			r.more = true
			return nil
		}
		seen++
		r.position, r.n = int64(e.Position), e.N
		if !s.hook.Wants(&e) {
			return nil
		}
		if e.Point = nil; point != nil && longitude != nil && latitude != nil {
			e.Point, e.Longitude, e.Latitude = []byte(*point), *longitude, *latitude
		}
		r.messages = append(r.messages, &hookMessage{position: e.Position, n: e.N, name: e.Name, body: e.Append(nil), recorded: e.Recorded})
		return nil
	})
	r.more = r.more || seen == hookWindow
	return err
}

var laneSeed = maphash.MakeSeed()

// send sends messages, those of a name one after the other.
func (s *hookSender) send(ctx context.Context, all []*hookMessage) {
	var lanes [hook.Lanes][]*hookMessage
	for _, m := range all {
		i := maphash.String(laneSeed, m.name) % hook.Lanes
		lanes[i] = append(lanes[i], m)
	}
	done := make(chan struct{})
	for _, lane := range lanes {
		go func() {
			defer func() { done <- struct{}{} }()
			for _, m := range lane {
				if time.Since(m.recorded) >= hookDay {
					m.err = errors.New("it was not delivered within a day")
					m.attempts-- // this is none
					continue
				}
				m.err = s.sender.Send(ctx, s.hook, fmt.Sprintf("%s_%d-%d", s.hook.ID, m.position, m.n), m.body)
			}
		}()
	}
	for range lanes {
		<-done
	}
}

// note writes down what became of a round, all of it or nothing.
func (s *hookSender) note(ctx context.Context, r *hookRound) error {
	// What was sent is noted, whatever ends the sender meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hookStatement)
	defer cancel()
	var delivered, failed, dead int
	var last *string
	gone := false
	b := &pgx.Batch{}
	for _, m := range r.messages {
		if m.err == nil {
			delivered++
			s.metrics.delay.Observe(time.Since(m.recorded).Seconds())
			if m.attempts > 1 {
				b.Queue(`delete from hook_retries where hook = $1 and position = $2 and n = $3`, s.hook.ID, int64(m.position), m.n)
			}
			continue
		}
		text := printable(m.err.Error())
		last, gone = &text, gone || errors.Is(m.err, hook.ErrGone)
		failed++
		next := retryAt(m)
		if next == nil {
			dead++
		}
		b.Queue(`insert into hook_retries (hook, position, n, name, body, attempts, error, recorded_at, next_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			on conflict (hook, position, n) do update set attempts = excluded.attempts, error = excluded.error, next_at = excluded.next_at`,
			s.hook.ID, int64(m.position), m.n, m.name, string(m.body), m.attempts, text, m.recorded, next)
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update hooks set position = $3, n = $4, delivered = delivered + $5, failed = failed + $6, gone = $7,
				delivered_at = case when $5 > 0 then now() else delivered_at end, failed_at = case when $6 > 0 then now() else failed_at end, error = coalesce($8, error)
			where id = $1 and revision = $2`, s.hook.ID, s.revision, r.position, r.n, delivered, failed, gone, last)
		if err == nil && tag.RowsAffected() == 0 {
			return errHookChanged
		}
		if err == nil && b.Len() > 0 {
			err = tx.SendBatch(ctx, b).Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	s.metrics.attempts.WithLabelValues("delivered").Add(float64(delivered))
	s.metrics.attempts.WithLabelValues("failed").Add(float64(failed))
	s.metrics.attempts.WithLabelValues("dead").Add(float64(dead))
	if failed > 0 && s.failing <= 1 {
		s.log.Warn("a hook did not take all", "hook", s.hook.ID, "failed", failed, "dead", dead, "error", *last)
	}
	if gone {
		s.log.Warn("a hook wants nothing more, and gets nothing until it is put again", "hook", s.hook.ID)
	}
	return nil
}

// retryAt is when a message is tried again; nil: it is given up.
func retryAt(m *hookMessage) *time.Time {
	wait := retryMost
	if m.attempts < 8 {
		wait = min(retryFirst<<(2*max(m.attempts-1, 0)), retryMost)
	}
	wait += time.Duration(rand.Int64N(int64(wait) / 5)) // so that not all come at once
	at := time.Now().Add(wait)
	if end := m.recorded.Add(hookDay); time.Now().After(end) {
		return nil
	} else if at.After(end) {
		at = end // the last
	}
	return &at
}
