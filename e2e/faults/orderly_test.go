package faults

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"cairn/internal/testrig"
)

// strikeTerm stops a process in order, in the middle of whatever happens: it
// must end in time and with code 0.
func (s *system) strikeTerm(ctx context.Context, f fault) error {
	r := s.roles[f.target]
	if r.up() == nil {
		s.figures.count("orderly stops that another fault was before")
		return nil
	}
	if err := r.stop(); err != nil {
		return err
	}
	_ = testrig.Pause(ctx, f.lasts)
	return r.start(ctx)
}

// strikeRoll restarts one role after the other, in order, each as soon as the
// one before listens again.
func (s *system) strikeRoll(ctx context.Context, f fault) error {
	for _, n := range rolesOf(s.shape) {
		f.target, f.lasts = n, restartPause
		if err := s.strikeTerm(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// A repair is `cairn rebuild`, beside the faults.
type repair struct {
	number atomic.Int64
	// due says that one was begun, so that its remains are to be cleared up.
	due atomic.Bool
}

func (s *system) rebuild() (*testrig.Process, error) {
	s.mu.Lock()
	queue := s.nats
	s.mu.Unlock()
	return launch(s.logs, s.name+"-rebuild"+strconv.FormatInt(s.repair.number.Add(1), 10), "rebuild",
		"--data", s.data, "--nats-url", queue, "--database-url", s.cluster.URL())
}

// strikeRebuild rebuilds the table while everything continues, and kills the rebuild
// every other time.
func (s *system) strikeRebuild(ctx context.Context, f fault) error {
	p, err := s.rebuild()
	if err != nil {
		return err
	}
	s.repair.due.Store(true)
	if f.salt%2 == 0 {
		_ = testrig.Pause(ctx, f.lasts)
		p.Kill()
		s.figures.count("rebuilds killed")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleBound)
	defer cancel()
	code, err := p.End(ctx)
	switch {
	case err != nil:
		p.Kill()
		return err
	case code == 0:
		s.figures.count("rebuilds done during the faults")
	default:
		s.figures.count("rebuilds that another fault ended")
	}
	return nil
}

// rebuilt takes care of it that a rebuild comes to its end where one was begun: it
// clears up what one that was killed has left. What the new table lacks of the
// harness is given to it.
func (s *system) rebuilt(ctx context.Context) error {
	if !s.repair.due.Load() {
		return nil
	}
	err := testrig.Until(ctx, settleBound, "cairn rebuild ends with code 0", func(ctx context.Context) error {
		p, err := s.rebuild()
		if err != nil {
			return err
		}
		code, err := p.End(ctx)
		if err != nil {
			p.Kill()
		} else if code != 0 {
			err = fmt.Errorf("code %d: %s", code, p.Stdout.Tail())
		}
		return err
	})
	if err != nil {
		return err
	}
	s.repair.due.Store(false)
	return s.exec(ctx, faultsSchema+holdSchema)
}
