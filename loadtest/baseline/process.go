package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	startWithin = 60 * time.Second
	stopWithin  = 30 * time.Second
	lookEvery   = 20 * time.Millisecond
)

// A process runs in a folder, with its log in a file.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// launch starts a process; it does not wait for it to be ready.
func (m *machine) launch(name string, env []string, program string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(m.dir, name+".log"), exited: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	p.cmd = exec.Command(program, args...)
	p.cmd.Dir = m.dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A terminal's Ctrl-C is for this program, which then stops the others.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	m.processes = append(m.processes, p)
	return p, nil
}

// until waits for a condition, while the process runs.
func (p *process) until(ctx context.Context, what string, condition func() bool) error {
	deadline := time.After(startWithin)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-p.exited:
			return fmt.Errorf("%s ended:\n%s", p.name, p.lastWords())
		case <-deadline:
			return fmt.Errorf("%s: no %s within %v:\n%s", p.name, what, startWithin, p.lastWords())
		}
	}
	return nil
}

// answers waits until the URL is answered with 200.
func (p *process) answers(ctx context.Context, url string) error {
	return p.until(ctx, "answer at "+url, func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (p *process) lastWords() string {
	data, _ := os.ReadFile(p.log)
	return tail(string(data))
}

// stop asks, waits, and kills what does not go.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopWithin):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// tail is the end of a log.
func tail(text string) string {
	const lines = 15
	parts := strings.SplitAfter(strings.TrimSpace(text), "\n")
	return strings.Join(parts[max(0, len(parts)-lines):], "")
}

// freeAddress is one that nobody listens on now. Another program could take it
// before ours does; then the start fails and says so.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func freeAddresses(n int) (all []string, err error) {
	for range n {
		a, err2 := freeAddress()
		all, err = append(all, a), errors.Join(err, err2)
	}
	return all, err
}
