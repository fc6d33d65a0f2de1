package post

import (
	"context"
	"net/netip"
	"time"

	"fanout/dispatcher/reach"
	"fanout/egress"
)

// The Client is what a [reach.Monitor] asks with.
var _ reach.Prober = (*Client)(nil)

// NameServers implements reach.Prober.
func (c *Client) NameServers(ctx context.Context) error { return c.cfg.Resolver.Root(ctx) }

// Name implements reach.Prober.
func (c *Client) Name(ctx context.Context, p reach.Place) error {
	return c.cfg.Resolver.Refresh(ctx, c.name(p.Host, p.Rooted))
}

// Proxy implements reach.Prober.
func (c *Client) Proxy(ctx context.Context) error {
	cn, err := c.reachProxy(ctx)
	if cn != nil {
		c.drop(cn)
	}
	return err
}

// nowhere is a destination that cannot exist (RFC 6761 section 6.4).
const nowhere = "fanout-check.invalid:443"

// CheckProxy asks the egress proxy for a destination that does not exist, to learn whether it takes connections and the
// credentials. The error says what is wrong with the proxy; nil where there is none.
func (c *Client) CheckProxy(ctx context.Context) error {
	cn, err := c.reachProxy(ctx)
	if cn == nil {
		return err
	}
	defer c.drop(cn)
	err = cn.tunnel(nowhere, c.proxy.Authorization, c.cfg.ConnectTimeout)
	if e, ok := err.(*Error); ok && e.Cause == reach.Proxy && e.Kind != Timeout { //nolint:errorlint // tunnel wraps nothing
		return e
	}
	return nil // it would not, or not soon: that is what was expected
}

// reachProxy opens a connection to the proxy, within the connect time-out; nil without a proxy.
func (c *Client) reachProxy(ctx context.Context) (*conn, error) {
	if c.proxy == nil {
		return nil, nil //nolint:nilnil // no proxy is nothing to connect to
	}
	limit := c.cfg.ConnectTimeout
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	addrs, err := c.proxyAddresses(ctx)
	if err != nil {
		return nil, err
	}
	cn, err := c.race(ctx, addrs, c.proxy.Port, func(ctx context.Context, a netip.Addr) (*conn, error) { return c.toProxy(ctx, a, limit) })
	if err != nil {
		return nil, proxyUnreachable(err)
	}
	return cn, nil
}

// Connect implements reach.Prober. The connection is kept for the next exchange with the place.
func (c *Client) Connect(ctx context.Context, p reach.Place) reach.Cause {
	t := egress.Target{TLS: p.TLS, Host: p.Host, Rooted: p.Rooted, Port: p.Port, Opened: p.Opened}
	if a, err := netip.ParseAddr(p.Host); err == nil {
		t.Addr = a
	}
	now := time.Now()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = now.Add(c.cfg.ConnectTimeout)
	}
	var resp Response
	cn, err := c.dial(&t, now, deadline, &resp)
	if err == nil {
		c.idle.put(cn)
		return reach.Receiver
	}
	e, ok := err.(*Error) //nolint:errorlint // dial wraps nothing
	if !ok {
		return reach.Receiver
	}
	return e.Cause
}
