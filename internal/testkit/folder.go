package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cairn/internal/datadir"
	"cairn/internal/postgres"
)

// folderPrefix begins the names of our temporary folders; the process id of the
// run follows.
const folderPrefix = "cairn-test-"

// clusterName is the cluster's folder in one of ours.
const clusterName = "postgres"

// Folder is like t.TempDir, but every user can enter it, as the user postgres
// must where the tests run as root, and its path is short enough for sockets.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := makeFolder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the test's folder: %v", err)
		}
	})
	return dir
}

func makeFolder() (string, error) {
	removeOrphanFolders()
	dir, err := os.MkdirTemp(tempDir(), folderPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", fmt.Errorf("make a temporary folder: %w", err)
	}
	return dir, os.Chmod(dir, 0o755)
}

// tempDir is the system's, unless that is closed to others.
func tempDir() string {
	const nobody = ^uint32(0)
	dir := os.TempDir()
	if datadir.Blocked(filepath.Join(dir, "x"), nobody, nobody) != "" {
		return "/tmp"
	}
	return dir
}

var removeOrphanFolders = sync.OnceFunc(clearOrphanFolders)

// clearOrphanFolders removes what runs that were killed left, with the servers
// that still run there. Nothing depends on its success.
func clearOrphanFolders() {
	found, err := filepath.Glob(filepath.Join(tempDir(), folderPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), folderPrefix), "-")
		info, err := os.Lstat(dir)
		if err != nil || alive(pid) || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		_ = postgres.Destroy(context.Background(), filepath.Join(dir, clusterName))
		_ = os.RemoveAll(dir)
	}
}

// alive reports whether a run may still be at work; of what is no number it
// says yes.
func alive(pid string) bool {
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 0 {
		return true
	}
	return !errors.Is(syscall.Kill(n, 0), syscall.ESRCH)
}
