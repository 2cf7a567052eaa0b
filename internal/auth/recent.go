package auth

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
)

const (
	// recentSlots is how many keys and tokens are recognised without hashing: several
	// times as many as a busy service uses at once.
	recentSlots = 1 << 13
	// maxRecentBytes bounds what is kept of each, in bytes: nearly all tokens are smaller.
	maxRecentBytes = 2 << 10
)

// recent recognizes what was presented before, without a cryptographic hash, a signature
// or a lock at each request. It takes nobody in: who is not in it is looked for as ever,
// and what is in it holds for one generation of what was known then.
//
// The time that a lookup takes reveals nothing of the stored texts: they are compared
// only if their hashes are the same, under a random seed.
type recent struct {
	seed  maphash.Seed
	slots [recentSlots]atomic.Pointer[recognized]
}

// A recognized key or token is who presents it.
type recognized struct {
	hash       uint64
	generation uint64
	text       []byte
	who        *Identity
}

func newRecent() *recent { return &recent{seed: maphash.MakeSeed()} }

// find returns who was noted with the text in this generation, or nil.
func (r *recent) find(hash, generation uint64, text []byte) *Identity {
	k := r.slots[hash%recentSlots].Load()
	if k == nil || k.hash != hash || k.generation != generation || !bytes.Equal(k.text, text) {
		return nil
	}
	return k.who
}

// note keeps who presents the text, in the place of whoever was there.
func (r *recent) note(hash, generation uint64, text []byte, who *Identity) {
	if len(text) <= maxRecentBytes {
		r.slots[hash%recentSlots].Store(&recognized{hash, generation, bytes.Clone(text), who})
	}
}
