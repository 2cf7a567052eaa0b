package hosts

import (
	"time"

	"golang.org/x/sys/unix"
)

// endAfter ends a connection on which the other side has acknowledged nothing for so long.
func endAfter(fd int, silent time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silent.Milliseconds()))
}
