package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cairn/internal/testrig"
)

// The binary under test has a clock that can be stepped: the standard library's
// time.Now adds what a signal has made the process read from a file. All that it
// is made of, the NATS server too, sees the step; the tree has nothing of it,
// because "go build -overlay" puts it there.

// clockEnv names the file with the seconds to add.
const clockEnv = "FAULTS_CLOCK"

const (
	readsClock  = "\tsec, nsec, mono := runtimeNow()\n" // in time.Now
	addsSeconds = "\tsec += Stepped.Load()\n"

	timeFile = `package time

import "sync/atomic"

// Stepped is what Now adds, in seconds.
var Stepped atomic.Int64
`
	mainFile = `package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func init() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			if text, err := os.ReadFile(os.Getenv("` + clockEnv + `")); err == nil {
				seconds, _ := strconv.ParseInt(string(text), 10, 64)
				time.Stepped.Store(seconds)
			}
		}
	}()
}
`
)

// steppedClock writes an overlay for "go build" into a folder.
func steppedClock(dir string) (overlay string, err error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find the standard library: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	changed := strings.Replace(string(text), readsClock, readsClock+addsSeconds, 1)
	if changed == string(text) {
		return "", fmt.Errorf("%s has another time.Now than this knows", original)
	}
	repository, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return "", err
	}
	files := map[string]string{
		original: changed,
		filepath.Join(filepath.Dir(original), "stepped.go"): timeFile,
		filepath.Join(repository, "stepped.go"):             mainFile,
	}
	if err := shrinkSegments(repository, files); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for path, text := range files {
		file := filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[path] = file
	}
	overlay = filepath.Join(dir, "overlay.json")
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, data, 0o600)
}

// clockSteps are what a clock is off by: a correction, a leap of daylight
// saving made by hand, a machine without a battery, one with a wrong year.
var clockSteps = []time.Duration{
	time.Second, -time.Second, time.Minute, -time.Minute, time.Hour, -time.Hour,
	24 * time.Hour, -24 * time.Hour, 20 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour,
}

// strikeClock steps a process's clock, and back.
func (s *system) strikeClock(ctx context.Context, f fault) error {
	r := s.roles[f.target]
	p := r.up()
	if p == nil || *program != "" {
		s.figures.count("clocks that could not be stepped")
		return nil
	}
	step := clockSteps[f.salt%uint64(len(clockSteps))]
	if err := r.setClock(p, step); err != nil {
		return err
	}
	_ = testrig.Pause(ctx, f.lasts)
	return r.setClock(p, 0)
}
