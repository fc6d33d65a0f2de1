package post

import (
	"bufio"
	"io"
	"time"
)

// Idle is how many connections are kept, and of how many hosts anything is.
func (c *Client) Idle() (conns, hosts int) {
	c.idle.mu.Lock()
	defer c.idle.mu.Unlock()
	return c.idle.n, len(c.idle.hosts)
}

// Parse reads a response as an exchange does. keep says that the connection would be used again.
func Parse(r *bufio.Reader, resp *Response) (keep bool, err error) {
	in := reader{src: io.Reader(r)}
	var h header
	if err := in.header(&h); err != nil {
		return false, err
	}
	resp.Status = h.status
	whole := in.body(&h, resp)
	return whole && h.keep && in.empty(), nil
}

// RereadFiles has the files of TLS looked at by the next handshake.
func (c *Client) RereadFiles() {
	c.trust.mu.Lock()
	defer c.trust.mu.Unlock()
	c.trust.checked, c.trust.stamps = time.Time{}, [3]stamp{}
}

// LateRoots reports whether roots are found where crypto/x509 found none.
func LateRoots() bool { return lateRoots() != nil }
