package datadir

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const lockEnv = "CAIRN_TEST_LOCK"

// TestMain lets this binary be the other process that wants the lock.
func TestMain(m *testing.M) {
	if dir := os.Getenv(lockEnv); dir != "" {
		_, err := Lock(dir)
		fmt.Println(err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// lockElsewhere tries the lock in another process and returns its error's text.
func lockElsewhere(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the other process: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a second lock in the same process: got %v, want ErrInUse", err)
	}
	want := fmt.Sprintf("%s is in use by another cairn (process %d)", dir, os.Getpid())
	if got := lockElsewhere(t, dir); got != want {
		t.Errorf("a second lock in another process: got %q, want %q", got, want)
	}
	unlock()
	if got := lockElsewhere(t, dir); got != "<nil>" {
		t.Errorf("after unlock: got %q", got)
	}
	// The other process ended without unlocking.
	unlock, err = Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestBlocked(t *testing.T) {
	top, err := Resolve(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// The testing package closes the folder that it makes per test.
	if err := os.Chmod(filepath.Dir(top), 0o755); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(top, "closed")
	for dir, mode := range map[string]os.FileMode{"open": 0o755, "closed": 0o700, "group": 0o710} {
		if err := os.MkdirAll(filepath.Join(top, dir), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(closed, filepath.Join(top, "open", "link")); err != nil {
		t.Fatal(err)
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	for _, test := range []struct {
		path     string
		uid, gid uint32
		want     string
	}{
		{"open/data", nobody, nobody, ""},
		{"open/not/there/yet", nobody, nobody, ""},
		{"closed", nobody, nobody, ""}, // dir itself is not on the way
		{"closed/data", nobody, nobody, closed},
		{"closed/not/there/yet", nobody, nobody, closed},
		{"closed/data", uid, nobody, ""},
		{"closed/data", nobody, gid, closed},
		{"group/data", nobody, gid, ""},
		{"open/link/data", nobody, nobody, closed},
	} {
		t.Run(fmt.Sprintf("%s for %d:%d", test.path, int32(test.uid), int32(test.gid)), func(t *testing.T) {
			got := Blocked(filepath.Join(top, test.path), test.uid, test.gid)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(closed)
	want := local
	if os.Geteuid() == 0 {
		want = system
	}
	if got := Default(); got != want {
		t.Errorf("in a closed folder: got %q, want %q", got, want)
	}
	if os.Geteuid() == 0 {
		t.Chdir("/")
		if got := Default(); got != local {
			t.Errorf("in an open folder: got %q, want %q", got, local)
		}
	}
}
