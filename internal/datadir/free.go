package datadir

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Free is how many bytes of the disk under dir are free, or taken by dir
// itself: what it may grow to.
func Free(dir string) (int64, error) {
	var st unix.Statfs_t
	for at := dir; ; at = filepath.Dir(at) {
		err := unix.Statfs(at, &st)
		if err == nil {
			break
		}
		if at == filepath.Dir(at) {
			return 0, err
		}
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:gosec,unconvert // a disk's size; types differ by system
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // what cannot be seen does not count
		}
		if info, err := d.Info(); err == nil {
			free += info.Size()
		}
		return nil
	})
	return free, err
}
