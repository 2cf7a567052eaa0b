//go:build e2ecluster

package cluster

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cairn/internal/testkit"
)

// Disks are those of the nodes, in memory, in a process of their own: a power cut takes
// from them what was not synced.
type disks struct {
	t       testing.TB
	orders  io.WriteCloser
	answers *bufio.Scanner
	cmd     *exec.Cmd
	cuts    int
}

// newDisks mounts one on each folder. They are gone with the test.
func newDisks(t testing.TB, folders ...string) *disks {
	t.Helper()
	program := filepath.Join(t.TempDir(), "lossydisk")
	if err := testkit.Build("../faults", program, "./lossydisk"); err != nil {
		t.Fatal(err)
	}
	d := &disks{t: t, cmd: exec.Command(program, folders...)}
	var errs strings.Builder
	d.cmd.Stderr = &errs
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it unmounts when its input ends, with us too
	in, err := d.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.orders, d.answers = in, bufio.NewScanner(out)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.orders.Close()
		if err := d.cmd.Wait(); err != nil {
			t.Errorf("the disks: %v: %s", err, errs.String())
		}
	})
	d.answered("mount")
	return d
}

func (d *disks) answered(order string) {
	d.t.Helper()
	if !d.answers.Scan() || d.answers.Text() != "ok" {
		d.t.Fatalf("the disks: %s: %q %v", order, d.answers.Text(), d.answers.Err())
	}
}

// cut is the power cut of a node that is dead. Of what it had not synced nothing is
// left, or every other time some.
func (d *disks) cut(node int) {
	d.t.Helper()
	left := "none"
	if d.cuts++; d.cuts%2 == 0 {
		left = "some"
	}
	order := fmt.Sprintf("restore %d %d %s", node, *seed+uint64(d.cuts), left)
	if _, err := fmt.Fprintln(d.orders, order); err != nil {
		d.t.Fatal(err)
	}
	d.answered(order)
}
