package post

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// blockSize is the memory an exchange holds while it sends or reads, and not while it waits.
const blockSize = 4096

type block [blockSize]byte

//nolint:gochecknoglobals // a pool
var blocks = sync.Pool{New: func() any { return new(block) }}

// errStale is a kept connection that the server closed, or on which it sent what nobody asked for; nothing was sent.
var errStale = errors.New("the kept connection is stale")

// conn is one connection. At any time one exchange, or the idle pool, owns it.
type conn struct {
	sock
	key  key
	tls  *tls.Conn // over sock; nil without TLS
	used bool      // an exchange was completed on it

	in       reader
	bodyTime bool // the next read is the first one of the body: bodyLimit applies
	one      [1]byte
	pass     pass

	older, newer *conn // in the idle pool, which owns these and since
	since        time.Time
}

func newConn(nc *net.TCPConn) (*conn, error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{sock: sock{Conn: nc, raw: raw}}
	c.in.src = c
	c.pass.step = c.step
	return c, nil
}

// exchange sends a request and reads the response. again says that the connection is fit for another one. Any error
// means that there is no status.
func (c *conn) exchange(head, body []byte, resp *Response) (again bool, err error) {
	c.in.started = false
	sendErr := c.send(head, body)
	if sendErr != nil && !isBroken(sendErr) {
		return false, sendErr
	}
	// A server that answers early and closes breaks the sending of a long body, but its answer may be there.
	var h header
	if err := c.in.header(&h); err != nil {
		if sendErr != nil {
			err = sendErr
		}
		return false, err
	}
	resp.Status, resp.RetryAfter = h.status, h.retryAfter
	c.bodyTime = true
	whole := c.in.body(&h, resp)
	c.bodyTime = false
	c.used = true
	return whole && h.keep && sendErr == nil && c.in.empty(), nil
}

// send writes the request in one piece and waits for the first byte of the response.
func (c *conn) send(head, body []byte) error {
	b, _ := blocks.Get().(*block)
	request := append(append(b[:0], head...), body...) // allocates where a block is too small
	if c.tls == nil {
		return c.sendPlain(request, b)
	}
	if c.used {
		// Not a peek at the socket: what is there may be a session ticket, which is fine, and what is not may be in tls.Conn.
		if _, err := c.glance(); !isTimeout(err) {
			blocks.Put(b)
			return errStale
		}
	}
	_, err := c.tls.Write(request)
	blocks.Put(b)
	if err != nil {
		return err
	}
	return c.awaitFirst(c.tls)
}

// glance reads from the TLS connection without waiting: a time-out means that there is nothing.
func (c *conn) glance() (int, error) {
	c.brief = true
	n, err := c.tls.Read(c.one[:])
	c.brief = false
	return n, err
}

// awaitFirst waits with a buffer of one byte, and only then takes a block: thousands may be waiting.
func (c *conn) awaitFirst(r io.Reader) error {
	n, err := r.Read(c.one[:])
	if n > 0 {
		c.in.first(c.one[0])
		return nil
	}
	return err
}

// answered says that at least one byte of a response to the last request came in.
func (c *conn) answered() bool { return c.in.started }

// release gives the block back; what it held is lost.
func (c *conn) release() {
	if c.in.block != nil {
		blocks.Put(c.in.block)
	}
	c.in = reader{src: c.in.src, started: c.in.started}
}

// Read reads what the header and body are parsed from.
func (c *conn) Read(p []byte) (int, error) {
	if c.bodyTime {
		c.bodyTime = false
		now := time.Now()
		if by := now.Add(bodyLimit); by.Before(c.deadline) {
			c.until(now, by)
		}
	}
	if c.tls != nil {
		return c.tls.Read(p)
	}
	return c.sock.Read(p)
}

// sock is a TCP connection with one deadline for all that is read and written. The poller is told of it rarely, which
// costs more than the rest of a short exchange's bookkeeping together: it may hold an earlier time, left by an exchange
// before, and is then told the right one when that has passed.
type sock struct {
	net.Conn
	raw      syscall.RawConn
	deadline time.Time
	armed    time.Time // what the poller was told; never after deadline
	brief    bool      // Read must not wait
}

// until sets the deadline.
func (s *sock) until(now, deadline time.Time) {
	s.deadline = deadline
	if s.armed.After(deadline) || s.armed.Before(now) || deadline.Sub(s.armed) > time.Second {
		s.arm()
	}
}

func (s *sock) arm() {
	s.armed = s.deadline
	s.SetDeadline(s.armed) //nolint:errcheck // fails only on a closed connection, as the next call will
}

// early says that a deadline passed that is not the exchange's own, and sets that one right.
func (s *sock) early(err error) bool {
	if err == nil || !isTimeout(err) || !s.armed.Before(s.deadline) {
		return false
	}
	s.arm()
	return true
}

// Read is net.Conn's.
func (s *sock) Read(p []byte) (int, error) {
	if s.brief {
		return s.readNow(p)
	}
	for {
		n, err := s.Conn.Read(p)
		if n > 0 || !s.early(err) {
			return n, err
		}
	}
}

// Write is net.Conn's.
func (s *sock) Write(p []byte) (int, error) {
	for n := 0; ; {
		m, err := s.Conn.Write(p[n:])
		n += m
		if !s.early(err) {
			return n, err
		}
	}
}
