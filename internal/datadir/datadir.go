// Package datadir finds and locks the folder that holds all of Cairn's data: the
// queue's files and the private PostGIS cluster.
//
// One process at a time may use it. The lock is the kernel's, and ends with the
// process that holds it, however that ends.
package datadir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	local  = "./data"
	system = "/var/lib/cairn"

	lockName = "cairn.lock"
	// maxPidBytes is more than the digits of any process id.
	maxPidBytes = 32
)

// ErrInUse is what [Lock] returns, wrapped, for a folder that another process
// holds.
var ErrInUse = errors.New("in use by another cairn")

// Default is the data folder where none is named: ./data; but /var/lib/cairn
// for root, where the user postgres, who must run the private cluster then,
// cannot enter ./data.
func Default() string {
	if os.Geteuid() != 0 {
		return local
	}
	uid, gid := nobody, nobody
	if u, err := user.Lookup("postgres"); err == nil {
		uid, gid = number(u.Uid), number(u.Gid)
	}
	if Blocked(local, uid, gid) != "" {
		return system
	}
	return local
}

// nobody is an id that owns no file.
const nobody = ^uint32(0)

func number(id string) uint32 {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return nobody
	}
	return uint32(n)
}

// Blocked returns the topmost folder on the way to dir that the user cannot
// pass through, or "" if nothing is in the way. Folders that do not exist yet
// are in nobody's way, and dir itself is not looked at.
func Blocked(dir string, uid, gid uint32) string {
	path, err := Resolve(dir)
	if err != nil {
		return ""
	}
	blocked := ""
	for path != "/" {
		path = filepath.Dir(path)
		info, err := os.Stat(path)
		if err == nil && !mayPass(info, uid, gid) {
			blocked = path
		}
	}
	return blocked
}

func mayPass(info os.FileInfo, uid, gid uint32) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	mode := info.Mode().Perm()
	switch {
	case stat.Uid == uid:
		return mode&0o100 != 0
	case stat.Gid == gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// Resolve makes the path absolute and free of symbolic links, though its last
// elements need not exist.
func Resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	missing := ""
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(real, missing), nil
		}
		if !errors.Is(err, os.ErrNotExist) || path == "/" {
			return "", err
		}
		missing = filepath.Join(filepath.Base(path), missing)
		path = filepath.Dir(path)
	}
}

// Lock takes the folder for this process, and makes it if there is none. Where
// another process has it, the error is [ErrInUse] and names that process.
func Lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder (choose another with --data): %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder (choose another with --data): %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		pid, _ := io.ReadAll(io.LimitReader(f, maxPidBytes)) // for people only
		_ = f.Close()
		return nil, fmt.Errorf("%s is %w (process %s)", dir, ErrInUse, strings.TrimSpace(string(pid)))
	}
	if err == nil {
		err = writePid(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the data folder %s: %w", dir, err)
	}
	// The file stays: to remove it would let two processes lock two files of
	// the same name.
	return func() { _ = f.Close() }, nil
}

func writePid(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
