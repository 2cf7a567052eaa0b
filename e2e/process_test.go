package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cairn/internal/testkit"
)

const (
	// patience bounds the wait for what takes a moment on an idle machine:
	// the suite shares its cores with the other packages' tests.
	patience = 2 * time.Minute
	// stopBound is how long an orderly stop may take here: a drain of idle
	// connections and the checkpoint of a small cluster.
	stopBound = 60 * time.Second
	// tailBytes is how much of a process's output a failed test shows.
	tailBytes = 8 << 10
)

// A command is a command line of a program, with what it runs in.
type command struct {
	program string // "": cairn
	args    []string
	env     []string // added to a clean environment
	dir     string
}

// A process is a program that runs, or did.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan struct{} // closed when it has ended and all its output is here
}

// start runs cairn with these arguments. It ends with the test.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	return command{args: args}.start(t)
}

func (c command) start(t testing.TB) *process {
	t.Helper()
	if c.program == "" {
		c.program = cairnProgram
	}
	p := &process{t: t, cmd: exec.Command(c.program, c.args...), ended: make(chan struct{})}
	p.cmd.Dir = c.dir
	p.cmd.Env = append(testkit.Environment(), c.env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	// A group of its own gets the signals that a terminal sends to a group; and
	// a test run that is killed leaves no process behind.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// A grandchild that inherited the pipes does not hold up the end.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its state tells
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s\n%s%s", filepath.Base(c.program), strings.Join(c.args, " "), p.stdout.tail(), p.stderr.tail())
		}
	})
	return p
}

// run is start for what ends by itself; it returns the exit code.
func run(t testing.TB, args ...string) (*process, int) {
	t.Helper()
	p := start(t, args...)
	return p, p.wait(patience)
}

// wait returns the exit code, -1 after a signal that killed the process.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-timer.C:
		p.t.Fatalf("%s has not ended within %v", p.cmd, within)
		return 0
	}
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// signal sends a signal to the process alone, as a service manager does.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

// interrupt is Ctrl-C: the terminal sends SIGINT to the whole group.
func (p *process) interrupt() {
	p.t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT); err != nil {
		p.t.Error(err)
	}
}

// kill ends the process at once and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// find waits for a text of the process's that the pattern matches, and returns
// the pattern's groups. A process that ends without it ends the test.
func (p *process) find(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	look := func() bool {
		for _, o := range []*output{&p.stdout, &p.stderr} {
			if found = re.FindStringSubmatch(o.String()); found != nil {
				return true
			}
		}
		return false
	}
	testkit.Eventually(p.t, patience, p.cmd.String()+" says "+pattern, func() bool {
		ended := !p.running()
		if look() {
			return true
		}
		if ended {
			p.t.Fatalf("%s has ended with code %d and did not say %s", p.cmd, p.cmd.ProcessState.ExitCode(), pattern)
		}
		return false
	})
	return found
}

// says fails the test if the process's errors lack one of the texts.
func (p *process) says(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		if !strings.Contains(p.stderr.String(), text) {
			p.t.Errorf("it does not say %q but:\n%s", text, p.stderr.tail())
		}
	}
}

// An output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// tail is the end of it, without the lines that come of our own polling.
func (o *output) tail() string {
	var lines []string
	for line := range strings.Lines(o.String()) {
		if !strings.Contains(line, "path=/readyz") && !strings.Contains(line, "path=/status") {
			lines = append(lines, line)
		}
	}
	s := strings.Join(lines, "")
	return s[max(0, len(s)-tailBytes):]
}
