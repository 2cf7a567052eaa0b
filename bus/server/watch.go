package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn/bus"
	"cairn/internal/datadir"

	"golang.org/x/sys/unix"
)

const (
	// watchEvery is how often the store and its disk are looked at.
	watchEvery = 500 * time.Millisecond
	// illLooks is how many looks in a row must find the server ill: a stream that
	// is being made counts, for a moment, as one that could not be recovered.
	illLooks = 2
	// restartPause is the least time between two attempts to bring a store back.
	restartPause = 5 * time.Second
)

// Refusal says why the store takes no writes now, or nil. It wraps [bus.ErrFull],
// [bus.ErrUnwritable] or [bus.ErrDamaged].
func (s *Server) Refusal() error {
	if err := s.refusal.Load(); err != nil {
		return *err
	}
	return nil
}

// watch refuses writes while the disk is nearly full or cannot be written, and brings
// the store back after an error in writing: the server leaves the stream dead from then on,
// even when there is room again. Nothing that it acknowledged is lost by that.
func (s *Server) watch(ctx context.Context) {
	defer close(s.watched)
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	disk := datadir.NewDisk(s.cfg.StoreDir)
	var tried time.Time
	ill := 0 // looks in a row at which the server was not healthy
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		wrong := disk.Check()
		sick := s.sick()
		if sick == nil {
			ill = 0
		} else {
			ill++
		}
		switch {
		case errors.Is(wrong, datadir.ErrFull):
			s.refuse(fmt.Errorf("%w: %w", bus.ErrFull, wrong))
		case wrong != nil:
			s.refuse(fmt.Errorf("%w: %w", bus.ErrUnwritable, wrong))
		case sick == nil:
			if s.look() == nil {
				s.accept()
			}
		case ill < illLooks:
		default:
			s.refuse(fmt.Errorf("%w: %w", bus.ErrUnwritable, sick))
			if time.Since(tried) > restartPause {
				tried = time.Now()
				s.restart()
			}
		}
	}
}

// sick says what is wrong with the server's store. In a cluster that is not what
// the server calls its health: during an election both nodes that are left are ill
// by that, and without a quorum none is for 17 s (seen). There only this node's own
// disk counts: after an error in writing the server switches JetStream off.
func (s *Server) sick() error {
	if s.node != nil {
		if !s.current.Load().JetStreamEnabled() {
			return errStoreOff
		}
		return nil
	}
	if health := s.current.Load().Healthz(nil); health.StatusCode != 200 {
		return errors.New(health.Error)
	}
	return nil
}

var errStoreOff = errors.New("after an error of its disk")

func (s *Server) refuse(err error) {
	if s.refusal.Swap(&err) == nil {
		s.cfg.Log.Error("the queue takes no writes", "error", err, "store", s.cfg.StoreDir)
	}
}

func (s *Server) accept() {
	if s.refusal.Swap(nil) != nil {
		s.cfg.Log.Info("the queue takes writes again")
	}
}

// look compares the stream with what was acknowledged, and keeps that.
func (s *Server) look() (damage error) {
	if s.mark == nil {
		return nil
	}
	if err := s.mark.sync(); err != nil {
		s.cfg.Log.Warn("keep what was acknowledged", "error", err)
	}
	if s.node != nil {
		damage = s.node.damage()
	} else {
		damage = s.mark.missing(s.current.Load())
	}
	if damage != nil {
		s.refuse(damage)
	}
	return damage
}

// Acknowledged notes, before the answer, that a message is on disk.
func (s *Server) Acknowledged(sequence uint64) {
	if s.mark == nil {
		return
	}
	if err := s.mark.raise(sequence); err != nil {
		s.cfg.Log.Warn("keep what was acknowledged", "error", err)
	}
}

// restart ends the server and starts it on the same store and address. Clients
// reconnect by themselves.
func (s *Server) restart() {
	s.cfg.Log.Info("restarting the embedded NATS server, to bring its store back")
	s.shutdown()
	if err := s.start(); err != nil {
		s.cfg.Log.Error("the embedded NATS server did not come back; trying again", "error", err)
	}
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec // a disk's size
}

// DiskFree is how many bytes are free under the store, or 0 where that cannot be
// seen.
func (s *Server) DiskFree() int64 {
	free, _ := freeBytes(s.cfg.StoreDir)
	return free
}
