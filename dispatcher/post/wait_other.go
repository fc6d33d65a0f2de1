//go:build !unix

package post

import "os"

// pass is not needed where sockets cannot be read without waiting.
type pass struct{ step func(fd uintptr) bool }

func (c *conn) step(uintptr) bool { return true }

// sendPlain finds out that a kept connection is closed by its failing, which costs one more connection.
func (c *conn) sendPlain(request []byte, b *block) error {
	_, err := c.Write(request)
	blocks.Put(b)
	if err != nil {
		return err
	}
	return c.awaitFirst(&c.sock)
}

// readNow cannot tell, and says that there is nothing.
func (*sock) readNow([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }
