package web

import (
	"errors"

	"golang.org/x/sys/unix"
)

// hungUp reports whether the other end of the socket has closed it. What it sent before
// that hides it, until it is read.
func hungUp(fd int) bool {
	var one [1]byte
	n, _, err := unix.Recvfrom(fd, one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil {
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	}
	return n == 0
}
