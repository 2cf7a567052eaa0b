package testrig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"cairn/internal/testkit"
)

const (
	// SpeakBound is how long a process may take until it says what is waited for,
	// and StopBound how long an orderly stop may take: a drain of connections and
	// the checkpoint of a cluster, on cores that others share.
	SpeakBound = 60 * time.Second
	StopBound  = 60 * time.Second
	// inheritedPipes is how long a grandchild that inherited the pipes may hold
	// up the end.
	inheritedPipes = time.Second
)

// A Command is a command line of a program, with what it runs in.
type Command struct {
	Program string
	Args    []string
	Env     []string // added to an environment without settings of Cairn's
	Dir     string
	// Log is a file that gets all the process says, behind what is there; ""
	// keeps it in memory.
	Log string
}

// A Process is a program that runs, or did.
type Process struct {
	Cmd            *exec.Cmd
	Stdout, Stderr *Output // one, where it goes to a file
	ended          chan struct{}
	// asked says that we have ended it, so that its end is no surprise; killed,
	// that its exit code tells nothing.
	asked, killed atomic.Bool
}

// Launch starts the program, in a group of its own, which gets the signals that a
// terminal sends to a group. It does not outlive a run that is killed.
func (c Command) Launch() (*Process, error) {
	p := &Process{Cmd: exec.Command(c.Program, c.Args...), Stdout: &Output{}, Stderr: &Output{}, ended: make(chan struct{})}
	if c.Log != "" {
		file, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(file, "--- %s %s %s\n", time.Now().Format(time.StampMilli), filepath.Base(c.Program), strings.Join(c.Args, " "))
		p.Stdout.file = file
		p.Stderr = p.Stdout
	}
	p.Cmd.Dir = c.Dir
	p.Cmd.Env = append(testkit.Environment(), c.Env...)
	p.Cmd.Stdout, p.Cmd.Stderr = p.Stdout, p.Stderr
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.Cmd.WaitDelay = inheritedPipes
	if err := p.Cmd.Start(); err != nil {
		p.closeLog()
		return nil, fmt.Errorf("start %s: %w", c.Program, err)
	}
	go func() {
		_ = p.Cmd.Wait() // its state tells
		p.closeLog()
		close(p.ended)
	}()
	return p, nil
}

func (p *Process) closeLog() {
	if p.Stdout.file != nil {
		_ = p.Stdout.file.Close()
	}
}

// Ended is closed when the process has ended and all its output is here.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Asked reports whether the process's end was asked for.
func (p *Process) Asked() bool { return p.asked.Load() }

// PID is the process's number.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Code is the exit code of a process that has ended, -1 after a signal.
func (p *Process) Code() int { return p.Cmd.ProcessState.ExitCode() }

// Signal sends a signal to the process alone, as a service manager does. It
// reaches it or finds it gone; both are fine.
func (p *Process) Signal(s syscall.Signal) { _ = p.Cmd.Process.Signal(s) }

// Interrupt is Ctrl-C: the terminal sends SIGINT to the whole group.
func (p *Process) Interrupt() {
	p.asked.Store(true)
	_ = syscall.Kill(-p.PID(), syscall.SIGINT) // it may have ended
}

// Kill ends the process at once and returns when it is gone.
func (p *Process) Kill() {
	p.asked.Store(true)
	p.killed.Store(true)
	p.Signal(syscall.SIGKILL)
	<-p.ended
}

// KillGroup is Kill for all of the process's group.
func (p *Process) KillGroup() {
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // it may have ended
	p.Kill()
}

// Stacks ends the process so that its log shows what it was doing.
func (p *Process) Stacks() {
	p.asked.Store(true)
	p.Signal(syscall.SIGQUIT)
}

// End waits for the exit code.
func (p *Process) End(ctx context.Context) (int, error) {
	select {
	case <-p.ended:
		return p.Code(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s has not ended: %s", p.Cmd, p.Stderr.Tail())
	}
}

// Stop asks the process to end, wakes it if it is stopped, and waits: it must end
// in time and with code 0.
func (p *Process) Stop() error {
	p.asked.Store(true)
	p.Signal(syscall.SIGCONT)
	p.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), StopBound)
	defer cancel()
	code, err := p.End(ctx)
	if err != nil {
		p.Signal(syscall.SIGQUIT) // its stacks go to the log
		return fmt.Errorf("%v after SIGTERM: %w", StopBound, err)
	}
	if code != 0 && !p.killed.Load() {
		return fmt.Errorf("%s ended with code %d after SIGTERM: %s", p.Cmd, code, p.Stderr.Tail())
	}
	return nil
}

// ErrNotSaid is what Says returns of a process that ended without saying it.
var ErrNotSaid = errors.New("it ended and did not say it")

// Says waits, for SpeakBound, until the process has said what the pattern
// matches, and returns the pattern's groups.
func (p *Process) Says(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, SpeakBound)
	defer cancel()
	for {
		ended := !p.Running()
		for _, o := range []*Output{p.Stdout, p.Stderr} {
			if found := pattern.FindStringSubmatch(o.String()); found != nil {
				return found, nil
			}
		}
		if ended {
			return nil, fmt.Errorf("%s: %w (%s): %s", p.Cmd, ErrNotSaid, pattern, p.Stderr.Tail())
		}
		if Pause(ctx, pollEvery) != nil {
			return nil, fmt.Errorf("%s has not said %s: %s", p.Cmd, pattern, p.Stderr.Tail())
		}
	}
}
