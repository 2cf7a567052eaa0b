// Package front drives a Cairn that stands behind a proxy: it writes and reads
// as clients do while replicas come, go and die, and says what was lost. The
// tests of the proxies and of the deployments share it.
package front

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cairn/internal/testkit"
)

// tailBytes is how much of a process's output a failed test shows.
const tailBytes = 8 << 10

// A Process is a program that runs, or did.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	out   Output
	ended chan struct{} // closed when it has ended
}

// Start runs a program, with these variables added to the environment, until
// the test ends. A failed test shows the end of its output.
func Start(t testing.TB, env []string, program string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Env = append(testkit.Environment(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	// A test run that is killed leaves no process behind.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its state tells
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s\n%s", p.cmd, p.out.tail())
		}
	})
	return p
}

// Stop asks for an orderly end and waits for it.
func (p *Process) Stop(within time.Duration) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.t.Fatalf("%s has not ended within %v", p.cmd, within)
	}
}

// Kill ends the process, and all of its group, at once.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.ended
}

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// An Output is what a process has written so far.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *Output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var lines []string
	for line := range strings.Lines(o.text.String()) {
		if !strings.Contains(line, "path=/readyz") && !strings.Contains(line, "path=/status") {
			lines = append(lines, line)
		}
	}
	s := strings.Join(lines, "")
	return s[max(0, len(s)-tailBytes):]
}
