package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"cairn/internal/testrig"
)

// authTurn is how long keyed and open requests are made side by side at a time: the
// least that wrk can, so that there are many turns.
const authTurn = time.Second

// A service is a role that is measured by what it takes of processors.
type service struct {
	process *testrig.Process
	base    string
	field   []string // of all requests to it, as wrk takes it
}

// benchAuth measures what it costs to be known by a key: the durable POST and the hot
// page, of services that ask for one and of others beside them that do not. What counts
// is the processor time that the service takes for a request. Both are asked at the same
// time, in many short turns: a few per cent are less than what other work on the machine
// does to either. Each round has services of its own, the one or the other started
// first: of two that do the same, one may take 1 % more all its life, by where its
// memory lies.
func benchAuth(ctx context.Context, sys *system, s settings) error {
	if err := sys.fill(ctx, 1000); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, sys.binary, "keys", "add", "bench", "--scope", "read,write", "--data", sys.dir, "--nats-url", sys.nats).Output()
	if err != nil {
		return fmt.Errorf("make an access key: %w", err)
	}
	authorization := "Bearer " + strings.TrimSpace(string(out))
	script := filepath.Join(sys.dir, "post.lua")
	if err := os.WriteFile(script, []byte(postScript), 0o600); err != nil {
		return err
	}
	for _, row := range []authRow{
		{"durable POST /point by a key ÷ by nobody", "ingest", "/point/uploads/none", s.post, func(to service) (wrkResult, error) {
			return runWrk(ctx, postConnections, authTurn, to.base+"/point", append([]string{"-s", script}, to.field...)...)
		}},
		{"cached GET " + cachedPath + " by a key ÷ by nobody", "query", cachedPath, s.read, func(to service) (wrkResult, error) {
			return runWrk(ctx, cachedConnections, authTurn, to.base+cachedPath, to.field...)
		}},
	} {
		var rates, costs []pair
		for round := range s.rounds {
			rate, cost, err := row.round(ctx, sys, authorization, round)
			if err != nil {
				return err
			}
			rates, costs = append(rates, rate...), append(costs, cost...)
		}
		report(row.name+", by processor time", "requests per CPU second", costs)
		report(row.name, "requests/s", rates)
	}
	return nil
}

// An authRow is one kind of request that is made by a key and by nobody.
type authRow struct {
	name, role string
	path       string // of a GET that shows whether a key holds
	time       time.Duration
	ask        func(service) (wrkResult, error)
}

// round starts a service that asks for a key and one that does not, and returns what
// each turn of both measured.
func (r authRow) round(ctx context.Context, sys *system, authorization string, number int) (rates, costs []pair, err error) {
	services := map[string]service{}
	modes := []string{"keys", "none"}
	for i := range modes {
		mode := modes[(i+number)%len(modes)]
		p, base, err := sys.startBeside(ctx, r.role, mode)
		if err != nil {
			return nil, nil, err
		}
		defer p.Kill()
		services[mode] = service{process: p, base: base}
	}
	keyed, open := services["keys"], services["none"]
	keyed.field = []string{"-H", "Authorization: " + authorization}
	if err := keyHolds(ctx, authorization, keyed.base+r.path); err != nil {
		return nil, nil, err
	}
	if err := sys.settle(ctx); err != nil { // or it is the last round's points that are projected meanwhile
		return nil, nil, err
	}
	sys.pause()
	defer sys.resume()
	for range r.time / authTurn {
		rate, cost, err := sideBySide(keyed, open, r.ask)
		if err != nil {
			return nil, nil, err
		}
		rates, costs = append(rates, rate), append(costs, cost)
	}
	return rates, costs, nil
}

// sideBySide asks two services at once, and returns the rates and how many requests each
// answered in a second of its processor time.
func sideBySide(ours, peer service, ask func(service) (wrkResult, error)) (rates, perCPU pair, err error) {
	var rate, cost [2]float64
	var errs [2]error
	var group sync.WaitGroup
	for i, one := range []service{ours, peer} {
		group.Go(func() { rate[i], cost[i], errs[i] = perCPUSecond(one, ask) })
	}
	group.Wait()
	return pair{rate[0], rate[1]}, pair{cost[0], cost[1]}, errors.Join(errs[:]...)
}

// perCPUSecond asks a service for a while, and returns how many requests it answered in
// a second, and in a second of its processor time.
func perCPUSecond(one service, ask func(service) (wrkResult, error)) (rate, perSecond float64, err error) {
	before, err := cpuTime(one.process.PID())
	if err != nil {
		return 0, 0, err
	}
	result, err := ask(one)
	if err != nil {
		return 0, 0, err
	}
	after, err := cpuTime(one.process.PID())
	if err != nil || after <= before {
		return 0, 0, errors.Join(err, fmt.Errorf("process %d took no processor time", one.process.PID()))
	}
	return result.rate, float64(result.requests) / (after - before).Seconds(), nil
}

// cpuTime is what all threads of a process have had of processors, to the nanosecond (see
// "schedstats" of the kernel's documentation): in a turn of a second the ticks of
// proc_pid_stat(5) are too coarse. A thread that ends takes its time with it, but Go seldom
// ends one.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, errors.Join(err, fmt.Errorf("process %d has no /proc/PID/task/*/schedstat", pid))
	}
	var sum time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		text, _, _ := strings.Cut(string(data), " ")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += time.Duration(n)
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
		passwords, err := os.ReadFile(filepath.Join(s.dir, "nats-passwords"))
		if err == nil {
			data, err = os.MkdirTemp(s.dir, "ingest-"+mode+"-")
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(data, "nats-passwords"), passwords, 0o600)
		}
		if err != nil {
			return nil, "", err
		}
	}
	log, err := os.CreateTemp(s.dir, role+"-"+mode+"-*.log") // see startRole
	if err != nil {
		return nil, "", err
	}
	_ = log.Close()
	p, err = testrig.Command{Program: s.binary, Args: []string{role, "--listen", anyPort, "--data", data, "--nats-url", s.nats, "--auth", mode}, Log: log.Name()}.Launch()
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
