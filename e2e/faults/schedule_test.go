package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A fault is one strike: what, against what, when in the round and for how long.
type fault struct {
	kind, target string
	at, lasts    time.Duration
	salt         uint64 // decides what else there is to decide
}

func (f fault) String() string {
	return fmt.Sprintf("%s %s at %v for %v", f.kind, f.target, f.at, f.lasts)
}

// A round is what will strike, and how the roles are put together.
type round struct {
	number int
	system int
	shape  string
	faults []fault
}

func (r *round) String() string {
	texts := make([]string, 0, len(r.faults))
	for _, f := range r.faults {
		texts = append(texts, f.String())
	}
	return fmt.Sprintf("round %d, %s: %s", r.number, r.shape, strings.Join(texts, "; "))
}

const (
	// systemRounds is how many rounds a system lives through.
	systemRounds = 25
	// maxFaults is how many strike in a round at most.
	maxFaults = 3
	// strikeWithin is when the faults of a round begin.
	strikeWithin = 1200 * time.Millisecond
	// shortest and longest bound a fault, and one in longEvery lasts up to
	// longAtMost: longer than the waits of ingest for its queue's first answer.
	shortest, longest = 200 * time.Millisecond, 2 * time.Second
	longEvery         = 12
	longAtMost        = 6 * time.Second
)

// A kind of fault, the targets that it has in each shape, and how often it is in
// the deck.
type kind struct {
	name    string
	targets map[string][]string
}

var (
	wires = map[string][]string{
		apart:    {"client-ingest", "client-mqtt", "client-query", "nats-projector", "nats-query", "pg-projector", "pg-query"},
		together: {"client-ingest", "client-mqtt", "client-query", "pg-serve"},
		private:  {"client-ingest", "client-mqtt", "client-query"},
	}
	processes = map[string][]string{
		apart:    {"ingest", "projector", "query"},
		together: {"serve"},
		private:  {"private"},
	}
	inPostgres = map[string][]string{apart: {"postgres"}, together: {"postgres"}, private: {"postgres"}}
	sqlstates  = map[string][]string{
		apart:    {"40001", "40P01", "53100", "53200", "58030"},
		together: {"40001", "53100", "53200"},
		private:  {"40001", "53200"},
	}
	projectorOnly = map[string][]string{apart: {"projector"}}
)

// kinds are all kinds of faults; strikers has how each strikes.
var kinds = []kind{
	{"kill", processes},
	{"kill", processes}, // twice: what dies most
	{"stop", processes},
	{"sigterm", processes},
	{"roll", map[string][]string{apart: {"all"}}},
	{"step-clock", processes},
	{"rebuild", inPostgres},
	{"disk-full", map[string][]string{apart: {"store"}, together: {"store"}, private: {"store"}}},
	{"kill-postmaster", inPostgres},
	{"kill-backend", inPostgres},
	{"terminate-backend", inPostgres},
	{"stop-backend", inPostgres},
	{"refuse-logins", inPostgres},
	{"exhaust-connections", inPostgres},
	{"sqlstate", sqlstates},
	{"cut", wires},
	{"cut-mid-message", wires},
	{"stall", wires},
	{"slow", wires},
	{"refuse", wires},
	{"two-projectors", projectorOnly},
	{"zombie-in-copy", projectorOnly},
	{"kill-in-segments", map[string][]string{apart: {"projector"}, together: {"serve"}, private: {"private"}}},
	{"kill-in-segments", map[string][]string{apart: {"projector"}, together: {"serve"}}}, // it has many points
	{"kill-in-retention", map[string][]string{apart: {"projector"}, together: {"serve"}, private: {"private"}}},
	{"stream-full", map[string][]string{apart: {"projector"}}},
	{"freeze", map[string][]string{apart: {"nats-projector", "pg-projector", "pg-query"}, together: {"pg-serve"}}},
}

// theRest is the round behind a campaign's last, for the steps of the work on segments at
// which no strike came to kill.
func theRest(last *round) *round {
	return &round{number: last.number + 1, system: last.system, shape: apart,
		faults: []fault{{kind: "kill-at-the-rest", target: "projector", at: strikeWithin, lasts: shortest}}}
}

// A deck gives every fault of a shape once, in random order, before it gives
// one again: first one of each kind, then those against its other targets.
type deck struct {
	shape string
	rng   *rand.Rand
	only  []string // kinds; empty: all
	cards []fault
}

func (d *deck) draw(system int) fault {
	if len(d.cards) == 0 {
		var soon, rest []fault // the last is drawn first
		for _, k := range kinds {
			if len(d.only) > 0 && !slices.Contains(d.only, k.name) {
				continue
			}
			if k.name == "freeze" && system == 0 && len(d.only) == 0 {
				continue // it takes a minute, which a short campaign does not have
			}
			targets := slices.Clone(k.targets[d.shape])
			d.rng.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
			for i, target := range targets {
				cards := &rest
				if i == 0 {
					cards = &soon
				}
				*cards = append(*cards, fault{kind: k.name, target: target})
			}
		}
		for _, cards := range [][]fault{rest, soon} {
			d.rng.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
			d.cards = append(d.cards, cards...)
		}
	}
	f := d.cards[len(d.cards)-1]
	d.cards = d.cards[:len(d.cards)-1]
	f.at = upTo(d.rng, strikeWithin).Round(time.Millisecond)
	f.lasts = (shortest + upTo(d.rng, longest-shortest)).Round(time.Millisecond)
	if d.rng.IntN(longEvery) == 0 {
		f.lasts = (longest + upTo(d.rng, longAtMost-longest)).Round(time.Millisecond)
	}
	f.salt = d.rng.Uint64()
	return f
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }

// schedule is all that strikes in a campaign. It follows from the seed, so that
// the same seed strikes the same again.
func schedule(seed uint64, rounds int, only []string) []*round {
	rng := rand.New(rand.NewPCG(seed, 1))
	decks := map[string]*deck{}
	for _, shape := range []string{apart, together, private} {
		decks[shape] = &deck{shape: shape, rng: rng, only: only}
	}
	shapes := []string{apart, apart, apart, apart, apart, together, together, private}
	if len(only) > 0 {
		shapes = []string{apart}
	}
	all := make([]*round, 0, rounds)
	shape := apart
	for n := range rounds {
		r := &round{number: n, system: n / systemRounds}
		// A change of shape costs an orderly stop and a start, so there are runs.
		const changeEvery = 4
		if n%systemRounds == 0 || rng.IntN(changeEvery) == 0 {
			shape = shapes[rng.IntN(len(shapes))]
		}
		r.shape = shape
		for range 1 + rng.IntN(maxFaults) {
			r.faults = append(r.faults, decks[shape].draw(r.system))
		}
		slices.SortFunc(r.faults, func(a, b fault) int { return int(a.at - b.at) })
		all = append(all, r)
	}
	return all
}
