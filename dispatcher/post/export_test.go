package post

import (
	"bufio"
	"io"
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

// ForgetNames makes the next dial ask DNS again, as it would some seconds later.
func (c *Client) ForgetNames() {
	c.lookup.mu.Lock()
	defer c.lookup.mu.Unlock()
	clear(c.lookup.known)
}
