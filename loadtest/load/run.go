// Package load puts load on a server of points, with users who pause between their
// requests or with arrivals at a fixed rate, and measures response times, failures,
// bytes, whether acknowledged points are there, and how late the package itself was.
//
// The path of a request: a [Plan] says when it is due, the [Mix] which kind it is, a
// caller sends it over the connection of one user, the recorder records the outcome,
// and once an interval the sampler takes a [Sample] of it. A failure of the target
// is a result, never an error: [Run] fails only if it cannot begin.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// drain is how long a request may last beyond the end of the run. What is
	// cut then counts as a failure: a target that hangs must not look better
	// for it.
	drain = 10 * time.Second
	// shortest interval of a series, and how many there are at most: as many as
	// a chart has pixels, and a bound on memory.
	shortest   = time.Second
	maxSamples = 1500
)

type runner struct {
	cfg      Config
	getPath  string // with the path of the target's URL
	postPath string
	net      *network
	rec      *recorder
	points   *points

	start    time.Time
	users    atomic.Int64
	inFlight atomic.Int64
}

func newRunner(cfg Config) *runner {
	prefix := strings.TrimSuffix(cfg.Target.URL.EscapedPath(), "/")
	r := &runner{
		cfg: cfg, getPath: prefix + cfg.Mix.GetPath, postPath: prefix + cfg.Mix.PostPath,
		net: newNetwork(cfg.Target), points: newPoints(&cfg),
	}
	r.rec = newRecorder(&r.cfg.Mix)
	return r
}

// Run puts the load on until the plan is done or ctx ends, which is no error:
// the result is then of what was until there.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r := newRunner(cfg)
	if err := r.prepare(); err != nil {
		return nil, err
	}
	r.start = time.Now()
	planned, cancel := context.WithDeadline(ctx, r.start.Add(cfg.Plan.Duration))
	defer cancel()
	var ended time.Time // before the requests in flight are waited for
	stopped := context.AfterFunc(planned, func() { r.net.finish(time.Now().Add(drain)) })
	defer stopped()

	s := startSampler(r)
	if cfg.Plan.Open() {
		r.open(planned, func() { ended = time.Now() })
	} else {
		r.closed(planned, func() { ended = time.Now() })
	}
	return r.result(s.stop(ended), ctx.Err() != nil), nil
}

// closed starts the users one by one and waits for them after the end.
func (r *runner) closed(ctx context.Context, ended func()) {
	var wg sync.WaitGroup
	spawn := Ramp{Rate: r.cfg.Plan.SpawnRate}
	var a alarm
	for n := range r.cfg.Plan.Users {
		due := r.start
		if spawn.Rate > 0 {
			due = r.start.Add(spawn.At(float64(n)))
		}
		if !a.until(ctx, due) {
			break
		}
		r.users.Add(1)
		wg.Go(func() { r.live(ctx, n) })
	}
	<-ctx.Done()
	ended()
	wg.Wait()
}

// live is one user's run: ask, think, ask.
func (r *runner) live(ctx context.Context, n int) {
	u := r.newUser(uint64(n))
	defer u.close()
	var a alarm
	for ctx.Err() == nil {
		u.act(time.Now())
		due := time.Now().Add(r.cfg.Plan.Think.draw(u.rng))
		if !a.until(ctx, due) {
			return
		}
		r.rec.wake(time.Since(due))
	}
}

// open sends each arrival when it is due, whatever became of those before. Its
// response time counts from when it was due: a target that stalls for a second
// has made a second's arrivals wait, not one.
func (r *runner) open(ctx context.Context, ended func()) {
	plan := r.cfg.Plan
	var rng *rand.Rand
	if !plan.Regular {
		rng = rand.New(rand.NewPCG(r.cfg.Seed, 0))
	}
	arrivals := NewArrivals(Ramp{plan.Rate, plan.RateUp}, rng)
	var wg sync.WaitGroup
	idle := crew{r: r}
	defer idle.close()
	var a alarm
	for {
		due := r.start.Add(arrivals.Next())
		if !a.until(ctx, due) {
			break
		}
		u := idle.take()
		if u == nil {
			r.refuse()
			continue
		}
		wg.Go(func() {
			r.rec.wake(time.Since(due))
			u.act(due)
			idle.put(u)
		})
	}
	ended()
	wg.Wait()
}

// refuse counts an arrival that could not be sent any more.
func (r *runner) refuse() {
	what := fmt.Sprintf("not sent: %d requests are in flight already", MaxInFlight)
	r.rec.done(GetNewest, r.cfg.Target.Timeout, reply{}, what, "")
}

// A crew is the users of the open model who have nothing to do. The last one
// who came back goes first, so that there are no more connections than needed.
type crew struct {
	r    *runner
	mu   sync.Mutex
	idle []*user
	made int
}

func (c *crew) take() *user {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.idle); n > 0 {
		u := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return u
	}
	if c.made == MaxInFlight {
		return nil
	}
	c.made++
	return c.r.newUser(uint64(c.made))
}

func (c *crew) put(u *user) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = append(c.idle, u)
}

func (c *crew) close() {
	for _, u := range c.idle {
		u.close()
	}
}

// An alarm wakes one goroutine, repeatedly.
type alarm struct{ t *time.Timer }

// until returns true at the time given, or false when ctx ends before.
func (a *alarm) until(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err() == nil
	}
	if a.t == nil {
		a.t = time.NewTimer(d)
	} else {
		a.t.Reset(d)
	}
	select {
	case <-a.t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		a.t.Stop()
		return false
	}
}

// result puts together what is known after the end.
func (r *runner) result(s series, interrupted bool) *Result {
	all, perKind, late := r.rec.totals(s.counted)
	res := &Result{
		Target: r.cfg.Target.URL.Redacted(), Started: r.start, Seconds: s.counted.Seconds(), Interrupted: interrupted,
		Rate: r.cfg.Plan.Rate, All: all, Kinds: perKind, Failures: r.rec.failures(), Bins: r.rec.bins(), Series: s.samples,
		Tool:  Tool{LateP50: late.P50, LateP99: late.P99, Cores: s.cores, Machine: s.machine, Procs: runtime.GOMAXPROCS(0)},
		Acked: r.points.acked.Load(),
		run:   r,
	}
	for _, sample := range s.samples {
		res.Users = max(res.Users, sample.Users)
	}
	res.Tool.judge(all.P95)
	return res
}
