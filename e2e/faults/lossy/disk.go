// Package lossy is a file system in memory that loses what was not synced when its
// power is cut, for tests of acknowledged writes.
package lossy

import (
	"maps"
	"math/rand/v2"
	"sync"
	"syscall"
)

// pageBytes is what a disk writes back at once.
const pageBytes = 4 << 10

// A Disk is a file system in memory that knows what a power cut leaves of it.
//
// Of a file's data, what was synced stays; of what was not, any pages may have
// been written back, in any order. Creations, renames and removals are in a
// journal: each sync, of a file or a folder, makes all of it last that came
// before, as ext4, XFS and Btrfs do; of the rest the first few may have made
// it. (POSIX's letter promises less: the name of a file may vanish until its
// folder was synced. NATS syncs no folders, so on a file system like that the
// stream is gone after a cut, which the projector then says. We know of none.)
type Disk struct {
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

// New is an empty disk.
func New() *Disk {
	d := &Disk{}
	d.root = d.newNode(true, 0o755)
	return d
}

func (d *Disk) newNode(folder bool, mode uint32) *node {
	d.nodes++
	n := &node{number: d.nodes, folder: folder, mode: mode, dirty: map[int]bool{}}
	if folder {
		n.names, n.last = map[string]*node{}, map[string]*node{}
	}
	return n
}

// set changes an entry of a folder. d.mu is held.
func (d *Disk) set(folder *node, name string, to *node, joined bool) {
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
func (d *Disk) sync(n *node) {
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

// Syncs is how often something was synced.
func (d *Disk) Syncs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

// SyncAll makes all that is there now last.
func (d *Disk) SyncAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncBelow(d.root)
}

func (d *Disk) syncBelow(n *node) {
	d.sync(n)
	for _, child := range n.names {
		d.syncBelow(child)
	}
}

// commit makes the first changes of the journal last.
func (d *Disk) commit(first int) {
	for _, c := range d.journal[:first] {
		put(c.folder.last, c.name, c.to)
	}
	d.journal = append([]change(nil), d.journal[first:]...)
}

// Cut is the power cut: from now on nothing can be read or written.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// Restore is the power's return. With some, a part of what was not synced has
// made it to the disk, else nothing.
func (d *Disk) Restore(rng *rand.Rand, some bool) {
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
func (d *Disk) lock() (unlock func(), errno syscall.Errno) {
	d.mu.Lock()
	if d.off {
		d.mu.Unlock()
		return nil, syscall.EIO
	}
	return d.mu.Unlock, 0
}

// lockToWrite is lock for what changes something.
func (d *Disk) lockToWrite() (unlock func(), errno syscall.Errno) {
	unlock, errno = d.lock()
	if errno == 0 && d.locked {
		unlock()
		return nil, syscall.EROFS
	}
	return unlock, errno
}

// ReadOnly makes the file system read-only, as a kernel does after an error of the
// disk, or lets it be written again.
func (d *Disk) ReadOnly(now bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.locked = now
}
