//go:build unix && (!linux || race)

package post

import "syscall"

// rawRead is read(2). The race detector learns by syscall.Read and Write what happened before what.
func rawRead(fd int, p []byte) (int, error) { return syscall.Read(fd, p) }

// rawWrite is write(2).
func rawWrite(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }
