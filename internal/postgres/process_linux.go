package postgres

import (
	"os"
	"runtime"
	"syscall"
)

// statAs is os.Stat with the rights of a file's owner. In a container root may
// lack the right to look at others' processes (CAP_SYS_PTRACE), but it may
// borrow their identity for files, a thread at a time.
func statAs(owner *syscall.Stat_t, path string) (os.FileInfo, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	oldGid, _, _ := syscall.RawSyscall(syscall.SYS_SETFSGID, uintptr(owner.Gid), 0, 0)
	defer syscall.RawSyscall(syscall.SYS_SETFSGID, oldGid, 0, 0)
	oldUid, _, _ := syscall.RawSyscall(syscall.SYS_SETFSUID, uintptr(owner.Uid), 0, 0)
	defer syscall.RawSyscall(syscall.SYS_SETFSUID, oldUid, 0, 0)
	return os.Stat(path)
}
