package post

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"fanout/dispatcher/resolve"
)

// blockSize is the memory an exchange holds while it sends or reads, and not while it waits.
const blockSize = 4096

type block [blockSize]byte

//nolint:gochecknoglobals // a pool
var blocks = sync.Pool{New: func() any { return new(block) }}

// errStale is a kept connection that the server closed, or on which it sent what nobody asked for; nothing was sent.
var errStale = errors.New("the kept connection is stale")

// errEarly is an answer that came before the request was sent, and so is none to it. What refuses whatever might come
// (a 503 of a server that is full) is taken.
var errEarly = failure(Connection, "the server answered before it was asked")

// conn is one connection. At any time one exchange, or the idle pool, owns it.
type conn struct {
	sock
	key     key
	tls     *tls.Conn       // over sock; nil without TLS
	asked   bool            // the server has asked for a client certificate
	addr    netip.Addr      // of the destination; not valid where a proxy looks it up
	via     absolute        // how a request is rewritten for a proxy; zero: it is not
	listed  *resolve.Answer // the look-up that addr is from; nil: none
	expires time.Time       // it is not used again after that
	used    bool            // an exchange was completed on it
	early   bool            // the response began before the request was sent

	in       reader
	bodyTime bool // the next read is the first one of the body: bodyLimit applies
	one      [1]byte
	pass     pass

	older, newer *conn // in the idle pool, which owns these and since
	since        time.Time
}

// newConn makes a conn of nc. Where nc is not a socket, it is used as a stream and nothing more: whether a kept one has been
// closed is then found out by using it.
func newConn(nc net.Conn) (*conn, error) {
	c := &conn{sock: sock{Conn: nc}}
	if s, ok := nc.(syscall.Conn); ok {
		raw, err := s.SyscallConn()
		if err != nil {
			return nil, err
		}
		c.raw = raw
	}
	c.in.src = c
	c.pass.step = c.step
	return c, nil
}

// exchange sends a request and reads the response. again says that the connection is fit for another one. Any error
// means that no status came.
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
	switch {
	case c.early && h.status < 400:
		return false, errEarly
	case c.via.origin != "" && h.status == http.StatusProxyAuthRequired:
		return false, proxyError(h.status) // the receiver has not seen the request
	}
	resp.Status, resp.RetryAfter, resp.Location, resp.Date = h.status, h.retryAfter, h.location, h.date
	c.bodyTime = true
	whole := c.in.body(&h, resp)
	c.bodyTime = false
	c.used = true
	return whole && h.keep && sendErr == nil && c.in.empty() && !c.early, nil
}

// send writes the request in one piece and waits for the first byte of the response.
func (c *conn) send(head, body []byte) error {
	b, _ := blocks.Get().(*block)
	request := append(c.via.appendHead(b[:0], head), body...) // allocates where a block is too small
	if c.tls == nil && c.raw != nil {
		return c.sendPlain(request, b)
	}
	var stream io.ReadWriter = &c.sock
	if c.tls != nil {
		stream = c.tls
		// Not a peek at the socket: what is there may be a session ticket, which is fine, and what is not may be in tls.Conn.
		switch n, err := c.glance(); {
		case c.used && !isTimeout(err):
			blocks.Put(b)
			return errStale
		case n > 0:
			c.first()
		}
	}
	_, err := stream.Write(request)
	blocks.Put(b)
	if err != nil || c.early {
		return err
	}
	return c.awaitFirst(stream)
}

// first takes in c.one, the beginning of a response that came before the request was sent.
func (c *conn) first() {
	c.in.first(c.one[0])
	c.early = true
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

// release gives the block back, and loses its content.
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
	raw      syscall.RawConn // nil: not a socket
	deadline time.Time
	armed    time.Time // what the poller was told; never after deadline
	brief    bool      // Read must not wait
}

// until sets the deadline.
func (s *sock) until(now, deadline time.Time) {
	s.deadline = deadline
	if s.raw == nil || s.armed.After(deadline) || s.armed.Before(now) || deadline.Sub(s.armed) > time.Second {
		s.arm()
	}
}

func (s *sock) arm() {
	s.armed = s.deadline
	s.SetDeadline(s.armed) //nolint:errcheck // fails only on a closed connection, as the next call will
}

// premature reports that a deadline passed that is not the exchange's own, and sets that one right.
func (s *sock) premature(err error) bool {
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
		if n > 0 || !s.premature(err) {
			return n, err
		}
	}
}

// Write is net.Conn's.
func (s *sock) Write(p []byte) (int, error) {
	for n := 0; ; {
		m, err := s.Conn.Write(p[n:])
		n += m
		if !s.premature(err) {
			return n, err
		}
	}
}
