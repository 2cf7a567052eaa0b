package e2e

import (
	"testing"

	"cairn/internal/testrig"
)

// cairn is a command line of the program under test.
func cairn(args ...string) testrig.Command {
	return testrig.Command{Program: cairnProgram, Args: args}
}

// start runs cairn with these arguments. It ends with the test.
func start(t testing.TB, args ...string) *testrig.Run {
	t.Helper()
	return cairn(args...).Start(t)
}

// run is start for what ends on its own; it returns the exit code.
func run(t testing.TB, args ...string) (*testrig.Run, int) {
	t.Helper()
	r := start(t, args...)
	return r, r.Wait(testrig.Patience)
}

// serve starts everything in one process, on free ports, and waits until it is
// ready.
func serve(t testing.TB, data string, args ...string) *testrig.Server {
	t.Helper()
	args = append([]string{"serve", "--listen", testrig.AnyPort, "--nats-listen", testrig.AnyPort, "--data", data}, args...)
	return cairn(args...).Serve(t)
}
