package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"cairn/event"
)

const (
	// prefix makes a key known for what it is, to people and to those who look for
	// secrets in what was published.
	prefix = "cairn_"
	// MaxNameBytes bounds a key's name, which goes with every event it writes.
	MaxNameBytes = 64
	// burst is how many seconds' worth of requests a key with a rate may make at
	// once.
	burst = 1
)

// An Identity is a caller who presented a good key or token.
type Identity struct {
	Name    string
	Scopes  Scope
	Expires time.Time // zero: never
	Area    *Area     // nil: everywhere
	// Rate is how many requests a second are taken; 0: all.
	Rate int

	due  atomic.Int64  // when the bucket of requests is empty, in Unix nanoseconds
	gone chan struct{} // closed when the key was removed or changed; nil: never
}

// Gone is closed when the identity is revoked (expiry does not close it): long-lived
// requests should end then.
func (i *Identity) Gone() <-chan struct{} { return i.gone }

// same reports whether nothing of the key has changed.
func (i *Identity) same(o *Identity) bool {
	return i.Name == o.Name && i.Scopes == o.Scopes && i.Expires.Equal(o.Expires) && i.Rate == o.Rate &&
		(i.Area == nil) == (o.Area == nil) && (i.Area == nil || *i.Area == *o.Area)
}

// An Area is where a key holds.
type Area = event.Area

// ParseArea reads W,S,E,N.
func ParseArea(text string) (*Area, error) {
	var a Area
	parts := strings.Split(text, ",")
	if len(parts) != len(a) {
		return nil, errors.New("an area is WEST,SOUTH,EAST,NORTH, in degrees")
	}
	for i, part := range parts {
		x, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil {
			return nil, fmt.Errorf("an area is WEST,SOUTH,EAST,NORTH, in degrees: %q is no number", part)
		}
		a[i] = x
	}
	return &a, a.Check()
}

// take reports whether a request is within the rate at now.
func (i *Identity) take(now time.Time) bool {
	if i.Rate <= 0 {
		return true
	}
	const full = burst * int64(time.Second)
	step := int64(time.Second) / int64(i.Rate)
	for {
		due := i.due.Load()
		next := max(due, now.UnixNano()) + step
		if next-now.UnixNano() > max(full, step) {
			return false
		}
		if i.due.CompareAndSwap(due, next) {
			return true
		}
	}
}

// A record is a key as the bucket has it, under its name: not the key, its hash.
type record struct {
	Hash    string     `json:"sha256"`
	Scopes  string     `json:"scopes"`
	Expires *time.Time `json:"expires,omitempty"`
	Area    *Area      `json:"area,omitempty"`
	Rate    int        `json:"rate,omitempty"`
	Created time.Time  `json:"created"`
}

// names of keys are also the bucket's, so they keep to what it takes.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// CheckName says what is wrong with a key's name.
func CheckName(name string) error {
	if len(name) > MaxNameBytes || !nameForm.MatchString(name) {
		return fmt.Errorf("the name %q is not 1 to %d letters, digits, - and _", name, MaxNameBytes)
	}
	return nil
}

// newKey makes a key: 130 bits that nobody guesses, so that a fast hash of it is
// enough.
func newKey() string { return prefix + strings.ToLower(rand.Text()) }

func hashOf(key []byte) [sha256.Size]byte { return sha256.Sum256(key) }

// decode reads what the bucket has.
func decode(name string, raw []byte) (hash [sha256.Size]byte, i *Identity, err error) {
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return hash, nil, fmt.Errorf("read the key %s: %w", name, err)
	}
	if len(r.Hash) != hex.EncodedLen(len(hash)) {
		return hash, nil, fmt.Errorf("read the key %s: its hash is none", name)
	}
	if _, err := hex.Decode(hash[:], []byte(r.Hash)); err != nil {
		return hash, nil, fmt.Errorf("read the key %s: its hash is none", name)
	}
	scopes, err := ParseScopes(r.Scopes)
	if err != nil {
		return hash, nil, fmt.Errorf("read the key %s: %w", name, err)
	}
	if r.Area != nil {
		if err := r.Area.Check(); err != nil {
			return hash, nil, fmt.Errorf("read the key %s: %w", name, err)
		}
	}
	i = &Identity{Name: name, Scopes: scopes | Open, Area: r.Area, Rate: r.Rate, gone: make(chan struct{})}
	if r.Expires != nil {
		i.Expires = *r.Expires
	}
	return hash, i, nil
}
