// Package testrig drives a Cairn of real processes, for the tests of the binary
// (e2e, e2e/faults, e2e/proxy, e2e/deploy) and for the benchmark:
//
//	process.go  a process: start, signals, what it says, its end (output.go)
//	run.go      the same for a test: what goes wrong ends the test
//	server.go   a Cairn that listens; free ports, data folders
//	http.go     requests and answers
//	point.go    points whose values follow from their names (request.go: bodies of them)
//	ledger.go   what was sent and what was acknowledged (write.go: by whom; check.go: and is it there)
//	wait.go     waiting for a condition, without a test
//
// What a single package's tests need to run against (a database, a queue) is
// testkit's.
package testrig
