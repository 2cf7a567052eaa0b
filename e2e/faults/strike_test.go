package faults

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"cairn/internal/testrig"
)

// strikers are how each kind strikes, lasts and ends. What they return is a
// finding.
var strikers = map[string]func(*system, context.Context, fault) error{
	"kill":                (*system).strikeKill,
	"sigterm":             (*system).strikeTerm,
	"roll":                (*system).strikeRoll,
	"step-clock":          (*system).strikeClock,
	"rebuild":             (*system).strikeRebuild,
	"disk-full":           (*system).strikeRoom,
	"stop":                (*system).strikeStop,
	"kill-postmaster":     (*system).strikePostmaster,
	"kill-backend":        (*system).strikeBackend,
	"terminate-backend":   (*system).strikeTerminate,
	"stop-backend":        (*system).strikeStopBackend,
	"refuse-logins":       (*system).strikeLogins,
	"exhaust-connections": (*system).strikeConnections,
	"sqlstate":            (*system).strikeState,
	"cut":                 (*system).strikeWire,
	"cut-mid-message":     (*system).strikeWire,
	"stall":               (*system).strikeWire,
	"slow":                (*system).strikeWire,
	"refuse":              (*system).strikeWire,
	"freeze":              (*system).strikeFreeze,
	"two-projectors":      (*system).strikeSecond,
	"zombie-in-copy":      (*system).strikeZombie,
	"stream-full":         (*system).strikeFull,
	"kill-in-segments":    (*system).strikeHold,
	"kill-in-retention":   (*system).strikeRetention,
	"kill-at-the-rest":    (*system).strikeRest,
}

// strike lets all faults of a round happen, each at its time, and returns when
// the last has ended.
func (s *system) strike(ctx context.Context, r *round) {
	var group sync.WaitGroup
	for _, f := range r.faults {
		group.Go(func() {
			if testrig.Pause(ctx, f.at) != nil {
				return
			}
			if err := strikers[f.kind](s, ctx, f); err != nil && ctx.Err() == nil {
				s.find("%s: %v", f, err)
			}
		})
	}
	group.Wait()
}

// heal ends whatever a fault may have left: several together can leave what
// none of them would alone.
func (s *system) heal(ctx context.Context) error {
	for _, p := range s.proxies {
		p.heal()
	}
	for _, r := range s.roles {
		if p := r.current(); p != nil {
			p.Signal(syscall.SIGCONT)
		}
	}
	if s.shape != private { // there it is for serve to bring it back
		if err := s.cluster.Start(ctx); err != nil {
			return err
		}
	}
	err := testrig.Until(ctx, settleBound, "the database takes commands", func(ctx context.Context) error {
		return s.exec(ctx, "truncate faults.now")
	})
	if err != nil {
		return err
	}
	if err := s.release(ctx); err != nil {
		return err
	}
	for _, n := range rolesOf(s.shape) {
		if err := s.roles[n].start(ctx); err != nil {
			return err
		}
	}
	if err := s.roles["second"].stop(); err != nil {
		return err
	}
	return s.rebuilt(ctx)
}

func (s *system) strikeKill(ctx context.Context, f fault) error {
	r := s.roles[f.target]
	r.kill()
	_ = testrig.Pause(ctx, f.lasts)
	return r.start(ctx)
}

func (s *system) strikeStop(ctx context.Context, f fault) error {
	p := s.roles[f.target].current()
	p.Signal(syscall.SIGSTOP)
	_ = testrig.Pause(ctx, f.lasts)
	p.Signal(syscall.SIGCONT)
	return nil
}

// strikePostmaster leaves backends without their postmaster, then starts the
// server again; where serve has a private cluster, it must do that itself.
func (s *system) strikePostmaster(ctx context.Context, f fault) error {
	if pid := s.postmaster(); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
	}
	_ = testrig.Pause(ctx, f.lasts)
	if s.shape == private {
		return nil
	}
	return s.cluster.Start(ctx)
}

// strikeBackend kills a server process, upon which Postgres throws all out and
// recovers. Where Postgres is unreachable, another fault was first.
func (s *system) strikeBackend(ctx context.Context, f fault) error {
	if pid, err := s.backend(ctx, f.salt); err == nil && pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return nil
}

func (s *system) strikeTerminate(ctx context.Context, f fault) error {
	for end := time.Now().Add(f.lasts); time.Now().Before(end); {
		_ = s.exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name <> 'faults'`)
		if err := testrig.Pause(ctx, longest/10); err != nil {
			return nil
		}
	}
	return nil
}

func (s *system) strikeStopBackend(ctx context.Context, f fault) error {
	pid, err := s.backend(ctx, f.salt)
	if err != nil || pid == 0 {
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	_ = testrig.Pause(ctx, f.lasts)
	_ = syscall.Kill(pid, syscall.SIGCONT)
	return nil
}

func (s *system) strikeLogins(ctx context.Context, f fault) error {
	_ = s.admit(ctx, false) // Postgres may be unreachable
	_ = testrig.Pause(ctx, f.lasts)
	return s.admit(ctx, true)
}

// strikeConnections takes every connection that Postgres has to give.
func (s *system) strikeConnections(ctx context.Context, f fault) error {
	var taken []*pgx.Conn
	defer func() {
		for _, c := range taken {
			_ = c.Close(context.WithoutCancel(ctx))
		}
	}()
	const most = 200 // more than max_connections
	for range most {
		c, err := s.admin(ctx, "")
		if err != nil {
			break
		}
		taken = append(taken, c)
	}
	// What reconnects from now on is refused.
	if len(taken) > 0 {
		_, _ = taken[0].Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name <> 'faults'`)
	}
	if c, err := s.admin(ctx, ""); err == nil {
		taken = append(taken, c)
	}
	_ = testrig.Pause(ctx, f.lasts)
	return nil
}

