package faults

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"cairn/internal/testrig"
)

// storeRoom is the size of the disk under the store: Cairn gives a tenth of the
// free room to the stream at most.
const storeRoom = 12 * streamBytes

// smallDisk puts the store on a small disk of its own, so that it can be filled.
// Only root can; the fault is then counted as one that could not be.
func (s *system) smallDisk(t testing.TB) {
	t.Helper()
	dir := s.store()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+strconv.Itoa(storeRoom)); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	s.small = true
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
}

func (s *system) store() string { return filepath.Join(s.data, "jetstream") }

// strikeRoom fills the disk under the store at once, and frees it again: what
// comes meanwhile must be refused, and then all must continue without help.
func (s *system) strikeRoom(ctx context.Context, f fault) error {
	if !s.small {
		s.figures.count("full disks that only root can make")
		return nil
	}
	filler := filepath.Join(s.store(), "filler-"+strconv.FormatUint(f.salt, 36))
	file, err := os.Create(filler)
	if err != nil {
		return err
	}
	defer os.Remove(filler)
	defer file.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		part := make([]byte, size)
		for err == nil {
			_, err = file.Write(part)
		}
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
		err = nil
	}
	_ = testrig.Pause(ctx, f.lasts)
	return nil
}
