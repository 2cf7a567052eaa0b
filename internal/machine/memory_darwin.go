package machine

import "golang.org/x/sys/unix"

// total is the machine's memory in bytes; 0 where it is not known.
func total() int64 {
	bytes, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int64(bytes) //nolint:gosec // a machine's memory
}
