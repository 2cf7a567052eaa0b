package postgres

import (
	"os"
	"syscall"
)

// statAs has nobody's rights to borrow, nor a /proc for which it would have to.
func statAs(_ *syscall.Stat_t, path string) (os.FileInfo, error) { return os.Stat(path) }
