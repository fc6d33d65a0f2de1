package subscriptions

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"fanout/credential"
)

// dialFunc opens a connection to a server of any kind: Redis, a node of a Cluster, a sentinel.
type dialFunc = credential.Dial

// Option changes how Redis is reached.
type Option func(*options)

type options struct{ dial dialFunc }

// WithDial sets what opens connections to Redis; TLS and signing in are done on top of it. The default is the operating system's.
func WithDial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// dialWith is the options' dial function, or the operating system's.
func dialWith(opts []Option) dialFunc {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if o.dial == nil {
		o.dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	return o.dial
}

// dialer makes connections in place of go-redis, whose TLS takes one configuration for ever: the files are read here, so
// that what is wrong with them is known at the start, and again at each connection, so that mounted secrets rotate.
func (c *Config) dialer(t *target, open dialFunc) (dialFunc, error) {
	dial, err := c.connector(t, open)
	if err != nil || t.kind != "sentinel" {
		return dial, err
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if f, ok := conn.(interface{ hasten() }); ok && slices.Contains(t.addrs, addr) {
			f.hasten()
		}
		return conn, err
	}, nil
}

func (c *Config) connector(t *target, open dialFunc) (dialFunc, error) {
	switch {
	case t.kind == "unix":
		return func(ctx context.Context, _, addr string) (net.Conn, error) {
			return open(ctx, "unix", addr)
		}, nil
	case !t.secure:
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := open(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			fresh := &freshConn{Conn: conn, key: "redis.url", hint: "a port with TLS wants rediss:// in place of redis://"}
			if tcp, ok := conn.(*net.TCPConn); ok {
				return &clearConn{fresh, tcp}, nil
			}
			return fresh, nil
		}, nil
	}
	_, err := c.TLS.files().Config()
	return c.TLS.over(open), err
}

func (c *TLSConfig) files() *credential.TLS {
	return &credential.TLS{Section: "redis.tls", CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, ServerName: c.ServerName}
}

// over speaks TLS over the connections that dial opens.
func (c *TLSConfig) over(dial dialFunc) dialFunc {
	secure := c.files().Over(dial, dialTimeout, c.explain)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := secure(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		// With TLS 1.3, the server looks for it after the handshake; its alert may be lost in the reset that follows.
		hint := "redis may want a client certificate"
		if c.CertFile != "" {
			hint = "name a client certificate of an authority that redis knows"
		}
		return &freshConn{Conn: conn, key: "redis.tls.cert_file", hint: hint}, nil
	}
}

// explain says of a failed handshake which key to look at.
func (c *TLSConfig) explain(addr string, err error) error {
	if untrusted := c.files().Untrusted(addr, err); untrusted != nil {
		return untrusted
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return &credential.Error{Key: "redis.url", Err: err, Remedy: "that port speaks no TLS; use another, or redis:// in place of rediss://"}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		// Redis takes a greeting for the start of a command, and waits for the rest.
		return &credential.Error{Key: "redis.url", Err: errors.New("no answer to a TLS greeting"), Remedy: "redis hangs, or that port speaks no TLS; use another, or redis:// in place of rediss://"}
	}
	return err
}

// freshConn is a connection whose server may close it before it has said anything, for want of what a key of the
// configuration would give it.
type freshConn struct {
	net.Conn

	key, hint string
	heard     atomic.Bool
	hasty     bool
}

// hasten makes it one to a sentinel, which has little to say: it is given sentinelTimeout for each answer, where go-redis
// would give it as long as Redis.
func (c *freshConn) hasten() { c.hasty = true }

// SetReadDeadline implements net.Conn.
func (c *freshConn) SetReadDeadline(at time.Time) error {
	if soon := time.Now().Add(sentinelTimeout); c.hasty && !at.IsZero() && at.After(soon) { // zero: it listens for news
		at = soon
	}
	return c.Conn.SetReadDeadline(at)
}

// Read implements net.Conn.
func (c *freshConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	const alert = 0x15 // begins what a port with TLS answers; no reply of Redis does
	if n > 0 && b[0] == alert && !c.heard.Load() {
		return 0, &credential.Error{Key: c.key, Err: errors.New("the answer is a TLS alert"), Remedy: c.hint}
	}
	if n > 0 {
		c.heard.Store(true)
	}
	return n, c.explain(err)
}

// Write implements net.Conn.
func (c *freshConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.explain(err)
}

func (c *freshConn) explain(err error) error {
	if err == nil || c.heard.Load() {
		return err
	}
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case ok && op.Timeout():
		return err
	case ok:
		err = op.Err // without the addresses
	case !errors.Is(err, io.EOF):
		return err
	}
	return &credential.Error{Key: c.key, Err: fmt.Errorf("the connection was closed without an answer: %w", err), Remedy: c.hint}
}

// clearConn is one without TLS. By the socket, go-redis sees that an idle connection was closed; over TLS it must not.
type clearConn struct {
	*freshConn
	syscall.Conn
}
