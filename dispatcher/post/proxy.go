package post

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strconv"
	"time"

	"fanout/dispatcher/reach"
	"fanout/egress"
)

// absolute is how the head of a request is rewritten for a proxy that is to send it on (RFC 9112 section 3.2.2). The zero
// value leaves it as it is.
type absolute struct {
	origin        string // what goes before the request target: http:// and host:port
	authorization string // of Proxy-Authorization; empty: none
}

// appendHead appends the head, rewritten.
func (a *absolute) appendHead(b, head []byte) []byte {
	if a.origin == "" {
		return append(b, head...)
	}
	method := bytes.IndexByte(head, ' ') + 1
	line := bytes.IndexByte(head, '\n') + 1
	b = append(append(append(b, head[:method]...), a.origin...), head[method:line]...)
	if a.authorization != "" {
		b = append(append(append(b, "Proxy-Authorization: "...), a.authorization...), "\r\n"...)
	}
	return append(b, head[line:]...)
}

// origin is the destination as a proxy is told it: the address that was checked, or the name that the proxy is to look
// up.
func origin(t *egress.Target, addr netip.Addr) string {
	if addr.IsValid() {
		return netip.AddrPortFrom(addr, t.Port).String()
	}
	return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// throughProxy opens a connection to the destination through the proxy: for https a tunnel, for http one that requests
// are sent over in absolute form. A proxy that cannot be used is not the receiver's fault.
func (c *Client) throughProxy(ctx context.Context, t *egress.Target, addr netip.Addr, limit time.Duration) (*conn, error) {
	addrs, err := c.proxyAddresses(ctx)
	if err != nil {
		return nil, err
	}
	cn, err := c.race(ctx, addrs, c.proxy.Port, func(ctx context.Context, a netip.Addr) (*conn, error) { return c.toProxy(ctx, a, limit) })
	if err != nil {
		return nil, proxyUnreachable(err)
	}
	if !t.TLS {
		cn.via = absolute{"http://" + origin(t, addr), c.proxy.Authorization}
		return cn, nil
	}
	if err := cn.tunnel(origin(t, addr), c.proxy.Authorization, limit); err != nil {
		c.drop(cn)
		return nil, err
	}
	return cn, nil
}

// proxyAddresses is the addresses of the proxy itself, which no rule is for. Its name is the operator's: the search list
// applies to it.
func (c *Client) proxyAddresses(ctx context.Context) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(c.proxy.Host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	answer, err := c.cfg.Resolver.Lookup(ctx, c.proxy.Host)
	if err == nil {
		return answer.Addrs, nil
	}
	if e := systemError(err, false); e != nil {
		return nil, e
	}
	return nil, failure(Connect, "the egress proxy's name cannot be looked up").causedBy(reach.Proxy)
}

// toProxy opens a connection to the proxy. TLS to it is a stream like any other for what goes over it.
func (c *Client) toProxy(ctx context.Context, addr netip.Addr, limit time.Duration) (*conn, error) {
	nc, err := c.socket(ctx, netip.AddrPortFrom(addr, c.proxy.Port), limit)
	if err != nil {
		return nil, err
	}
	if c.proxy.TLS {
		var asked bool
		outer := tls.Client(nc, c.tlsConfig(c.proxy.Host, &asked))
		if err := outer.HandshakeContext(ctx); err != nil {
			nc.Close()
			if ctx.Err() != nil {
				err = context.DeadlineExceeded
			}
			return nil, c.explainHandshake((&conn{asked: asked}).handshakeError(err, limit))
		}
		nc = nested{outer, nc}
	}
	return c.adopt(ctx, nc, limit)
}

func proxyUnreachable(err error) error {
	e, ok := err.(*Error) //nolint:errorlint // never wrapped here
	if !ok || e.Cause == reach.System {
		return err
	}
	return failure(Connect, "the egress proxy cannot be reached: "+e.Detail).causedBy(reach.Proxy)
}

// tunnel asks the proxy for a connection to that address (RFC 9110 section 9.3.6).
func (c *conn) tunnel(to, authorization string, limit time.Duration) error {
	request := "CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n"
	if authorization != "" {
		request += "Proxy-Authorization: " + authorization + "\r\n"
	}
	_, err := c.Write([]byte(request + "\r\n"))
	var h header
	if err == nil {
		defer c.release()
		err = c.in.header(&h)
	}
	switch _, ours := err.(*Error); { //nolint:errorlint // never wrapped here
	case isTimeout(err):
		return failure(Timeout, "no answer of the egress proxy within "+brief(limit)).causedBy(reach.Proxy)
	case ours:
		return failure(Connect, "the egress proxy does not speak HTTP").causedBy(reach.Proxy)
	case err != nil:
		return failure(Connect, "the egress proxy closed the connection").causedBy(reach.Proxy)
	case h.status < 200 || h.status > 299:
		return proxyError(h.status)
	case !c.in.empty():
		return failure(Connect, "the egress proxy sent what was not asked for")
	}
	return nil
}

// nested is a TLS connection that carries another one. Close is the socket's: a close_notify could block.
type nested struct {
	*tls.Conn

	socket net.Conn
}

// Close closes the socket.
func (n nested) Close() error { return n.socket.Close() }
