package faults

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"cairn/internal/testrig"
)

// launch starts cairn. All it says goes to the end of a file, which a later run
// under the same name continues with.
func launch(logs, name string, args ...string) (*testrig.Process, error) {
	return testrig.Command{Program: cairnProgram, Args: args, Env: []string{clockEnv + "=" + clockFile(logs, name)},
		Log: filepath.Join(logs, name+".log")}.Launch()
}

// clockFile tells a process's clock.
func clockFile(logs, name string) string { return filepath.Join(logs, name+".clock") }

// setClock makes a role's clock differ by so much.
func (r *role) setClock(p *testrig.Process, d time.Duration) error {
	err := os.WriteFile(clockFile(r.s.logs, r.s.name+"-"+r.name), []byte(strconv.FormatInt(int64(d/time.Second), 10)), 0o600)
	p.Signal(syscall.SIGUSR1)
	return err
}
