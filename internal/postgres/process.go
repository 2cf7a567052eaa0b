package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// pollEvery is how often a condition of another process is looked at.
	pollEvery = 20 * time.Millisecond
	// orphanGrace bounds the wait for processes to obey SIGQUIT, which is at
	// once but for one deep in a long computation, and then SIGKILL.
	orphanGrace = 5 * time.Second
)

// A pidFile is what a postmaster writes about itself into its data directory.
type pidFile struct {
	pid       int
	socketDir string
}

// Lines of postmaster.pid, from 0; see src/include/utils/pidfile.h there.
const (
	linePid       = 0
	lineSocketDir = 4
)

// errBadPidFile says that a pid file has no process in it.
var errBadPidFile = errors.New("postmaster.pid")

func readPidFile(data string) (pidFile, error) {
	raw, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return pidFile{}, err
	}
	lines := strings.Split(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[linePid]))
	if err != nil {
		return pidFile{}, fmt.Errorf("%w: %w", errBadPidFile, err)
	}
	f := pidFile{pid: pid}
	if len(lines) > lineSocketDir {
		f.socketDir = lines[lineSocketDir]
	}
	return f, nil
}

// running is the postmaster of the data directory. A pid file alone proves
// nothing: after a power cut its number may be anybody's. An error says that it cannot be
// told, as without free files.
func running(data string) (server pidFile, runs bool, err error) {
	server, err = readPidFile(data)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errBadPidFile) {
		return pidFile{}, false, nil
	}
	if err == nil {
		runs, err = worksIn(server.pid, data)
	}
	if err != nil || !runs {
		return pidFile{}, false, err
	}
	return server, true, nil
}

// worksIn reports whether the process is a server of the data directory: every
// process of a cluster works there, and a dead one works nowhere, even while
// nobody has waited for it.
func worksIn(pid int, data string) (bool, error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if is, err := isServer(proc); err != nil || !is {
		return false, err
	}
	dir, err := os.Stat(data)
	if err != nil {
		return false, unlessGone(err)
	}
	cwd, err := os.Stat(filepath.Join(proc, "cwd"))
	if errors.Is(err, os.ErrPermission) {
		cwd, err = statAs(dir.Sys().(*syscall.Stat_t), filepath.Join(proc, "cwd"))
	}
	if errors.Is(err, os.ErrPermission) {
		return false, nil // it is somebody else's
	}
	if err != nil {
		return false, unlessGone(err)
	}
	return os.SameFile(cwd, dir), nil
}

// isServer tells Postgres's processes from, say, a shell in the same folder.
func isServer(proc string) (bool, error) {
	name, err := os.ReadFile(filepath.Join(proc, "comm"))
	if err != nil {
		return false, unlessGone(err)
	}
	return slices.Contains([]string{"postgres", "initdb", "pg_ctl"}, strings.TrimSpace(string(name))), nil
}

// unlessGone is nil where an error says that the process, or the folder, is not there. Any
// other, such as that there are no free files, tells nothing about it.
func unlessGone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// processesIn lists Postgres's processes that work in one of the folders.
func processesIn(folders ...string) ([]int, error) {
	procs, err := os.ReadDir("/proc")
	if err = unlessGone(err); err != nil {
		return nil, fmt.Errorf("look for processes of PostgreSQL: %w", err)
	}
	var pids []int
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		for _, dir := range folders {
			works, err := worksIn(pid, dir)
			if err != nil {
				return nil, fmt.Errorf("look for processes of PostgreSQL: %w", err)
			}
			if works {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, nil
}

// endProcesses ends all that works in the folders, first asking and then not,
// and returns when they are gone.
func endProcesses(ctx context.Context, folders ...string) error {
	for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		pids, err := processesIn(folders...)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, signal) // it may have ended on its own
		}
		bounded, cancel := context.WithTimeout(ctx, orphanGrace)
		err = waitFor(bounded, func() bool {
			left, err := processesIn(folders...)
			return err == nil && len(left) == 0
		})
		cancel()
		if err == nil {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("processes of Postgres in %s do not end", strings.Join(folders, " and ")), ctx.Err())
}

// killProcesses ends all that works in the folders without asking.
func killProcesses(ctx context.Context, folders ...string) error {
	return waitFor(ctx, func() bool {
		left, err := processesIn(folders...)
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended on its own
		}
		return err == nil && len(left) == 0
	})
}

// waitFor returns nil as soon as cond holds, or ctx's error.
func waitFor(ctx context.Context, cond func() bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
