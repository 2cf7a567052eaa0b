package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"cairn/bus"
	"cairn/internal/datadir"

	"golang.org/x/sys/unix"
)

const (
	// monitorEvery is how often the store and its disk are looked at.
	monitorEvery = 500 * time.Millisecond
	// unhealthyChecks is how many checks in a row must find the server unhealthy: a stream that
	// is being made counts, for a moment, as one that could not be recovered.
	unhealthyChecks = 2
	// hangLook and hangLooks: a check that is the same one at so many looks, beside the
	// first, will never end. One takes milliseconds, or as long as a slow disk.
	hangLook, hangLooks = 30 * time.Second, 2
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

// monitor refuses writes while the disk is nearly full or cannot be written, and brings
// the store back after an error in writing: the server leaves the stream dead from then on,
// even when there is room again. Nothing that it acknowledged is lost by that.
func (s *Server) monitor(ctx context.Context) {
	defer close(s.monitored)
	ticker := time.NewTicker(monitorEvery)
	defer ticker.Stop()
	disk := datadir.NewDisk(s.cfg.StoreDir)
	var tried time.Time
	failures := 0 // unhealthy checks in a row
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		diskProblem := disk.Check()
		s.checks.Add(1)
		problem := s.unhealthy()
		if problem == nil {
			failures = 0
		} else {
			failures++
		}
		acknowledged := diskProblem == nil && problem == nil && s.compareAcknowledged() == nil
		s.checks.Add(1)
		switch {
		case errors.Is(diskProblem, datadir.ErrFull):
			s.refuse(fmt.Errorf("%w: %w", bus.ErrFull, diskProblem))
		case diskProblem != nil:
			s.refuse(fmt.Errorf("%w: %w", bus.ErrUnwritable, diskProblem))
		case problem == nil:
			if acknowledged {
				s.accept()
			}
		case failures < unhealthyChecks:
		default:
			s.refuse(fmt.Errorf("%w: %w", bus.ErrUnwritable, problem))
			if time.Since(tried) > restartPause {
				tried = time.Now()
				s.restart()
			}
		}
	}
}

// watchChecks ends the process when a check of the store does not end. On a full disk the
// server can wait for itself, forever: a purge within a file of the stream that cannot write
// its marks rebuilds the store's state, for which it needs the lock that it holds
// (nats-server 2.15: fileStore.compactLocked, msgBlock.flushPendingMsgs,
// fileStore.rebuildState). The projector avoids that (see [Server.cut]); an administrator,
// or a disk that fills up in between, may not. Then the server neither takes writes nor
// stops, so nothing but the end of the process helps; what it acknowledged is on the disk.
func (s *Server) watchChecks(ctx context.Context) {
	ticker := time.NewTicker(hangLook)
	defer ticker.Stop()
	var w hangWatch
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if w.hangs(s.checks.Load()) {
			s.endProcess()
		}
	}
}

// A hangWatch tells a check that does not end from those that do.
type hangWatch struct {
	last  uint64 // how many had begun or ended
	looks int    // at which that was the same, and one was under way
}

func (w *hangWatch) hangs(now uint64) bool {
	if w.looks++; now%2 == 0 || now != w.last {
		w.looks = 0
	}
	w.last = now
	return w.looks == hangLooks
}

const (
	// stackBytes is how much is logged of what the process was doing when its store hung.
	stackBytes = 1 << 20
	// logPause is the time that the log has to be written before the process ends.
	logPause = time.Second
)

// endProcess is for a store that hangs. What each goroutine waits for tells where.
func (s *Server) endProcess() {
	stacks := make([]byte, stackBytes)
	stacks = stacks[:runtime.Stack(stacks, true)]
	s.cfg.Log.Error("the queue's store hangs, as it may after a full disk: ending the process, as nothing else helps; start it again, and nothing that was acknowledged is lost", "store", s.cfg.StoreDir, "goroutines", string(stacks))
	time.Sleep(logPause)
	os.Exit(1)
}

// unhealthy says what is wrong with the server's store. In a cluster that is not what
// the server calls its health: during an election both nodes that are left are ill
// by that, and without a quorum none is for 17 s (seen). There only this node's own
// disk counts: after an error in writing the server switches JetStream off.
func (s *Server) unhealthy() error {
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

// pollOnce compares the stream with what was acknowledged, and keeps that.
func (s *Server) compareAcknowledged() (damage error) {
	if s.acked == nil {
		return nil
	}
	if err := s.acked.sync(); err != nil {
		s.cfg.Log.Warn("keep what was acknowledged", "error", err)
	}
	if s.node != nil {
		damage = s.node.damage()
	} else {
		damage = s.acked.missing(s.current.Load())
	}
	if damage != nil {
		s.refuse(damage)
	}
	return damage
}

// Acknowledged notes, before the answer, that a message is on disk.
func (s *Server) Acknowledged(sequence uint64) {
	if s.acked == nil {
		return
	}
	if err := s.acked.raise(sequence); err != nil {
		s.cfg.Log.Warn("keep what was acknowledged", "error", err)
	}
}

// restart ends the server and starts it on the same store and address. Clients
// reconnect on their own.
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
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:gosec,unconvert // a disk's size; types differ by system
}

// DiskFree is how many bytes are free under the store, or 0 where that cannot be
// seen.
func (s *Server) DiskFree() int64 {
	free, _ := freeBytes(s.cfg.StoreDir)
	return free
}
