//go:build faults

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cairn/internal/testkit"
)

const (
	// speakBound is how long a process may take until it says where it listens.
	speakBound = 60 * time.Second
	// stopBound is how long an orderly stop may take.
	stopBound = 60 * time.Second
	// tailBytes is how much of a process's last words a failure shows.
	tailBytes = 4 << 10
)

// A process is one run of the cairn binary.
type process struct {
	name  string
	cmd   *exec.Cmd
	out   *words
	clock string // the file that tells its clock
	ended chan struct{}
	// expected says that we have ended it, so that its end is no finding.
	expected atomic.Bool
	killed   atomic.Bool
}

// launch starts cairn. All it says goes to the end of a file, which a later run
// under the same name goes on with.
func launch(logs, name string, args ...string) (*process, error) {
	file, err := os.OpenFile(filepath.Join(logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(file, "--- %s cairn %s\n", time.Now().Format(time.StampMilli), strings.Join(args, " "))
	p := &process{name: name, cmd: exec.Command(cairnProgram, args...), out: &words{file: file},
		clock: filepath.Join(logs, name+".clock"), ended: make(chan struct{})}
	p.cmd.Env = append(testkit.Environment(), clockEnv+"="+p.clock)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = time.Second // for what a grandchild inherited
	if err := p.cmd.Start(); err != nil {
		_ = file.Close()
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // its state tells
		_ = file.Close()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// signal reaches it or finds it gone; both are fine.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends it at once.
func (p *process) kill() {
	p.expected.Store(true)
	p.killed.Store(true)
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// stop ends it in order, within a bounded time and with code 0.
func (p *process) stop() error {
	p.expected.Store(true)
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	t := time.NewTimer(stopBound)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
		p.signal(syscall.SIGQUIT) // its stacks go to the log
		return fmt.Errorf("%s has not ended %v after SIGTERM", p.name, stopBound)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 && !p.killed.Load() {
		return fmt.Errorf("%s ended with code %d after SIGTERM: %s", p.name, code, p.out.tail())
	}
	return nil
}

// wait returns the exit code, or an error when it goes on for too long.
func (p *process) wait(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s has not ended: %s", p.name, p.out.tail())
	}
}

var errNotSaid = errors.New("it ended and did not say it")

// says waits until the process has said what the pattern matches, and returns
// the pattern's first group.
func (p *process) says(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, speakBound)
	defer cancel()
	for {
		ended := !p.running()
		if found := pattern.FindStringSubmatch(p.out.begin()); found != nil {
			return found[1], nil
		}
		if ended {
			return "", fmt.Errorf("%s: %w: %s", p.name, errNotSaid, p.out.tail())
		}
		if err := pause(ctx, pollEvery); err != nil {
			return "", fmt.Errorf("%s has not said %s: %s", p.name, pattern, p.out.tail())
		}
	}
}

// words are what a process has said: all of it in a file, its beginning and its
// end in memory.
type words struct {
	file  *os.File
	mu    sync.Mutex
	first bytes.Buffer
	last  []byte
}

// headBytes is how much of the beginning is kept: more than a start says.
const headBytes = 16 << 10

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.first.Write(b[:min(len(b), headBytes-w.first.Len())])
	w.last = append(w.last, b...)
	w.last = w.last[max(0, len(w.last)-tailBytes):]
	return w.file.Write(b)
}

func (w *words) begin() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first.String()
}

func (w *words) tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.last)
}

// pollEvery is how often a condition is looked at.
const pollEvery = 20 * time.Millisecond

// pause waits, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until returns nil as soon as cond does, or what it said last.
func until(ctx context.Context, bound time.Duration, what string, cond func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for {
		err := cond(ctx)
		if err == nil {
			return nil
		}
		if pause(ctx, pollEvery) != nil {
			return fmt.Errorf("waited %v in vain until %s: %w", bound, what, err)
		}
	}
}
