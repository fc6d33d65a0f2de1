package post

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"fanout/dispatcher/resolve"
	"fanout/egress"
)

// dial opens a connection to t, ready for a request, within the connect time-out and the deadline.
func (c *Client) dial(t *egress.Target, now, deadline time.Time, resp *Response) (*conn, error) {
	by := now.Add(c.cfg.ConnectTimeout)
	if deadline.Before(by) {
		by = deadline
	}
	ctx, cancel := context.WithDeadline(c.base, by)
	defer cancel()
	limit := by.Sub(now)

	addrs, listed, err := c.addresses(ctx, t, limit)
	if err != nil {
		return nil, err
	}
	resp.Resolved = listed != nil && !listed.At.Before(now)
	cn, err := c.race(ctx, addrs, t.Port, func(ctx context.Context, addr netip.Addr) (*conn, error) { return c.open(ctx, t, addr, limit) })
	if err != nil {
		return nil, err
	}
	resp.Proxied = c.proxy != nil
	cn.key, cn.listed = keyOf(t), listed
	cn.expires = now.Add(c.cfg.MaxAge - time.Duration(c.cfg.Rand()*float64(c.cfg.MaxAge/5)))
	if listed != nil {
		c.idle.list(cn.key, listed, now)
	}
	return cn, nil
}

// addresses is the addresses of t that the rules let through, and the look-up that they are from. They are what is
// dialled, so that a name which resolves otherwise a moment later gains nothing. An address that is not valid stands for
// a name that the proxy is to look up.
func (c *Client) addresses(ctx context.Context, t *egress.Target, limit time.Duration) ([]netip.Addr, *resolve.Answer, error) {
	if t.Addr.IsValid() {
		if err := c.cfg.Egress.CheckAddr(t.Addr, t.Opened); err != nil {
			return nil, nil, blocked(err)
		}
		return []netip.Addr{t.Addr.Unmap()}, nil, nil
	}
	if c.proxy != nil && c.proxy.Names {
		return []netip.Addr{{}}, nil, nil
	}
	listed, err := c.cfg.Resolver.Lookup(ctx, c.name(t.Host, t.Rooted))
	if err != nil {
		return nil, nil, lookupError(err, limit)
	}
	open := make([]netip.Addr, 0, len(listed.Addrs))
	for _, a := range listed.Addrs {
		if err = c.cfg.Egress.CheckAddr(a, t.Opened); err == nil {
			open = append(open, a)
		}
	}
	if len(open) == 0 {
		return nil, nil, blocked(err)
	}
	return open, listed, nil
}

// name is what the resolver is asked for: an absolute name, unless the search list applies.
func (c *Client) name(host string, rooted bool) string {
	if c.cfg.Egress.Search() && !rooted {
		return host
	}
	return host + "."
}

// open makes one try: a connection to the address, through the proxy where there is one, and the TLS handshake.
func (c *Client) open(ctx context.Context, t *egress.Target, addr netip.Addr, limit time.Duration) (*conn, error) {
	var cn *conn
	var err error
	if c.proxy != nil {
		cn, err = c.throughProxy(ctx, t, addr, limit)
	} else {
		cn, err = c.connect(ctx, netip.AddrPortFrom(addr, t.Port), limit)
	}
	if err != nil {
		return nil, err
	}
	cn.addr = addr
	if !t.TLS {
		return cn, nil
	}
	if err := c.handshake(ctx, cn, t.Host, limit); err != nil {
		c.drop(cn)
		return nil, err
	}
	return cn, nil
}

// connect opens a TCP connection.
func (c *Client) connect(ctx context.Context, to netip.AddrPort, limit time.Duration) (*conn, error) {
	nc, err := c.socket(ctx, to, limit)
	if err != nil {
		return nil, err
	}
	return c.adopt(ctx, nc, limit)
}

func (c *Client) socket(ctx context.Context, to netip.AddrPort, limit time.Duration) (net.Conn, error) {
	nc, err := c.cfg.Network.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, dialError(err, to.Addr().Is4(), limit)
	}
	return nc, nil
}

// adopt makes a conn of nc, which has the time that ctx has.
func (c *Client) adopt(ctx context.Context, nc net.Conn, limit time.Duration) (*conn, error) {
	cn, err := newConn(nc)
	if err != nil {
		nc.Close()
		return nil, dialError(err, false, limit)
	}
	if !c.keep(cn) {
		return nil, net.ErrClosed
	}
	by, _ := ctx.Deadline()
	cn.until(time.Now(), by)
	return cn, nil
}

// recheck looks up again which addresses a host has, for the sake of the connections that are kept: those to others are
// closed. It returns at once.
func (c *Client) recheck(k key) {
	c.spawn(func() {
		ctx, cancel := context.WithTimeout(c.base, recheckTime)
		defer cancel()
		listed, err := c.cfg.Resolver.Lookup(ctx, c.name(k.host, k.rooted))
		if e, ok := errors.AsType[*resolve.Error](err); ok && e.NotFound {
			listed = &resolve.Answer{} // the name is gone, and with it all addresses
		} else if err != nil {
			return
		}
		c.idle.list(k, listed, time.Now())
	})
}

// recheckTime bounds a look-up that nobody waits for.
const recheckTime = 5 * time.Second
