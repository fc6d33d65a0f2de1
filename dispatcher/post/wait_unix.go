//go:build unix

package post

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// pass is the state of one pass through RawConn.Read: check the connection, send, wait, read.
type pass struct {
	request []byte // not yet sent
	block   *block // what request lies in, unless it was too long
	err     error
	step    func(fd uintptr) bool
}

// sendPlain does in three system calls what Write and Read need three for too, and learns on the way whether a kept
// connection is closed or has something on it that nobody asked for: RawConn.Read resets the poller's readiness, so
// whatever comes after the check and the sending wakes it up. While it waits it holds no buffer.
func (c *conn) sendPlain(request []byte, b *block) error {
	c.pass.request, c.pass.block, c.pass.err = request, b, nil
	for {
		err := c.raw.Read(c.pass.step)
		if c.premature(err) {
			continue
		}
		if c.pass.request != nil {
			c.sent()
		}
		if err == nil {
			err = c.pass.err
		}
		return err
	}
}

// step is called by RawConn.Read when there may be something to read; true ends the pass.
func (c *conn) step(fd uintptr) bool {
	if c.pass.request != nil {
		n, again, _ := read(fd, c.one[:])
		switch {
		case again:
		case c.used:
			c.sent()
			c.pass.err = errStale
			return true
		case n > 0: // a server that speaks first
			c.first()
		}
		if sent := writeNow(fd, c.pass.request); sent < len(c.pass.request) {
			_, c.pass.err = c.Write(c.pass.request[sent:])
		}
		c.sent()
		return c.pass.err != nil || n > 0
	}
	b, _ := blocks.Get().(*block)
	n, again, err := read(fd, b[:])
	if n > 0 {
		c.in.filled(b, n)
		return true
	}
	blocks.Put(b)
	c.pass.err = err
	return !again
}

func (c *conn) sent() {
	blocks.Put(c.pass.block)
	c.pass.request, c.pass.block = nil, nil
}

// readNow reads what is there, or says os.ErrDeadlineExceeded; so it does where it cannot tell.
func (s *sock) readNow(p []byte) (n int, err error) {
	if s.raw == nil {
		return 0, os.ErrDeadlineExceeded
	}
	again := true
	waited := s.raw.Read(func(fd uintptr) bool {
		n, again, err = read(fd, p)
		return true
	})
	switch {
	case waited != nil:
		return 0, waited
	case again:
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

// read reads what is there; again says that there is nothing yet.
func read(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = rawRead(int(fd), p)
		switch {
		case n > 0:
			return n, false, nil
		case n == 0:
			return 0, false, io.EOF
		case errors.Is(err, syscall.EAGAIN):
			return 0, true, nil
		case !errors.Is(err, syscall.EINTR):
			return 0, false, os.NewSyscallError("read", err)
		}
	}
}

// writeNow writes what there is room for, and returns how much that was. Whatever keeps it from more is left to the next
// Write to find out.
func writeNow(fd uintptr, p []byte) int {
	n, _ := rawWrite(int(fd), p)
	return max(0, n)
}
