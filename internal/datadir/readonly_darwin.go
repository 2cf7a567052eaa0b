package datadir

import "golang.org/x/sys/unix"

// readOnly is the flag of a file system that takes no writes.
const readOnly = unix.MNT_RDONLY
