// Bench measures what Cairn promises, as ratios: each figure stands beside a
// limit or a peer that was measured in the same run, in turns, because an
// absolute time says more about the machine than about Cairn.
//
// Most parts have a system and a short table of their own; one system lets its table
// grow (growth.go) and is measured at each size.
//
// It builds nothing: it needs bin/cairn, wrk and PostGIS ("make bench" takes care of
// all three) and starts everything in a folder of its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type settings struct {
	binary string
	rounds int
	post   time.Duration // of one measurement
	upload int           // rows of one bulk upload
	rate   int           // points/s for the time until visible
	read   time.Duration // of one measurement of reads
	sizes  []int         // rows of the table that grows, at which it is measured
	fixes  int           // rows of the devices that latest asks for
	only   []string
}

// parts are measured one after the other, each on a system of its own.
var parts = []struct {
	name string
	run  func(context.Context, *system, settings) error
}{
	{"post", benchPost}, {"bulk", benchBulk}, {"visible", benchVisible}, {"cached", benchCached}, {"auth", benchAuth}, {"calm", benchIsolation},
	{"fair", benchFair}, {"latest", benchLatest}, {"commit", benchCommit}, {"stream", benchStream}, {"cluster", benchCluster},
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case noopCommand:
			serveNoop()
			return
		case spinCommand:
			spin(os.Args[2:])
			return
		}
	}
	s, err := parseSettings(os.Args[1:])
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = run(ctx, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseSettings(args []string) (s settings, err error) {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&s.binary, "cairn", "bin/cairn", "the binary to measure")
	flags.IntVar(&s.rounds, "rounds", 3, "how often each pair is measured")
	flags.DurationVar(&s.post, "post", 8*time.Second, "how long one measurement of POST /point lasts")
	flags.IntVar(&s.upload, "upload", 200_000, "rows of one bulk upload")
	flags.IntVar(&s.rate, "rate", 1000, "points a second for the time from POST to visible")
	flags.DurationVar(&s.read, "read", 8*time.Second, "how long one measurement of reads lasts")
	rows := flags.String("rows", "1,5,20", "millions of rows, rising, at which the table that grows is measured")
	fixes := flags.Float64("fixes", 1, "millions of fixes of 10,000 names, for latest")
	only := flags.String("only", "", "some of these, with commas between: "+strings.Join(partNames(), ", "))
	_ = flags.Parse(args) // it exits
	for name, d := range map[string]time.Duration{"-post": s.post, "-read": s.read} {
		if d < time.Second || d%time.Second != 0 {
			return s, fmt.Errorf("%s %v: wrk measures whole seconds, 1s at least; with few of them the figures vary more", name, d)
		}
	}
	if s.rounds < 1 {
		return s, fmt.Errorf("-rounds %d: 1 at least", s.rounds)
	}
	for text := range strings.SplitSeq(*rows, ",") {
		millions, err := strconv.ParseFloat(text, 64)
		if err != nil || millions <= 0 {
			return s, fmt.Errorf("-rows %s: %q is no number of millions", *rows, text)
		}
		s.sizes = append(s.sizes, int(millions*1e6))
	}
	if s.fixes = int(*fixes * 1e6); s.fixes < 2*trackFixes {
		return s, fmt.Errorf("-fixes %g: at least %g", *fixes, 2*trackFixes/1e6)
	}
	if !slices.IsSorted(s.sizes) {
		return s, fmt.Errorf("-rows %s: they must rise", *rows)
	}
	if *only == "" {
		return s, nil
	}
	s.only = strings.Split(*only, ",")
	for _, name := range s.only {
		if !slices.Contains(partNames(), name) {
			return s, fmt.Errorf("-only %s: there is no %q but %s", *only, name, strings.Join(partNames(), ", "))
		}
	}
	return s, nil
}

func partNames() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return append(names, growthParts...)
}

func (s *settings) wants(name string) bool { return len(s.only) == 0 || slices.Contains(s.only, name) }

func run(ctx context.Context, s settings) error {
	first := true
	measure := func(name string, part func(context.Context, *system, settings) error) error {
		sys, err := start(ctx, s.binary)
		if err != nil {
			return err
		}
		defer sys.stop()
		if first {
			fmt.Printf("%d cores, %s, %s; %d rounds, median (least to most)\n\n", runtime.NumCPU(), runtime.Version(), sys.postgresVersion(ctx), s.rounds)
			fmt.Printf("%-66s %8s  %s\n", "", "ratio", "measured")
			first = false
		}
		if err := part(ctx, sys, s); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	for _, p := range parts {
		if s.wants(p.name) {
			if err := measure(p.name, p.run); err != nil {
				return err
			}
		}
	}
	if slices.ContainsFunc(growthParts, s.wants) {
		return measure("growth", benchGrowth)
	}
	return nil
}

// A pair is one measurement of ours and one of the peer's, taken one after the
// other.
type pair struct{ ours, peer float64 }

func report(name, unit string, pairs []pair) {
	var ratios, ours, peers []float64
	for _, p := range pairs {
		ratios, ours, peers = append(ratios, p.ours/p.peer), append(ours, p.ours), append(peers, p.peer)
	}
	fmt.Printf("%-66s %8.2f  %.0f ÷ %.0f %s (%.2f to %.2f)\n", name, median(ratios), median(ours), median(peers), unit,
		slices.Min(ratios), slices.Max(ratios))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
