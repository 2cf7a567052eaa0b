package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"cairn/internal/testrig"
)

// benchAuth measures what it costs to be known by a key: the durable POST and the hot
// page, of services that ask for one and of others beside them that do not.
func benchAuth(ctx context.Context, sys *system, s settings) error {
	if err := sys.fill(ctx, 1000); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, sys.binary, "keys", "add", "bench", "--scope", "read,write", "--data", sys.dir, "--nats-url", sys.nats).Output()
	if err != nil {
		return fmt.Errorf("make an access key: %w", err)
	}
	field := []string{"-H", "Authorization: Bearer " + strings.TrimSpace(string(out))}
	bases := map[string]string{} // by role and mode
	for _, mode := range []string{"none", "keys"} {
		for _, role := range []string{"ingest", "query"} {
			p, base, err := sys.startBeside(ctx, role, mode)
			if err != nil {
				return err
			}
			defer p.Kill()
			bases[role+mode] = base
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
		return runWrk(ctx, postConnections, s.post, bases["ingest"+mode]+"/point", append([]string{"-s", script}, header...)...)
	}
	read := func(mode string, header []string) (float64, error) {
		return runWrk(ctx, cachedConnections, s.read, bases["query"+mode]+cachedPath, header...)
	}
	for _, row := range []struct {
		name string
		rate func(mode string, header []string) (float64, error)
	}{{"durable POST /point by a key ÷ by nobody", post}, {"cached GET " + cachedPath + " by a key ÷ by nobody", read}} {
		var pairs []pair
		for range s.rounds {
			keyed, err := row.rate("keys", field)
			if err != nil {
				return err
			}
			open, err := row.rate("none", nil)
			if err != nil {
				return err
			}
			pairs = append(pairs, pair{keyed, open})
		}
		report(row.name, "requests/s", pairs)
	}
	return nil
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
