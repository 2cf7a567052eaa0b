// Package postgres creates, starts and stops the private PostGIS cluster that
// `cairn serve` keeps under its data folder, if no database is configured.
//
// The cluster is Cairn's alone: a data directory, settings and a Unix socket of
// its own in a folder that only its owner can enter, never the system's
// cluster. It runs as the user who runs Cairn, or as postgres for root, whom
// PostgreSQL refuses. It lives through Cairn's own death (pg_ctl starts it in a
// session of its own), and the next start adopts it, so nothing that was
// committed waits for a recovery. Callers hold the data folder's lock
// ([cairn/internal/datadir.Lock]): two starts at once are not handled here.
//
// In a cluster's folder:
//
//	cluster/      PostgreSQL's data directory
//	cluster.new/  the same while it is being made; renamed when it is complete
//	socket/       the socket, unless its path would be too long for one
//	log/          a file a weekday, and what the last start said
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"cairn/internal/datadir"
)

const (
	// startTimeout bounds a start: the recovery of max_wal_size takes minutes
	// on a slow disk.
	startTimeout = 30 * time.Minute
	// stopTimeout bounds a stop: the last checkpoint writes at most
	// shared_buffers.
	stopTimeout = 60 * time.Second
	// reportEvery is how often a start that takes long says so.
	reportEvery = 10 * time.Second
	// maxLogTail is how many bytes of the log an error quotes: a few lines.
	maxLogTail = 1000
	// startAttempts bounds the starts for a server that ends while we wait for
	// it, as one does that was told to before we came.
	startAttempts = 3
)

// A Cluster is a private cluster that runs, or did.
type Cluster struct {
	dir    string // holds the folders that the package's doc names
	owner  owner
	inst   installation
	unsafe bool
	log    *slog.Logger

	mu        sync.Mutex
	socketDir string
	pid       int  // the postmaster's
	stopped   bool // by Stop, so that Supervise does not restart it
}

// An Option changes how [Start] makes and runs a cluster.
type Option func(*Cluster)

// Unsafe is for tests: nothing is forced to disk, so a power cut may destroy the
// cluster. The death of any process does not.
func Unsafe() Option { return func(c *Cluster) { c.unsafe = true } }

// Start makes a cluster in dir if there is none, then starts it, or adopts the
// server that runs there already, and returns when the database answers.
func Start(ctx context.Context, dir string, log *slog.Logger, options ...Option) (*Cluster, error) {
	c := &Cluster{log: log}
	for _, o := range options {
		o(c)
	}
	if err := c.prepare(dir); err != nil {
		return nil, err
	}
	if err := c.create(ctx); err != nil {
		return nil, fmt.Errorf("make a database cluster in %s: %w", c.dir, err)
	}
	if err := c.Start(ctx); err != nil {
		if ctx.Err() == nil {
			return nil, err
		}
		// Told to stop in the middle of the start: nobody else would stop the server.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return nil, errors.Join(err, c.Stop(after))
	}
	return c, nil
}

// prepare finds the user, the programs and the folders.
func (c *Cluster) prepare(dir string) (err error) {
	if c.dir, err = datadir.Resolve(dir); err != nil {
		return fmt.Errorf("find the database's folder: %w", err)
	}
	major, err := dataMajor(c.data())
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("read the version of the cluster in %s: %w", c.dir, err)
	case err != nil:
		c.inst, err = newest()
	default:
		c.inst, err = ofMajor(major, c.dir)
	}
	if err != nil {
		return err
	}
	if c.owner, err = ownerOf(c.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.dir), 0o755); err != nil {
		return fmt.Errorf("make the data folder (choose another with --data): %w", err)
	}
	if err := c.owner.checkReach(c.dir); err != nil {
		return err
	}
	for _, folder := range []string{c.dir, filepath.Join(c.dir, "log")} {
		if err := c.owner.makeFolder(folder); err != nil {
			return fmt.Errorf("make the database's folder: %w", err)
		}
	}
	c.socketDir = socketDir(c.dir)
	return nil
}

func (c *Cluster) data() string { return dataOf(c.dir) }

func dataOf(dir string) string { return filepath.Join(dir, "cluster") }

// URL is where clients connect; it stays the same while the cluster lives.
func (c *Cluster) URL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return urlOf(c.socketDir, database)
}

// PID is the process id of the postmaster, the server's first process.
func (c *Cluster) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// Start starts the cluster again after [Cluster.Stop] or its death. If it runs,
// it only waits until the database answers.
func (c *Cluster) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = false
	return c.up(ctx)
}

// up is Start; c.mu is held.
func (c *Cluster) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	defer c.reportSlow()()
	var ended error
	for range startAttempts {
		server, runs, err := running(c.data())
		if err != nil {
			return fmt.Errorf("look whether PostgreSQL runs: %w", err)
		}
		if !runs {
			if err := c.launch(ctx); err != nil {
				return err
			}
		} else if server.pid != c.pid {
			c.log.Info("adopting the PostgreSQL that runs already", "pid", server.pid, "folder", c.dir)
		}
		if ended = c.waitReady(ctx); !errors.Is(ended, errEnded) {
			return ended
		}
	}
	return fmt.Errorf("start PostgreSQL: %w; its log is in %s", ended, filepath.Join(c.dir, "log"))
}

