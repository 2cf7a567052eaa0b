package testrig

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cairn/internal/testkit"
)

// Patience bounds a test's wait for what takes a moment on an idle machine: the
// suite shares its cores with the other packages' tests.
const Patience = 2 * time.Minute

// A Run is a process of a test's: what goes wrong with it ends the test.
type Run struct {
	*Process
	T testing.TB
}

// Start runs the command until the test ends. A failed test shows the end of its
// output.
func (c Command) Start(t testing.TB) *Run {
	t.Helper()
	p, err := c.Launch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.KillGroup()
		if t.Failed() {
			text := p.Stdout.Tail()
			if p.Stderr != p.Stdout {
				text += p.Stderr.Tail()
			}
			t.Logf("%s %s\n%s", filepath.Base(c.Program), strings.Join(c.Args, " "), text)
		}
	})
	return &Run{Process: p, T: t}
}

// Wait returns the exit code, -1 after a signal that killed the process.
func (r *Run) Wait(within time.Duration) int {
	r.T.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-r.Ended():
	case <-timer.C:
		r.T.Fatalf("%s has not ended within %v", r.Cmd, within)
	}
	return r.Code()
}

// Leave is Ctrl-C; the process must end in time and with code 0.
func (r *Run) Leave() {
	r.T.Helper()
	r.Interrupt()
	if code := r.Wait(StopBound); code != 0 {
		r.T.Errorf("the exit code after an orderly stop is %d", code)
	}
}

// MustStop is Stop that has to succeed.
func (r *Run) MustStop() {
	r.T.Helper()
	if err := r.Stop(); err != nil {
		r.T.Fatal(err)
	}
}

// Find waits for a text of the process's that the pattern matches, and returns
// the pattern's groups. A process that ends without it ends the test.
func (r *Run) Find(pattern string) []string {
	r.T.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	testkit.Eventually(r.T, Patience, r.Cmd.String()+" says "+pattern, func() bool {
		ended := !r.Running()
		for _, o := range []*Output{r.Stdout, r.Stderr} {
			if found = re.FindStringSubmatch(o.String()); found != nil {
				return true
			}
		}
		if ended {
			r.T.Fatalf("%s has ended with code %d and did not say %s", r.Cmd, r.Code(), pattern)
		}
		return false
	})
	return found
}

// Complains fails the test if the process's errors lack one of the texts.
func (r *Run) Complains(texts ...string) {
	r.T.Helper()
	for _, text := range texts {
		if !strings.Contains(r.Stderr.String(), text) {
			r.T.Errorf("it does not say %q but:\n%s", text, r.Stderr.Tail())
		}
	}
}
