package faults

import (
	"maps"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
)

// pageBytes is what a disk writes back at once.
const pageBytes = 4 << 10

// A disk is a file system in memory that knows what a power cut leaves of it.
//
// Of a file's data, what was synced stays; of what was not, any pages may have
// been written back, in any order. Creations, renames and removals are in a
// journal: each sync, of a file or a folder, makes all of it last that came
// before, as ext4, XFS and Btrfs do; of the rest the first few may have made
// it. (POSIX's letter promises less: the name of a file may vanish until its
// folder was synced. NATS syncs no folders, so on a file system like that the
// stream is gone after a cut, which the projector then says. We know of none.)
type disk struct {
	mu      sync.Mutex
	off     bool // the power is
	locked  bool // against writing: the file system has become read-only
	root    *node
	journal []change
	nodes   uint64
	syncs   int
}

// A node is a file or a folder, as it is and as a cut would leave it.
type node struct {
	number      uint64
	folder      bool
	mode        uint32
	data, kept  []byte
	dirty       map[int]bool // pages that differ
	names, last map[string]*node
}

// A change is an entry of a folder that was made or, where it is nil, removed.
// Those of one rename are made together.
type change struct {
	folder *node
	name   string
	to     *node
	joined bool // with the next one
}

func newDisk() *disk {
	d := &disk{}
	d.root = d.newNode(true, 0o755)
	return d
}

func (d *disk) newNode(folder bool, mode uint32) *node {
	d.nodes++
	n := &node{number: d.nodes, folder: folder, mode: mode, dirty: map[int]bool{}}
	if folder {
		n.names, n.last = map[string]*node{}, map[string]*node{}
	}
	return n
}

// set changes an entry of a folder. d.mu is held.
func (d *disk) set(folder *node, name string, to *node, joined bool) {
	put(folder.names, name, to)
	d.journal = append(d.journal, change{folder, name, to, joined})
}

func put(names map[string]*node, name string, to *node) {
	if to == nil {
		delete(names, name)
	} else {
		names[name] = to
	}
}

// write puts data into a file. d.mu is held.
func (n *node) write(data []byte, at int) {
	if end := at + len(data); end > len(n.data) {
		n.resize(end)
	}
	copy(n.data[at:], data)
	for page := at / pageBytes; page*pageBytes < at+len(data); page++ {
		n.dirty[page] = true
	}
}

// resize makes a file longer, with zeros, or shorter.
func (n *node) resize(size int) {
	for page := min(size, len(n.data)) / pageBytes; page*pageBytes < max(size, len(n.data)); page++ {
		n.dirty[page] = true
	}
	if size > len(n.data) {
		n.data = append(n.data, make([]byte, size-len(n.data))...)
	} else {
		n.data = n.data[:size]
	}
}

// writeBack makes a page last.
func (n *node) writeBack(page int) {
	from, to := page*pageBytes, min((page+1)*pageBytes, len(n.data))
	if from >= to {
		return
	}
	if to > len(n.kept) {
		n.kept = append(n.kept, make([]byte, to-len(n.kept))...)
	}
	copy(n.kept[from:to], n.data[from:to])
}

// sync makes a file's data last, and the journal. d.mu is held.
func (d *disk) sync(n *node) {
	d.syncs++
	if !n.folder {
		for page := range n.dirty {
			n.writeBack(page)
		}
		if len(n.kept) > len(n.data) {
			n.kept = n.kept[:len(n.data)]
		}
		clear(n.dirty)
	}
	d.commit(len(d.journal))
}

// commit makes the first changes of the journal last.
func (d *disk) commit(first int) {
	for _, c := range d.journal[:first] {
		put(c.folder.last, c.name, c.to)
	}
	d.journal = append([]change(nil), d.journal[first:]...)
}

// cut is the power cut: from now on nothing can be read or written.
func (d *disk) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// restore is the power's return. With some, a part of what was not synced has
// made it to the disk, else nothing.
func (d *disk) restore(rng *rand.Rand, some bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = false
	made := 0
	if some && len(d.journal) > 0 {
		made = rng.IntN(len(d.journal) + 1)
		for made > 0 && d.journal[made-1].joined {
			made--
		}
	}
	d.commit(made)
	d.journal = nil
	d.root.revert(rng, some)
}

func (n *node) revert(rng *rand.Rand, some bool) {
	if n.folder {
		n.names = maps.Clone(n.last)
		for _, child := range n.names {
			child.revert(rng, some)
		}
		return
	}
	for page := range n.dirty {
		if some && rng.IntN(2) == 0 {
			n.writeBack(page)
		}
	}
	n.data = append([]byte(nil), n.kept...)
	clear(n.dirty)
}

// lock is for every operation: it fails while the power is off.
func (d *disk) lock() (unlock func(), errno syscall.Errno) {
	d.mu.Lock()
	if d.off {
		d.mu.Unlock()
		return nil, syscall.EIO
	}
	return d.mu.Unlock, 0
}

// lockToWrite is lock for what changes something.
func (d *disk) lockToWrite() (unlock func(), errno syscall.Errno) {
	unlock, errno = d.lock()
	if errno == 0 && d.locked {
		unlock()
		return nil, syscall.EROFS
	}
	return unlock, errno
}

// readOnly makes the file system read-only, as a kernel does after an error of the
// disk, or lets it be written again.
func (d *disk) readOnly(now bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.locked = now
}

// The model itself: what was synced stays, and nothing else where nothing more
// made it.
func TestDisk(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	d := newDisk()
	kept, lost := d.newNode(false, 0o600), d.newNode(false, 0o600)
	d.set(d.root, "kept", kept, false)
	kept.write(make([]byte, 3*pageBytes), 0)
	kept.write([]byte("synced"), pageBytes)
	d.sync(kept)
	kept.write([]byte("later!"), pageBytes)
	kept.resize(4 * pageBytes)
	d.set(d.root, "lost", lost, false)
	d.cut()
	if _, errno := d.lock(); errno == 0 {
		t.Error("it can be used without power")
	}
	d.restore(rng, false)
	if got := d.root.names["kept"]; got != kept || len(kept.data) != 3*pageBytes || string(kept.data[pageBytes:pageBytes+6]) != "synced" {
		t.Error("what was synced is not as it was")
	}
	if d.root.names["lost"] != nil {
		t.Error("what was not synced is there")
	}
}
