// Package post sends one prepared POST over HTTP/1.1 and says what came back (DESIGN.md section 3).
//
// It promises that an exchange ends by its deadline whatever the server does, that a connection is only ever opened to
// an address that the egress rules let through, that a status stands once the status line and headers are in, and that
// memory is bounded by a few KiB an exchange however long or endless the response is. Redirects are never followed,
// bodies never decompressed. Retries, schedules and signatures are left to the caller; the one exception is a kept
// connection that the server had closed before it answered anything, which is worth one new connection.
package post

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"

	"fanout/dispatcher/egress"
)

// Config is what a Client is told. Zero values mean the defaults.
type Config struct {
	Egress         *egress.Rules  // required
	ConnectTimeout time.Duration  // bounds DNS, TCP and TLS together; default 3s
	Resolver       *net.Resolver  // default net.DefaultResolver
	RootCAs        *x509.CertPool // default the system's
	MaxIdlePerHost int            // kept connections to one host and port; default MaxIdle
	MaxIdle        int            // kept connections in all; default 2048
	IdleTimeout    time.Duration  // a connection unused for so long is closed; default 30s
}

// Client sends POSTs over kept connections. It is safe for concurrent use.
type Client struct {
	cfg    Config
	tls    *tls.Config
	idle   idle
	lookup lookups

	base   context.Context //nolint:containedctx // the client's own lifetime, which every dial and lookup ends with
	cancel context.CancelFunc

	mu   sync.Mutex // guards open
	open map[*conn]struct{}
}

// Response is what a server answered.
type Response struct {
	Status     int    // 100 to 999; 1xx only for 101
	RetryAfter string // the header's value; empty where there was none
	Body       []byte // at most the first KiB, as it came over the wire but for chunking
}

// New makes a Client. Close it to release its connections.
func New(cfg Config) *Client {
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, 3*time.Second)
	cfg.Resolver = cmp.Or(cfg.Resolver, net.DefaultResolver)
	c := &Client{cfg: cfg, open: map[*conn]struct{}{}}
	c.base, c.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // ends with Close
	c.tls = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		RootCAs:            cfg.RootCAs,
		ClientSessionCache: tls.NewLRUClientSessionCache(1024),
	}
	c.idle = idle{
		perHost: cmp.Or(cfg.MaxIdlePerHost, cfg.MaxIdle, 2048),
		total:   cmp.Or(cfg.MaxIdle, 2048),
		timeout: cmp.Or(cfg.IdleTimeout, 30*time.Second),
		hosts:   map[key][]*conn{},
		drop:    c.drop,
	}
	c.lookup = lookups{base: c.base, resolver: cfg.Resolver, limit: cfg.ConnectTimeout, known: map[string]*lookup{}}
	return c
}

// Do sends head and body to t and fills resp.
//
// head is the complete request head, from the request line to the empty line, with the right Content-Length; neither
// slice is kept or changed. resp.Body's capacity is used again. The error is an [*Error], and resp then holds nothing.
//
// Once a status is in there is no error any more; of the body at most 64 KiB are read, for at most a second, and never
// past the deadline. A kept connection that was closed before any byte of a response is replaced by a new one, once.
func (c *Client) Do(t *egress.Target, head, body []byte, deadline time.Time, resp *Response) error {
	*resp = Response{Body: resp.Body[:0]}
	start := time.Now()
	if !start.Before(deadline) {
		return &Error{Timeout, "no time left"}
	}
	if cn := c.idle.get(key{t.Host, t.Port, t.TLS}); cn != nil {
		err := c.exchange(cn, start, deadline, head, body, resp)
		if err == nil || cn.answered() || !errors.Is(err, errStale) && !isBroken(err) || c.base.Err() != nil {
			return c.explain(err, start, deadline)
		}
	}
	cn, err := c.dial(t, start, deadline)
	if err == nil {
		err = c.exchange(cn, start, deadline, head, body, resp)
	}
	return c.explain(err, start, deadline)
}

// exchange owns cn: when it returns, cn is kept for the next exchange or closed.
func (c *Client) exchange(cn *conn, now, deadline time.Time, head, body []byte, resp *Response) error {
	cn.until(now, deadline)
	again, err := cn.exchange(head, body, resp)
	cn.release()
	if again {
		c.idle.put(cn)
	} else {
		c.drop(cn)
	}
	return err
}

// explain is the error for the caller. Whatever broke while the client was being closed was broken by that.
func (c *Client) explain(err error, start, deadline time.Time) error {
	if err == nil {
		return nil
	}
	if c.base.Err() != nil {
		return &Error{Canceled, "the client is closed"}
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return exchangeError(err, deadline.Sub(start))
}

// keep notes an open connection, so that Close finds it; false means that the client is closed already, and so is cn.
func (c *Client) keep(cn *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base.Err() != nil {
		cn.Close()
		return false
	}
	c.open[cn] = struct{}{}
	return true
}

func (c *Client) drop(cn *conn) {
	c.mu.Lock()
	delete(c.open, cn)
	c.mu.Unlock()
	cn.Close() // without close_notify, which could block
}

// Close ends every exchange in flight with Canceled and closes all connections.
func (c *Client) Close() {
	c.mu.Lock()
	c.cancel()
	for cn := range c.open {
		cn.Close()
	}
	c.mu.Unlock()
	c.idle.close()
	c.lookup.running.Wait()
}
