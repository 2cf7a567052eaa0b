// Bench measures what Cairn promises, as ratios: each figure stands beside a
// limit or a peer that was measured in the same run, in turns, because an
// absolute time says more about the machine than about Cairn.
//
// It builds nothing: it needs bin/cairn, wrk and PostGIS ("make bench" sees to
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
	"time"
)

type settings struct {
	binary string
	rounds int
	post   time.Duration // of one measurement
	rows   int           // of one bulk upload
	rate   int           // points/s for the time until visible
	read   time.Duration // of one measurement of reads
	table  int           // rows in the table that is read
	only   string
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
	var s settings
	flag.StringVar(&s.binary, "cairn", "bin/cairn", "the binary to measure")
	flag.IntVar(&s.rounds, "rounds", 3, "how often each pair is measured")
	flag.DurationVar(&s.post, "post", 8*time.Second, "how long one measurement of POST /point lasts")
	flag.IntVar(&s.rows, "rows", 200_000, "rows of one bulk upload")
	flag.IntVar(&s.rate, "rate", 1000, "points a second for the time from POST to visible")
	flag.DurationVar(&s.read, "read", 8*time.Second, "how long one measurement of reads lasts")
	flag.IntVar(&s.table, "table", 1_000_000, "rows in the table for reads of an area")
	flag.StringVar(&s.only, "only", "", "one of post, bulk, visible, cached, uncached, calm, commit, stream")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	sys, err := start(ctx, s.binary)
	if err != nil {
		return err
	}
	defer sys.stop()
	fmt.Printf("%d cores, %s, %s; %d rounds, median (least to most)\n\n", runtime.NumCPU(), runtime.Version(), sys.postgresVersion(ctx), s.rounds)
	fmt.Printf("%-66s %8s  %s\n", "", "ratio", "measured")
	parts := []struct {
		name string
		run  func(context.Context, *system, settings) error
	}{{"post", benchPost}, {"bulk", benchBulk}, {"visible", benchVisible},
		{"cached", benchCached}, {"uncached", benchUncached}, {"calm", benchCalm}, {"commit", benchCommit}, {"stream", benchStream}}
	for _, p := range parts {
		if s.only != "" && s.only != p.name {
			continue
		}
		if err := p.run(ctx, sys, s); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
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
