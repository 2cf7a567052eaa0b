package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cairn/internal/datadir"
	"cairn/internal/testkit"
)

// A disk says what it lacks, and that it lacks nothing once that is fixed.
func TestDisk(t *testing.T) {
	dir, here := testkit.SmallDisk(t, "size=256m,nr_inodes=400")
	if !here {
		return
	}
	filler := filepath.Join(dir, "filler")
	remount := func(t *testing.T, flags uintptr) {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name        string
		spoil, mend func(t *testing.T)
		want        error
		says        string
	}{
		{"bytes", func(t *testing.T) { testkit.Fill(t, filler, 512) },
			func(t *testing.T) { mustRemove(t, filler) }, datadir.ErrFull, "the disk is full: only 0 MiB are free"},
		{"almost no bytes", func(t *testing.T) { testkit.Fill(t, filler, 200) },
			func(t *testing.T) { mustRemove(t, filler) }, datadir.ErrFull, "the disk is full: only 5"},
		{"files", func(t *testing.T) { useFiles(t, dir) },
			func(t *testing.T) { mustRemove(t, filepath.Join(dir, "many")) }, datadir.ErrFull, "the disk is full: only 0 more files (inodes) can be made"},
		{"read-only", func(t *testing.T) { remount(t, unix.MS_RDONLY) },
			func(t *testing.T) { remount(t, 0) }, datadir.ErrUnwritable, "nothing can be written: the file system is read-only"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := datadir.NewDisk(dir)
			if err := d.Check(); err != nil {
				t.Fatal(err)
			}
			test.spoil(t)
			err := d.Check()
			if !errors.Is(err, test.want) || !strings.HasPrefix(err.Error(), test.says) {
				t.Errorf("got %v, want %s", err, test.says)
			}
			test.mend(t)
			if err := d.Check(); err != nil {
				t.Errorf("mended: %v", err)
			}
		})
	}
}

// A disk on the edge is not full and free by turns: what was full once is so until
// there is clearly enough.
func TestDiskAtTheBrink(t *testing.T) {
	dir, here := testkit.SmallDisk(t, "size=256m")
	if !here {
		return
	}
	d := datadir.NewDisk(dir)
	for _, step := range []struct {
		used int // MiB of 256
		full bool
	}{{150, false}, {200, true}, {150, true}, {100, false}, {150, false}} {
		testkit.Fill(t, filepath.Join(dir, "filler"), step.used)
		if err := d.Check(); errors.Is(err, datadir.ErrFull) != step.full {
			t.Errorf("%d MiB of 256 used: %v", step.used, err)
		}
	}
}

// Whoever watches is told once when something is wrong, and once when it is not any more.
func TestWatched(t *testing.T) {
	dir, here := testkit.SmallDisk(t, "size=256m")
	if !here {
		return
	}
	filler := filepath.Join(dir, "filler")
	told := make(chan error, 10)
	w := datadir.NewMonitor(t.Context(), dir, func(err error) { told <- err })
	if err := w.Problem(); err != nil {
		t.Error(err)
	}
	next := func() error {
		select {
		case err := <-told:
			return err
		case <-time.After(30 * time.Second):
			t.Fatal("nothing was told")
			return nil
		}
	}
	testkit.Fill(t, filler, 512)
	if err := next(); !errors.Is(err, datadir.ErrFull) || !errors.Is(w.Problem(), datadir.ErrFull) {
		t.Errorf("a full disk: told %v, and says %v", err, w.Problem())
	}
	mustRemove(t, filler)
	if err := next(); err != nil || w.Problem() != nil {
		t.Errorf("freed: told %v, and says %v", err, w.Problem())
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("it leaves %v behind (%v)", names, err)
	}
}

func mustRemove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// useFiles makes empty files until no more can be made.
func useFiles(t *testing.T, dir string) {
	t.Helper()
	many := filepath.Join(dir, "many")
	if err := os.Mkdir(many, 0o755); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		err := os.WriteFile(filepath.Join(many, strconv.Itoa(n)), nil, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
