package lossy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	// freeBlocks is the room that the disk claims to have, in pages: 16 GiB.
	freeBlocks = 16 << 30 / pageBytes
	// maxWrite is the most that one write carries.
	maxWrite = 1 << 20
	// cached is how long the kernel believes a name or a size that it knows: all changes
	// go through it, and it asks for each part of each path otherwise.
	cached = time.Hour
)

// Mount makes the disk's files appear in the folder, which needs /dev/fuse and the
// right to mount. The kernel's own cache goes with the end of the mount.
func (d *Disk) Mount(folder string) (unmount func() error, err error) {
	known := cached
	server, err := fs.Mount(folder, &file{d: d, n: d.root}, &fs.Options{EntryTimeout: &known, AttrTimeout: &known, MountOptions: fuse.MountOptions{
		DirectMount: true, FsName: "faults", Name: "faults", MaxWrite: maxWrite,
	}})
	if err != nil {
		return nil, fmt.Errorf("mount a file system of our own, which needs /dev/fuse and the right to mount: %w", err)
	}
	return func() error {
		err := server.Unmount()
		if err != nil {
			_ = syscall.Unmount(folder, syscall.MNT_DETACH)
		}
		return err
	}, nil
}

// A file is a node as FUSE sees it.
type file struct {
	fs.Inode
	d *Disk
	n *node
}

// A handle is an open file.
type handle struct{ synced bool } // every write is, by O_SYNC

func (f *file) inode(ctx context.Context, n *node) *fs.Inode {
	return f.NewInode(ctx, &file{d: f.d, n: n}, fs.StableAttr{Mode: n.kind(), Ino: n.number})
}

func (n *node) kind() uint32 {
	if n.folder {
		return syscall.S_IFDIR
	}
	return syscall.S_IFREG
}

func (n *node) attributes(out *fuse.Attr) {
	out.Ino, out.Mode, out.Size, out.Nlink = n.number, n.kind()|n.mode, uint64(len(n.data)), 1
	out.Blksize = pageBytes
}

func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	unlock, errno := f.d.lock()
	if errno != 0 {
		return errno
	}
	defer unlock()
	f.n.attributes(&out.Attr)
	return 0
}

func (f *file) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	unlock, errno := f.d.lockToWrite()
	if errno != 0 {
		return errno
	}
	defer unlock()
	if size, ok := in.GetSize(); ok {
		f.n.resize(int(size)) //nolint:gosec // of our own store
	}
	if mode, ok := in.GetMode(); ok {
		f.n.mode = mode & 0o777
	}
	f.n.attributes(&out.Attr)
	return 0
}

func (f *file) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = pageBytes, pageBytes, 255
	out.Blocks, out.Bfree, out.Bavail = freeBlocks, freeBlocks, freeBlocks
	return 0
}

func (f *file) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	unlock, errno := f.d.lock()
	if errno != 0 {
		return nil, errno
	}
	defer unlock()
	n := f.n.names[name]
	if n == nil {
		return nil, syscall.ENOENT
	}
	n.attributes(&out.Attr)
	return f.inode(ctx, n), 0
}

func (f *file) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	unlock, errno := f.d.lock()
	if errno != 0 {
		return nil, errno
	}
	defer unlock()
	var entries []fuse.DirEntry
	for _, name := range slices.Sorted(maps.Keys(f.n.names)) {
		n := f.n.names[name]
		entries = append(entries, fuse.DirEntry{Name: name, Mode: n.kind(), Ino: n.number})
	}
	return fs.NewListDirStream(entries), 0
}

func (f *file) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	unlock, errno := f.d.lockToWrite()
	if errno != 0 {
		return nil, errno
	}
	defer unlock()
	n := f.d.newNode(true, mode&0o777)
	f.d.set(f.n, name, n, false)
	n.attributes(&out.Attr)
	return f.inode(ctx, n), 0
}

func (f *file) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	unlock, errno := f.d.lockToWrite()
	if errno != 0 {
		return nil, nil, 0, errno
	}
	defer unlock()
	n := f.n.names[name]
	if n == nil {
		n = f.d.newNode(false, mode&0o777)
		f.d.set(f.n, name, n, false)
	}
	n.attributes(&out.Attr)
	return f.inode(ctx, n), &handle{flags&syscall.O_DSYNC != 0}, 0, 0
}

func (f *file) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	lock := f.d.lock
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		lock = f.d.lockToWrite
	}
	unlock, errno := lock()
	if errno != 0 {
		return nil, 0, errno
	}
	defer unlock()
	if flags&syscall.O_TRUNC != 0 {
		f.n.resize(0)
	}
	return &handle{flags&syscall.O_DSYNC != 0}, 0, 0 // which O_SYNC contains
}

func (f *file) Read(_ context.Context, _ fs.FileHandle, dest []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	unlock, errno := f.d.lock()
	if errno != 0 {
		return nil, errno
	}
	defer unlock()
	if at >= int64(len(f.n.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, f.n.data[at:])]), 0
}

func (f *file) Write(_ context.Context, h fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	unlock, errno := f.d.lockToWrite()
	if errno != 0 {
		return 0, errno
	}
	defer unlock()
	f.n.write(data, int(at))
	if h, ok := h.(*handle); ok && h.synced {
		f.d.sync(f.n)
	}
	return uint32(len(data)), 0 //nolint:gosec // at most maxWrite
}

func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	unlock, errno := f.d.lock()
	if errno != 0 {
		return errno
	}
	defer unlock()
	f.d.sync(f.n)
	return 0
}

func (f *file) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

func (f *file) Unlink(_ context.Context, name string) syscall.Errno {
	unlock, errno := f.d.lockToWrite()
	if errno != 0 {
		return errno
	}
	defer unlock()
	f.d.set(f.n, name, nil, false)
	return 0
}

func (f *file) Rmdir(ctx context.Context, name string) syscall.Errno {
	unlock, errno := f.d.lockToWrite()
	if errno != 0 {
		return errno
	}
	defer unlock()
	if n := f.n.names[name]; n != nil && len(n.names) > 0 {
		return syscall.ENOTEMPTY
	}
	f.d.set(f.n, name, nil, false)
	return 0
}

func (f *file) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	unlock, errno := f.d.lockToWrite()
	if errno != 0 {
		return errno
	}
	defer unlock()
	if flags != 0 {
		return syscall.EINVAL // RENAME_EXCHANGE and the like
	}
	to, ok := parent.EmbeddedInode().Operations().(*file)
	if !ok {
		return syscall.EXDEV
	}
	n := f.n.names[name]
	f.d.set(to.n, newName, n, true)
	f.d.set(f.n, name, nil, false)
	return 0
}
