package faults

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"cairn/e2e/faults/lossy"
)

// mayMount reports whether this process may mount file systems. Who is not root
// may do that in a namespace of his own: then the test runs again in there, and
// here there is nothing left to do.
func mayMount(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return true
	}
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v",
		"-program", cairnProgram, "-seed", fmt.Sprint(*seed))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a namespace of its own: %v", err)
	}
	t.Logf("%s", out)
	return false
}

// mount makes the disk's files appear in the folder until the test ends, or the
// result is called.
func mount(t testing.TB, d *lossy.Disk, folder string) (unmount func()) {
	t.Helper()
	end, err := d.Mount(folder)
	if err != nil {
		t.Fatal(err)
	}
	unmount = sync.OnceFunc(func() {
		if err := end(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	t.Cleanup(unmount)
	return unmount
}
