package web

import "golang.org/x/sys/unix"

// hungUp reports whether the other end of the socket has closed it, whatever it sent
// before that is unread yet.
func hungUp(fd int) bool {
	ask := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // a file's number
	n, err := unix.Poll(ask, 0)
	return err == nil && n > 0
}
