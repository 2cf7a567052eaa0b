// Package auth identifies callers and what they may do, by access keys, which are
// stored in the queue, and by tokens of an OpenID Connect issuer. internal/web asks it
// at every route; "cairn keys" creates the keys.
//
// It never grants access because something is unknown: what cannot be checked now is
// refused as unavailable.
package auth

import (
	"fmt"
	"strings"
)

// A Scope is what a request needs, or a set of what somebody may.
type Scope uint8

// The scopes. The zero Scope is none: a route that has it is a mistake.
const (
	// Open is for everybody: health, and what browsers ask first.
	Open  Scope = 1 << iota
	Read        // points, pages, streams
	Write       // create points
	Edit        // replace, change and delete points
	Admin       // metrics, the details of /status
)

// names are those that keys are given, in their order.
var names = []struct {
	scope Scope
	name  string
}{{Read, "read"}, {Write, "write"}, {Edit, "edit"}, {Admin, "admin"}}

// Has reports whether the set has all of what is needed.
func (s Scope) Has(needed Scope) bool { return s&needed == needed }

func (s Scope) String() string {
	var out []string
	for _, n := range names {
		if s.Has(n.scope) {
			out = append(out, n.name)
		}
	}
	return strings.Join(out, ",")
}

// ParseScopes reads names that are separated by commas.
func ParseScopes(text string) (Scope, error) {
	var out Scope
	for name := range strings.SplitSeq(text, ",") {
		s := scopeNamed(strings.TrimSpace(name))
		if s == 0 {
			return 0, fmt.Errorf("%q is no scope: there are read, write, edit and admin", name)
		}
		out |= s
	}
	return out, nil
}

// scopeNamed is 0 for what is no scope's name.
func scopeNamed(name string) Scope {
	for _, n := range names {
		if n.name == name {
			return n.scope
		}
	}
	return 0
}
