package auth

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"log/slog"
	"testing"
	"time"
)

// What is recognized holds as long as what it was found in: a key that was removed,
// changed or has expired is refused at the next request, however often it was presented.
func TestRecognizedOnlyWhileKnown(t *testing.T) {
	key := []byte(newKey())
	known := func(i *Identity) *table {
		i.gone = make(chan struct{})
		return &table{byHash: map[[sha256.Size]byte]*Identity{hashOf(key): i}}
	}
	nobody := &table{byHash: map[[sha256.Size]byte]*Identity{}}
	now := time.Now()
	a := New(Config{Keys: true, Log: slog.New(slog.DiscardHandler)})
	presented := func(at time.Time) (i *Identity, err error) {
		for range 3 {
			i, err = a.Identify(key, at)
		}
		return i, err
	}
	if _, err := presented(now); !errors.Is(err, errUnknown) {
		t.Errorf("before the keys were read: %v", err)
	}
	a.keys.replace(known(&Identity{Name: "reader", Scopes: Read}))
	if i, err := presented(now); err != nil || i.Scopes != Read {
		t.Fatalf("%+v, %v", i, err)
	}
	a.keys.replace(known(&Identity{Name: "reader", Scopes: Write, Expires: now.Add(time.Minute)}))
	if i, err := presented(now); err != nil || i.Scopes != Write {
		t.Fatalf("with other scopes: %+v, %v", i, err)
	}
	if _, err := presented(now.Add(2 * time.Minute)); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	a.keys.replace(nobody)
	if i, err := presented(now); !errors.Is(err, ErrWrong) {
		t.Errorf("removed: %+v, %v", i, err)
	}
	a.keys.replace(known(&Identity{Name: "reader", Scopes: Read, Rate: 1}))
	if _, err := presented(now); !errors.Is(err, ErrRate) {
		t.Errorf("three requests at once of one a second: %v", err)
	}
}

// Of those that share a place one is recognized, and none is taken for another, even
// where their hashes are the same.
func TestRecognizedIsTheSame(t *testing.T) {
	r := newRecent()
	first, second := &Identity{Name: "first"}, &Identity{Name: "second"}
	r.note(7, 1, []byte("one"), first)
	for _, c := range []struct {
		name             string
		hash, generation uint64
		text             string
		who              *Identity
	}{
		{"the same", 7, 1, "one", first},
		{"another text of that hash", 7, 1, "two", nil},
		{"another hash in its place", 7 + recentSlots, 1, "one", nil},
		{"what is known now", 7, 2, "one", nil},
		{"another place", 8, 1, "one", nil},
	} {
		if who := r.find(c.hash, c.generation, []byte(c.text)); who != c.who {
			t.Errorf("%s: %+v", c.name, who)
		}
	}
	r.note(7+recentSlots, 1, []byte("two"), second)
	if r.find(7, 1, []byte("one")) != nil || r.find(7+recentSlots, 1, []byte("two")) != second {
		t.Error("the last has the place")
	}
	large := bytes.Repeat([]byte{'x'}, maxRecentBytes+1)
	r.note(9, 1, large, first)
	if r.find(9, 1, large) != nil {
		t.Error("a large text is kept")
	}
}

// Whoever presents a key is found without an allocation.
func TestRecognizeAllocatesNothing(t *testing.T) {
	key := []byte(newKey())
	a := New(Config{Keys: true, Log: slog.New(slog.DiscardHandler)})
	a.keys.replace(&table{byHash: map[[sha256.Size]byte]*Identity{hashOf(key): {Name: "reader", gone: make(chan struct{})}}})
	now := time.Now()
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := a.Identify(key, now); err != nil {
			t.Fatal(err)
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}
