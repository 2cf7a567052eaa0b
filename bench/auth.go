package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cairn/internal/testrig"
)

// benchAuth measures what it costs to be known by a key: the durable POST and the hot
// page, of services that ask for one and of others beside them that do not. What counts
// is the processor time that the service takes for a request, in many short turns: a few
// per cent are less than what other work on the machine does to a rate.
func benchAuth(ctx context.Context, sys *system, s settings) error {
	if err := sys.fill(ctx, 1000); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, sys.binary, "keys", "add", "bench", "--scope", "read,write", "--data", sys.dir, "--nats-url", sys.nats).Output()
	if err != nil {
		return fmt.Errorf("make an access key: %w", err)
	}
	field := []string{"-H", "Authorization: Bearer " + strings.TrimSpace(string(out))}
	bases, services := map[string]string{}, map[string]*testrig.Process{} // by role and mode
	for _, mode := range []string{"none", "keys"} {
		for _, role := range []string{"ingest", "query"} {
			p, base, err := sys.startBeside(ctx, role, mode)
			if err != nil {
				return err
			}
			defer p.Kill()
			bases[role+mode], services[role+mode] = base, p
		}
	}
	err = keyHolds(ctx, strings.TrimPrefix(field[1], "Authorization: "), bases["ingestkeys"]+"/point/uploads/none", bases["querykeys"]+cachedPath)
	if err != nil {
		return err
	}
	script := filepath.Join(sys.dir, "post.lua")
	if err := os.WriteFile(script, []byte(postScript), 0o600); err != nil {
		return err
	}
	post := func(mode string, header []string) (float64, error) {
		if err := sys.settle(ctx); err != nil {
			return 0, err
		}
		sys.pause()
		defer sys.resume()
		return runWrk(ctx, postConnections, s.post/authTurns, bases["ingest"+mode]+"/point", append([]string{"-s", script}, header...)...)
	}
	read := func(mode string, header []string) (float64, error) {
		return runWrk(ctx, cachedConnections, s.read/authTurns, bases["query"+mode]+cachedPath, header...)
	}
	for _, row := range []struct {
		name, role string
		rate       func(mode string, header []string) (float64, error)
		turn       time.Duration
	}{{"durable POST /point by a key ÷ by nobody", "ingest", post, s.post}, {"cached GET " + cachedPath + " by a key ÷ by nobody", "query", read, s.read}} {
		var rates, costs []pair
		for range authTurns * s.rounds {
			keyed, ours, err := perCPUSecond(services[row.role+"keys"], row.turn/authTurns, func() (float64, error) { return row.rate("keys", field) })
			if err != nil {
				return err
			}
			open, peer, err := perCPUSecond(services[row.role+"none"], row.turn/authTurns, func() (float64, error) { return row.rate("none", nil) })
			if err != nil {
				return err
			}
			rates, costs = append(rates, pair{keyed, open}), append(costs, pair{ours, peer})
		}
		report(row.name+", by processor time", "requests per CPU second", costs)
		report(row.name, "requests/s", rates)
	}
	return nil
}

// authTurns is in how many turns a measurement's time is spent.
const authTurns = 4

// perCPUSecond measures a rate for a while, and how many requests the service answered
// in a second of processor time.
func perCPUSecond(p *testrig.Process, d time.Duration, measure func() (float64, error)) (rate, perSecond float64, err error) {
	before, err := cpuTime(p.PID())
	if err != nil {
		return 0, 0, err
	}
	if rate, err = measure(); err != nil {
		return 0, 0, err
	}
	after, err := cpuTime(p.PID())
	if err != nil || after <= before {
		return 0, 0, errors.Join(err, fmt.Errorf("process %d took no processor time", p.PID()))
	}
	return rate, rate * d.Seconds() / (after - before).Seconds(), nil
}

// cpuTime is what a process has had of processors; see proc_pid_stat(5).
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	const user, system, tick = 11, 12, 10 * time.Millisecond // behind the name
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) <= system {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, data)
	}
	var sum time.Duration
	for _, field := range fields[user : system+1] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// keyHolds waits until all that is asked knows the key.
func keyHolds(ctx context.Context, authorization string, urls ...string) error {
	return testrig.Until(ctx, startWithin, "the key holds", func(ctx context.Context) error {
		for _, url := range urls {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			request.Header.Set("Authorization", authorization)
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusNotFound {
				return fmt.Errorf("GET %s: %s", url, answer.Status)
			}
		}
		return nil
	})
}

// startBeside starts a further service on the system's queue and database, and waits
// until it answers what it must.
func (s *system) startBeside(ctx context.Context, role, mode string) (p *testrig.Process, base string, err error) {
	data := s.dir
	if role == "ingest" { // which locks its folder
		data = filepath.Join(s.dir, "ingest-"+mode)
		passwords, err := os.ReadFile(filepath.Join(s.dir, "nats-passwords"))
		if err == nil {
			err = os.Mkdir(data, 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(data, "nats-passwords"), passwords, 0o600)
		}
		if err != nil {
			return nil, "", err
		}
	}
	p, err = testrig.Command{Program: s.binary, Args: []string{role, "--listen", anyPort, "--data", data, "--nats-url", s.nats, "--auth", mode},
		Log: filepath.Join(s.dir, role+"-"+mode+".log")}.Launch()
	if err != nil {
		return nil, "", err
	}
	if base, err = says(ctx, p, testrig.Listening); err == nil {
		err = testrig.Until(ctx, startWithin, role+" is ready", func(ctx context.Context) error { return testrig.GetJSON(ctx, base+"/readyz", nil) })
	}
	if err != nil {
		p.Kill()
	}
	return p, base, err
}
