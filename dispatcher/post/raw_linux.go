//go:build linux && !race

package post

import (
	"syscall"
	"unsafe"
)

// rawRead is read(2) of a socket, which does not block. The scheduler is not told of it: that it would find out about a call
// that lasts, which this one cannot, costs a tenth of a short exchange.
func rawRead(fd int, p []byte) (int, error) { return raw(syscall.SYS_READ, fd, p) }

// rawWrite is write(2), likewise.
func rawWrite(fd int, p []byte) (int, error) { return raw(syscall.SYS_WRITE, fd, p) }

func raw(call uintptr, fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
