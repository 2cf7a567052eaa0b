// Baseline measures Cairn beside the stack of the tutorial, on one machine in
// one run: three instances of a Flask server over PostGIS behind HAProxy, as
// the tutorial has it and in a generous variant, and Cairn with three query
// replicas behind the same HAProxy. "make compare" runs it.
//
// First each stack gets the tutorial's ramp. Then the users that each holds at
// a p95 under the bound are searched for, in turns, level by level, so that
// whatever else the machine does meets all three. Before every level the
// table is set back to 1,000 rows.
//
// The results go into the README beside this folder, between two marks, with
// a chart; the whole report goes where loadtest's goes.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type flags struct {
	Cairn     string        `default:"bin/cairn" type:"existingfile" help:"The binary to measure (${default})."`
	Level     time.Duration `default:"60s" help:"How long a level counts (${default})."`
	P95       time.Duration `name:"p95" default:"1s" help:"The p95 up to which a level is held (${default})."`
	Precision float64       `default:"0.1" help:"How narrow the search goes (${default} of the result)."`
	Ramp      bool          `default:"true" negatable:"" help:"Also put the tutorial's ramp on each stack."`
	Users     int           `default:"300" help:"The end of the tutorial's ramp (${default})."`
	Stacks    []string      `default:"tutorial,generous,cairn" enum:"tutorial,generous,cairn" help:"Which to measure (${default}); the README is written for all three only."`
	Start     []int         `default:"120,400,6000" help:"The first level of each of them, in users (${default})."`
	Max       int           `default:"20000" help:"The last level (${default}), as far as the open-file limit goes."`
	Readme    string        `default:"loadtest/README.md" help:"Where the results are written; empty: nowhere."`
	Out       string        `default:"loadtest-report" type:"path" help:"Where the report goes (${default})."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("baseline"), kong.Description("Compare Cairn with the tutorial's stack."))
	// The first signal ends the load, with a report; a second one the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	if err := run(ctx, f); err != nil {
		fmt.Fprintln(os.Stderr, "baseline:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	if len(f.Start) < len(f.Stacks) {
		return fmt.Errorf("--start needs a number for each of the %d stacks", len(f.Stacks))
	}
	if err := ensurePackages(ctx); err != nil {
		return err
	}
	m, err := startMachine(ctx, f.Cairn, f.Stacks)
	if err != nil {
		return err
	}
	defer m.stop()
	c := comparison{flags: f, machine: m}
	err = c.run(ctx)
	if err != nil || len(c.doc.Runs) == 0 {
		return err
	}
	path, err := c.doc.Write(f.Out)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s\nreport: %s\n", c.markdown(), path)
	if f.Readme == "" || ctx.Err() != nil || len(f.Stacks) < allStacks {
		return nil
	}
	return c.publish(f.Readme)
}

// allStacks is how many there are.
const allStacks = 3

// bound is the p95 that is allowed, in ms, as reports have it.
func (f *flags) bound() float64 { return float64(f.P95) / float64(time.Millisecond) }
