package post

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"fanout/dispatcher/egress"
)

// dial opens a connection to t, ready for a request, within the connect time-out and the deadline.
func (c *Client) dial(t *egress.Target, now, deadline time.Time) (*conn, error) {
	by := now.Add(c.cfg.ConnectTimeout)
	if deadline.Before(by) {
		by = deadline
	}
	ctx, cancel := context.WithDeadline(c.base, by)
	defer cancel()
	limit := by.Sub(now)

	addrs, err := c.addresses(ctx, t, limit)
	if err != nil {
		return nil, err
	}
	cn, err := c.connect(ctx, addrs, t.Port, limit)
	if err != nil || !t.TLS {
		return c.ready(cn, t), err
	}
	cfg := c.tls.Clone()
	cfg.ServerName = t.Host
	cn.tls = tls.Client(&cn.sock, cfg)
	if err := cn.tls.Handshake(); err != nil { //nolint:noctx // the socket's deadline and Close end it
		c.drop(cn)
		return nil, handshakeError(err, limit)
	}
	return c.ready(cn, t), nil
}

func (c *Client) ready(cn *conn, t *egress.Target) *conn {
	if cn != nil {
		cn.key = key{t.Host, t.Port, t.TLS}
	}
	return cn
}

// addresses is the addresses of t that the rules let through. They are what is dialled, so that a name which resolves
// otherwise a moment later gains nothing.
func (c *Client) addresses(ctx context.Context, t *egress.Target, limit time.Duration) ([]netip.Addr, error) {
	if t.Addr.IsValid() {
		if err := c.cfg.Egress.CheckAddr(t.Addr); err != nil {
			return nil, blocked(err)
		}
		return []netip.Addr{t.Addr}, nil
	}
	all, err := c.lookup.find(ctx, t.Host)
	if err != nil {
		return nil, lookupError(err, limit)
	}
	var open []netip.Addr
	for _, a := range all {
		if err = c.cfg.Egress.CheckAddr(a); err == nil {
			open = append(open, a)
		}
	}
	switch {
	case len(open) > 0:
		return open, nil
	case err != nil:
		return nil, blocked(err)
	}
	return nil, &Error{DNS, "name has no address"}
}

// connect tries the addresses in turn, each with a fair share of what time is left, so that one that does not answer
// leaves the next a chance (RFC 8305, without the race).
func (c *Client) connect(ctx context.Context, addrs []netip.Addr, port uint16, limit time.Duration) (cn *conn, err error) {
	by, _ := ctx.Deadline()
	for i, a := range addrs {
		share := time.Until(by) / time.Duration(len(addrs)-i)
		cn, err = c.connectTo(ctx, netip.AddrPortFrom(a.Unmap(), port), time.Now().Add(share), limit)
		if err == nil {
			cn.until(time.Now(), by)
			return cn, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

func (c *Client) connectTo(ctx context.Context, to netip.AddrPort, by time.Time, limit time.Duration) (*conn, error) {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	p := c.cfg.Egress.Proxy()
	if p == nil {
		return c.tcp(ctx, to, limit)
	}
	cn, err := c.toProxy(ctx, p, limit)
	if err != nil {
		return nil, err
	}
	cn.until(time.Now(), by)
	if err := cn.tunnel(to.String(), p.Authorization); err != nil {
		c.drop(cn)
		if isTimeout(err) {
			err = dialError(err, limit)
		}
		return nil, err
	}
	return cn, nil
}

func (c *Client) toProxy(ctx context.Context, p *egress.Proxy, limit time.Duration) (*conn, error) {
	addrs := []netip.Addr{{}}
	var err error
	if addrs[0], err = netip.ParseAddr(p.Host); err != nil {
		if addrs, err = c.lookup.find(ctx, p.Host); err != nil {
			return nil, &Error{Connect, "the egress proxy's name cannot be looked up"}
		}
	}
	for _, a := range addrs {
		var cn *conn
		if cn, err = c.tcp(ctx, netip.AddrPortFrom(a, p.Port), limit); err == nil {
			return cn, nil
		}
	}
	return nil, &Error{Connect, "the egress proxy cannot be reached"}
}

func (c *Client) tcp(ctx context.Context, to netip.AddrPort, limit time.Duration) (*conn, error) {
	// No keep-alive probes: every exchange has its deadline, and what is idle is closed soon.
	d := net.Dialer{KeepAlive: -1}
	nc, err := d.DialTCP(ctx, "tcp", netip.AddrPort{}, to)
	if err != nil {
		return nil, dialError(err, limit)
	}
	cn, err := newConn(nc)
	if err != nil {
		nc.Close()
		return nil, dialError(err, limit)
	}
	if !c.keep(cn) {
		return nil, net.ErrClosed
	}
	return cn, nil
}
