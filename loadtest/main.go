// Loadtest shows where a server of points bends: it asks like the users of the
// tutorial, or at a fixed rate, raises the load until it is too much, and
// compares two targets.
//
//	go run ./loadtest                 the tutorial's ramp against 127.0.0.1:8080
//	go run ./loadtest --find-limit    how many users it holds
//	go run ./loadtest --compare URL   the same load on two targets, in turns
//	go run ./loadtest --devices N     phones and trackers, and where they are
//
// The load itself is package load's, and that of devices package fleet's; the report is package report's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // a threshold was crossed, a point is missing, or it could not be measured
	exitUsage  = 2 // the command line is wrong
)

// errCrossed ends a test whose report has been written.
var errCrossed = errors.New("a threshold was crossed")

func main() { os.Exit(run(os.Args[1:], os.Stdout)) }

func run(args []string, out io.Writer) int {
	var f flags
	var t *test
	p, err := parser(&f)
	if err == nil {
		_, err = p.Parse(args)
	}
	if err == nil {
		t, err = f.test(out)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "loadtest: %v\nSee --help.\n", err)
		return exitUsage
	}
	// The first signal ends the load, with a report; a second one the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	switch err := t.run(ctx); {
	case err == nil:
		return exitOK
	case !errors.Is(err, errCrossed):
		fmt.Fprintln(os.Stderr, "loadtest:", err)
	}
	return exitFailed
}

func parser(f *flags) (*kong.Kong, error) {
	return kong.New(f, kong.Name("loadtest"), kong.Description(description), kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}))
}

// newDisplay draws in place on a terminal, and writes plain lines elsewhere.
func newDisplay(out io.Writer, plain bool) *display {
	d := &display{out: out}
	if file, ok := out.(*os.File); ok && !plain && term.IsTerminal(int(file.Fd())) {
		d.terminal = true
		d.size = func() (int, int) {
			width, height, err := term.GetSize(int(file.Fd()))
			if err != nil {
				return 80, 24
			}
			return width, height
		}
	}
	return d
}
