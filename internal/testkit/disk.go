package testkit

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// SmallDisk mounts a file system in memory for the test, with options such as
// "size=256m". Who is not root does that in a namespace: the test then runs again in
// there, and false is returned.
func SmallDisk(t *testing.T, options string) (dir string, here bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("in a namespace of its own: %v\n%s", err, out)
		}
		return "", false
	}
	dir = Folder(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755,"+options); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, true
}

// Fill writes a file until the disk is full or the file has so many MiB.
func Fill(t testing.TB, file string, mib int) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for part := make([]byte, 1<<20); mib > 0; mib-- {
		if _, err := f.Write(part); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