// strikeState makes a step of the projector's transaction fail.
func (s *system) strikeState(ctx context.Context, f fault) error {
	steps := []string{"fence", "copy", "commit"}
	step := steps[f.salt%uint64(len(steps))]
	s.figures.count(fmt.Sprintf("SQLSTATE %s at the %s", f.target, step))
	_ = s.exec(ctx, "select faults.arm()") // Postgres may be unreachable
	_ = s.exec(ctx, "insert into faults.now values ($1, $2)", step, f.target)
	_ = testrig.Pause(ctx, f.lasts)
	return testrig.Until(ctx, settleBound, "the database takes commands", func(ctx context.Context) error {
		if s.shape == private || s.postmaster() > 0 {
			return s.exec(ctx, "truncate faults.now")
		}
		return nil // another fault has it down; heal makes up for this
	})
}

// strikeWire breaks a connection between two parts, as the salt says.
func (s *system) strikeWire(ctx context.Context, f fault) error {
	p := s.proxies[f.target]
	pick := func(n uint64) int { return int(f.salt % n) } //nolint:gosec // small
	switch f.kind {
	case "cut":
		p.set(rule{cut: true})
	case "cut-mid-message":
		p.set(rule{every: 200 + pick(60_000)})
	case "stall":
		p.set([]rule{{stallUp: true}, {stallDown: true}, {stallUp: true, stallDown: true}}[pick(3)])
	case "slow":
		p.set(rule{rate: 5_000 + pick(100_000)})
	case "refuse":
		p.set(rule{refuse: true, cut: true})
	}
	if f.kind != "cut" {
		_ = testrig.Pause(ctx, f.lasts)
	}
	p.heal()
	return nil
}

// strikeFreeze loses the open connections without a word to either end.
func (s *system) strikeFreeze(_ context.Context, f fault) error {
	s.proxies[f.target].freeze()
	return nil
}

func (s *system) strikeSecond(ctx context.Context, f fault) error {
	if err := s.roles["second"].start(ctx); err != nil {
		return err
	}
	_ = testrig.Pause(ctx, f.lasts)
	if f.salt%2 == 0 {
		s.roles["second"].kill()
	}
	return nil // or it lives until the end of the round
}

const (
	// copyStart begins every COPY in binary format.
	copyStart = "PGCOPY\n\xff\r\n\x00"
	// trapBound is how long the writers may take to cause a COPY.
	trapBound = 3 * time.Second
	// successionBound is how long a successor may take to get past a stopped
	// predecessor: its patience with the lock and a session.
	successionBound = 30 * time.Second
)

// strikeZombie stops a projector in the middle of a COPY, lets a successor take
// over, and then wakes it: its data, its connection and itself.
func (s *system) strikeZombie(ctx context.Context, f fault) error {
	p := s.proxies["pg-projector"]
	p.set(rule{trap: []byte(copyStart)})
	defer p.heal()
	t := time.NewTimer(trapBound)
	defer t.Stop()
	select {
	case <-p.sprung():
	case <-t.C:
		s.figures.count("zombies that another fault prevented")
		return nil
	case <-ctx.Done():
		return nil
	}
	zombie := s.roles["projector"].current()
	zombie.Signal(syscall.SIGSTOP)
	defer zombie.Signal(syscall.SIGCONT)
	if err := s.roles["second"].start(ctx); err != nil {
		return err
	}
	before, err := s.checkpoint(ctx)
	if err == nil {
		err = testrig.Until(ctx, successionBound, "the successor goes on", func(ctx context.Context) error {
			if now, err := s.checkpoint(ctx); err != nil || now > before {
				return err
			}
			return fmt.Errorf("the checkpoint stays at %d", before)
		})
	}
	if err != nil {
		s.figures.count("zombies whose successor another fault held up")
	} else {
		s.figures.count("zombies whose successor took over")
	}
	if f.salt%2 == 0 { // what it had sent arrives before it wakes
		p.heal()
		_ = testrig.Pause(ctx, f.lasts)
	}
	return nil
}

func (s *system) checkpoint(ctx context.Context) (sequence int64, err error) {
	ctx, conn, end, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	err = conn.QueryRow(ctx, "select sequence from checkpoint").Scan(&sequence)
	return sequence, err
}
