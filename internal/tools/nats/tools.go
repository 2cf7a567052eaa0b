//go:build tools

// Package tools pins the nats command that the tests use and the README shows.
// A module of its own keeps what the command needs out of Cairn's module.
package tools

import _ "github.com/nats-io/natscli/nats"
