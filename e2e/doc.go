// Package e2e tests the program that users run: the built binary is started,
// queried over HTTP, and killed. Its dependencies are real, too: PostGIS, the
// embedded queue, the nats CLI, curl.
//
// The harness is in the files without a subject of their own: process_test.go
// (a run of the binary), cairn_test.go (one that serves), http_test.go (what a
// client does), ledger_test.go (what was sent and what must have come of it),
// gate_test.go (a proxy that holds back).
package e2e
