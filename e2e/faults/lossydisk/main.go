// Command lossydisk mounts a disk of package lossy on each of the folders that are its
// arguments, and does what it is told, a line at a time, for tests that are not in this
// module or must not share a process with the file system that they use:
//
//	restore N SEED none    the power was cut: of what was not synced on disk N, none is left
//	restore N SEED some    the same, and some of it is, by chance
//
// It answers each line with "ok" or an error. With the end of its input it unmounts all
// and ends. Whoever uses a disk has ended before its power is cut.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"cairn/e2e/faults/lossy"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lossydisk:", err)
		os.Exit(1)
	}
}

// A mounted is a disk and where it is.
type mounted struct {
	disk    *lossy.Disk
	folder  string
	unmount func() error
}

func (m *mounted) mount() (err error) {
	m.unmount, err = m.disk.Mount(m.folder)
	return err
}

func run(folders []string) (err error) {
	var disks []*mounted
	defer func() {
		for _, m := range disks {
			err = errors.Join(err, m.unmount())
		}
	}()
	for _, folder := range folders {
		m := &mounted{disk: lossy.New(), folder: folder}
		if err := m.mount(); err != nil {
			return err
		}
		disks = append(disks, m)
	}
	fmt.Println("ok")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := do(disks, lines.Text()); err != nil {
			fmt.Println("error:", err)
			continue
		}
		fmt.Println("ok")
	}
	return lines.Err()
}

func do(disks []*mounted, line string) error {
	var n int
	var seed uint64
	var left string
	if _, err := fmt.Sscanf(line, "restore %d %d %s", &n, &seed, &left); err != nil || n < 0 || n >= len(disks) || left != "none" && left != "some" {
		return fmt.Errorf("%q is not understood", line)
	}
	m := disks[n]
	m.disk.Cut()
	if err := m.unmount(); err != nil {
		return err
	}
	m.disk.Restore(rand.New(rand.NewPCG(seed, 0)), left == "some") //nolint:gosec // a test's chance
	return m.mount()
}