// reportSlow says periodically that a start continues, until the result is called.
func (c *Cluster) reportSlow() (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				c.log.Info("PostgreSQL is still starting; after a crash it first recovers", "log", filepath.Join(c.dir, "log"))
			}
		}
	}()
	return func() { close(done) }
}

// launch starts a server where none runs.
func (c *Cluster) launch(ctx context.Context) error {
	if err := c.removeStaleFiles(ctx); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	c.socketDir = socketDir(c.dir)
	if err := c.owner.makeFolder(c.socketDir); err != nil {
		return fmt.Errorf("make the folder for PostgreSQL's socket: %w", err)
	}
	if err := c.writeSettings(); err != nil {
		return fmt.Errorf("write PostgreSQL's settings: %w", err)
	}
	// Until its own log is open the server speaks into this one; pg_ctl appends.
	said := filepath.Join("log", "start.log")
	if err := os.Remove(filepath.Join(c.dir, said)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clear PostgreSQL's start log: %w", err)
	}
	// Relative paths: pg_ctl hands them to a shell.
	seconds := strconv.Itoa(int(startTimeout.Seconds()))
	cmd := c.owner.command(ctx, c.dir, c.inst.program("pg_ctl"), "start", "-w", "-t", seconds, "-D", filepath.Base(c.data()), "-l", said)
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil { // the server may be under way, or up
		after := context.WithoutCancel(ctx)
		return fmt.Errorf("start PostgreSQL: %w", errors.Join(ctx.Err(), c.shutDown(after), endProcesses(after, c.dir, c.data())))
	}
	return fmt.Errorf("start PostgreSQL: %w; the end of its log in %s: %s", err, filepath.Join(c.dir, "log"), c.logTail())
}

// logTail is the end of the log that was written to last, if there is one.
func (c *Cluster) logTail() string {
	logs, _ := os.ReadDir(filepath.Join(c.dir, "log"))
	var newest time.Time
	var words string
	for _, entry := range logs {
		info, err := entry.Info()
		if err != nil || info.ModTime().Before(newest) {
			continue
		}
		if text, err := os.ReadFile(filepath.Join(c.dir, "log", entry.Name())); err == nil {
			newest = info.ModTime()
			words = string(text[max(0, len(text)-maxLogTail):])
		}
	}
	return strings.TrimSpace(words)
}

// removeStaleFiles makes way after the end of a machine, a postmaster or a Cairn in
// the middle of a start.
func (c *Cluster) removeStaleFiles(ctx context.Context) error {
	// Without their postmaster, backends can only end; while one lives, the
	// server refuses to start.
	if err := endProcesses(ctx, c.dir, c.data()); err != nil {
		return err
	}
	// The server itself sees through a lock file of a process that is gone, but
	// not where another of the same user has got its number since, or nobody
	// has waited for its end. No process of the cluster is left, so it is stale.
	socket := filepath.Join(socketDir(c.dir), socketName)
	for _, path := range []string{filepath.Join(c.data(), "postmaster.pid"), socket, socket + ".lock"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Stop ends the cluster, also one that was adopted: it rolls back what is
// running, writes a checkpoint and returns when the server is gone. Whoever
// runs [Cluster.Supervise] ends that first. After an error the server may still be
// ending; the next start waits for that.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	return c.shutDown(ctx)
}

func (c *Cluster) shutDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	server, runs, err := running(c.data())
	if err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	if runs {
		seconds := strconv.Itoa(int(stopTimeout.Seconds()))
		err := run(c.owner.command(ctx, c.dir, c.inst.program("pg_ctl"), "stop", "-m", "fast", "-w", "-t", seconds, "-D", filepath.Base(c.data())))
		if err == nil { // the pid file is gone, the process a moment later
			err = waitFor(ctx, func() bool {
				works, err := worksIn(server.pid, c.data())
				return err == nil && !works
			})
		}
		if _, still, lookErr := running(c.data()); err != nil && (still || lookErr != nil) {
			return fmt.Errorf("stop PostgreSQL: %w", err)
		}
	}
	if !strings.HasPrefix(c.socketDir, c.dir) {
		_ = os.Remove(c.socketDir) // it is recreated at a start
	}
	return nil
}

// Find returns the URL of the cluster that runs in dir, for other processes
// that share its data folder.
func Find(dir string) (url string, ok bool) {
	dir, err := datadir.Resolve(dir)
	if err != nil {
		return "", false
	}
	server, ok, err := running(dataOf(dir))
	if err != nil || !ok {
		return "", false
	}
	return urlOf(server.socketDir, database), true
}

// Destroy ends at once whatever runs in dir and removes all of it: for what
// tests leave behind.
func Destroy(ctx context.Context, dir string) error {
	dir, err := datadir.Resolve(dir)
	if err != nil {
		return err
	}
	if err := endProcesses(ctx, dir, dataOf(dir), newDataOf(dir)); err != nil {
		return err
	}
	if socket := socketDir(dir); !strings.HasPrefix(socket, dir) {
		_ = os.RemoveAll(socket)
	}
	return os.RemoveAll(dir)
}
