//go:build e2ecluster

package cluster

import (
	"flag"
	"os"
	"testing"

	"cairn/internal/testkit"
)

var cairnProgram string

var (
	rounds  = flag.Int("rounds", 0, "rounds of faults; 0: a short list, each kind that CI has time for")
	seed    = flag.Uint64("seed", 1, "decides the order of the faults")
	only    = flag.String("only", "", "strike with these kinds of faults alone, by their names with commas between")
	logs    = flag.Bool("logs", false, "show the end of the logs even where nothing fails")
	from    = flag.String("from", "", "the commit whose version is upgraded from; by default the last release or, without one, the last with another schema")
	program = flag.String("program", "", "the cairn to strike, in place of one built from this tree")
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	flag.Parse()
	if *program != "" {
		cairnProgram = *program
		return testkit.Run(m)
	}
	return testkit.RunBuilt(m, "cluster", testkit.BuildCairn("../..", &cairnProgram))
}
