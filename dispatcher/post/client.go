// Package post sends one prepared POST over HTTP/1.1 and says what came back.
//
// It promises that an exchange ends by its deadline whatever the server does, that a connection is only ever opened to
// an address that the egress rules let through, that a status stands once the status line and headers are in, and that
// memory is bounded by a few KiB an exchange however long or endless the response is. Redirects are never followed,
// bodies never decompressed. Retries, schedules and signatures are left to the caller; the one exception is a kept
// connection that the server had closed before it answered anything, which is worth one new connection.
//
// It waits for a connection of the Dial function that it is handed, a channel or a timer, and for nothing else: with connections in
// memory it runs in virtual time.
package post

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"fanout/dispatcher/resolve"
	"fanout/egress"
)

// Config configures a Client. Zero values mean the defaults.
type Config struct {
	Egress         *egress.Rules     // required
	ConnectTimeout time.Duration     // bounds DNS, TCP and TLS together; default 3s
	MaxAge         time.Duration     // a connection is not used for longer; default 5m, of which up to a fifth is taken off at random
	Network        resolve.Config    // how connections are opened, and where DNS is configured; default the system's
	Resolver       *resolve.Resolver // default one of its own on Network, which Close closes
	Files          Files             // of TLS
	RootCAs        *x509.CertPool    // instead of the system's and those of Files; default nil
	MaxIdlePerHost int               // kept connections to one host and port, whosever webhooks they are for; default 512
	MaxIdle        int               // kept connections in all; default 2048
	IdleTimeout    time.Duration     // a connection unused for so long is closed; default 30s
	Rand           func() float64    // from 0 up to 1; default that of math/rand/v2
}

// Client sends POSTs over kept connections. It is safe for concurrent use.
type Client struct {
	cfg    Config
	proxy  *egress.Proxy // nil: none
	trust  trust
	idle   idle
	failed failures

	base    context.Context //nolint:containedctx // the client's own lifetime, which every dial and look-up ends with
	cancel  context.CancelFunc
	running sync.WaitGroup // added to under mu, or by what runs, and not once base is done
	owned   *resolve.Resolver

	mu    sync.Mutex         // guards conns
	conns map[*conn]struct{} // all that are open
}

// Response is a server's answer.
type Response struct {
	Status     int    // 100 to 999; 1xx only for 101
	RetryAfter string // the header's value; empty where there was none
	Location   string // the same, of a 3xx
	Date       string // the same, of a 4xx or 5xx
	Body       []byte // at most the first KiB, as it came over the wire but for chunking

	// What the exchange says of the way to the receiver; set where there is an error too.
	Resolved bool // name servers answered a look-up for it
	Proxied  bool // the egress proxy took a new connection for it
}

// New makes a Client. Close it to release its connections. The error is that of [Files.Check].
func New(cfg Config) (*Client, error) {
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, 3*time.Second)
	cfg.MaxAge = cmp.Or(cfg.MaxAge, 5*time.Minute)
	cfg.MaxIdle = cmp.Or(cfg.MaxIdle, 2048)
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	c := &Client{cfg: cfg, proxy: cfg.Egress.Proxy(), conns: map[*conn]struct{}{}, trust: trust{files: cfg.Files, roots: cfg.RootCAs}}
	if err := c.trust.load(time.Now()); err != nil {
		return nil, err
	}
	if c.cfg.Resolver == nil {
		c.owned = resolve.New(cfg.Network)
		c.cfg.Resolver = c.owned
	}
	if c.cfg.Network.Dial == nil {
		// No keep-alive probes: every exchange has its deadline, and what is idle is closed soon.
		c.cfg.Network.Dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	c.base, c.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // ends with Close
	c.idle = idle{
		perHost: cmp.Or(cfg.MaxIdlePerHost, min(512, cfg.MaxIdle)),
		total:   cfg.MaxIdle,
		timeout: cmp.Or(cfg.IdleTimeout, 30*time.Second),
		hosts:   map[key]*host{},
		drop:    c.drop,
		recheck: c.recheck,
	}
	return c, nil
}

// Do sends head and body to t and fills resp.
//
// head is the complete request head, from the request line to the empty line, with the right Content-Length; neither
// slice is kept or changed. resp.Body's capacity is used again. The error is an [*Error]; resp then holds no answer.
//
// Once a status is in nothing is an error any more; of the body at most 64 KiB are read, for at most a second, and never
// past the deadline. A kept connection that was closed before any byte of a response is replaced by a new one, once.
func (c *Client) Do(t *egress.Target, head, body []byte, deadline time.Time, resp *Response) error {
	*resp = Response{Body: resp.Body[:0]}
	start := time.Now()
	if !start.Before(deadline) {
		return failure(Timeout, "no time left")
	}
	if cn := c.idle.get(keyOf(t), start); cn != nil {
		err := c.exchange(cn, start, deadline, head, body, resp)
		if err == nil || cn.answered() || !errors.Is(err, errStale) && !isBroken(err) || c.base.Err() != nil {
			return c.explain(cn, err, start, deadline)
		}
	}
	cn, err := c.dial(t, start, deadline, resp)
	if err == nil {
		err = c.exchange(cn, start, deadline, head, body, resp)
	}
	return c.explain(cn, err, start, deadline)
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

// explain is the error for the caller. Whatever broke while the client was being closed was broken by that. cn may be
// nil.
func (c *Client) explain(cn *conn, err error, start, deadline time.Time) error {
	if err == nil {
		return nil
	}
	if c.base.Err() != nil {
		return failure(Canceled, "the client is closed")
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return exchangeError(cn, err, deadline.Sub(start))
}

// spawn runs f beside the exchanges. Once the client is closed it does not, and returns false.
func (c *Client) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base.Err() != nil {
		return false
	}
	c.running.Go(f)
	return true
}

// keep notes an open connection, so that Close finds it; false means that the client is closed already, and so is cn.
func (c *Client) keep(cn *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base.Err() != nil {
		cn.Close()
		return false
	}
	c.conns[cn] = struct{}{}
	return true
}

func (c *Client) drop(cn *conn) {
	c.mu.Lock()
	delete(c.conns, cn)
	c.mu.Unlock()
	cn.Close() // without close_notify, which could block
}

// Close ends every exchange in flight with Canceled and closes all connections.
func (c *Client) Close() {
	c.mu.Lock()
	c.cancel()
	for cn := range c.conns {
		cn.Close()
	}
	c.mu.Unlock()
	c.idle.close()
	c.running.Wait()
	if c.owned != nil {
		c.owned.Close()
	}
}
