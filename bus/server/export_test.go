package server

import (
	"maps"
	"slices"
	"strings"

	"cairn/bus"
)

// Requests are the subjects that a user's account can reach, with names in the
// place of wildcards, and the patterns of those that the user may publish to.
func Requests(user string) (requests, own []string) {
	a := accesses[user]
	fill := strings.NewReplacer("*", bus.Consumer, ">", bus.Consumer)
	for _, subject := range a.imports() {
		requests = append(requests, fill.Replace(subject))
	}
	return requests, a.services
}

// Insider is what a user in the account of the streams may publish to.
func Insider(user string) []string { return insiders[user].publish }

// Outsiders are the users with an account of their own.
func Outsiders() []string { return slices.Sorted(maps.Keys(accesses)) }
