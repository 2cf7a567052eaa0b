package faults

import (
	"flag"
	"os"
	"testing"

	"cairn/internal/testkit"
)

// cairnProgram is the binary under test.
var cairnProgram string

// What a campaign is asked for: flags behind -args.
var (
	rounds   = flag.Int("rounds", shortRounds, "rounds of faults")
	seed     = flag.Uint64("seed", 1, "decides what strikes; a failure prints it")
	first    = flag.Int("first", 0, "begin with this round of the seed's schedule, to come to a failure faster")
	only     = flag.String("only", "", "strike with these kinds of faults alone, by their names with commas between, the roles apart")
	program  = flag.String("program", "", "the cairn to strike, in place of one built from this tree")
	raceFlag = flag.Bool("race-binary", false, "build the binary under test with the race detector")
)

// shortRounds is a campaign that CI has time for: every kind of fault strikes.
const shortRounds = 24

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	flag.Parse()
	if *program != "" {
		cairnProgram = *program
		return testkit.Run(m)
	}
	return testkit.RunBuilt(m, "faults", func(dir string) error {
		overlay, err := steppedClock(dir)
		if err != nil {
			return err
		}
		flags := []string{"-overlay", overlay}
		if *raceFlag {
			flags = append(flags, "-race")
		}
		return testkit.BuildCairn("../..", &cairnProgram, flags...)(dir)
	})
}
