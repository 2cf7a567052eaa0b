package machine

import "golang.org/x/sys/unix"

// total is the machine's memory in bytes; 0 where it is not known.
func total() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit) //nolint:gosec // a machine's memory
}
