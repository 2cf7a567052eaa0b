package datadir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lowBytes is the free room below which a disk counts as full: what the queue's
	// store needs to rewrite its blocks, and Postgres to write its log.
	lowBytes = 64 << 20
	// lowFiles is the same of files: a new segment of the table has some ten, a block of
	// the queue two.
	lowFiles = 64
	// recoverFactor is how many times as much must be free again, so that a disk at the
	// threshold does not flap between full and free.
	recoverFactor = 2
	// probeEvery is how often a file is made and removed again while nothing is wrong: a
	// quota, or a disk that fails, cannot be seen otherwise.
	probeEvery = 10 * time.Second
	probeName  = ".cairn-probe"
	// checkEvery is how often a [Monitor] checks the disk. A check that takes longer than
	// hungAfter counts as a failure.
	checkEvery = 500 * time.Millisecond
	hungAfter  = 30 * time.Second
)

var (
	// ErrFull says that there is no room for more data, or for more files.
	ErrFull = errors.New("the disk is full")
	// ErrUnwritable says that nothing can be written, however much room there is.
	ErrUnwritable = errors.New("nothing can be written")
)

// A Disk is the file system of a folder.
type Disk struct {
	dir    string
	err    error     // of the last check
	probed time.Time // when a file was last made
}

// NewDisk is of a folder that is there.
func NewDisk(dir string) *Disk { return &Disk{dir: dir} }

// Check says what is wrong with the disk: nil, or an error that wraps [ErrFull] or
// [ErrUnwritable]. It is for one goroutine.
func (d *Disk) Check() error {
	d.err = d.check()
	return d.err
}

func (d *Disk) check() error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		return fmt.Errorf("%w: check the disk: %w", ErrUnwritable, err)
	}
	factor := 1
	if d.err != nil {
		factor = recoverFactor
	}
	switch free := int64(st.Bavail) * int64(st.Bsize); { //nolint:gosec,unconvert // a disk's size; types differ by system
	case st.Flags&readOnly != 0:
		return fmt.Errorf("%w: the file system is read-only", ErrUnwritable)
	case free < int64(factor)*lowBytes:
		return fmt.Errorf("%w: only %d MiB are free", ErrFull, free>>20)
	case st.Files > 0 && st.Ffree < uint64(factor)*lowFiles: // some file systems count none
		return fmt.Errorf("%w: only %d more files (inodes) can be made", ErrFull, st.Ffree)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, d.dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%w: the folder cannot be written: %w", ErrUnwritable, err)
	}
	if d.err == nil && time.Since(d.probed) < probeEvery {
		return nil
	}
	d.probed = time.Now()
	return d.probe()
}

// probe makes a file and removes it.
func (d *Disk) probe() error {
	f, err := os.OpenFile(filepath.Join(d.dir, probeName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		_, err = f.WriteString("written to see whether that works\n")
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, reason(err))
	}
	return fmt.Errorf("%w: %w", ErrUnwritable, reason(err))
}

// reason is what the system said, without the file's name.
func reason(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// A Monitor checks the disk of a folder periodically.
type Monitor struct{ last atomic.Pointer[diskCheck] }

type diskCheck struct {
	err error
	at  time.Time
}

// NewMonitor checks once before it returns, and then until ctx ends. It calls notify, in a
// goroutine of its own, when the disk fails and, with nil, when it works again.
func NewMonitor(ctx context.Context, dir string, notify func(error)) *Monitor {
	w, d := &Monitor{}, NewDisk(dir)
	w.last.Store(&diskCheck{d.Check(), time.Now()})
	go func() {
		ticker := time.NewTicker(checkEvery)
		defer ticker.Stop()
		wrong := false
		for {
			if err := w.last.Load().err; (err != nil) != wrong {
				wrong = err != nil
				notify(err)
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			err := d.Check()
			w.last.Store(&diskCheck{err, time.Now()})
		}
	}()
	return w
}

// Problem is the result of the last check; a check that hangs is a problem, too.
func (w *Monitor) Problem() error {
	seen := w.last.Load()
	if silent := time.Since(seen.at); silent > hungAfter {
		return fmt.Errorf("%w: the disk has not answered for %v", ErrUnwritable, silent.Round(time.Second))
	}
	return seen.err
}
