package post

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"fanout/dispatcher/reach"
	"fanout/dispatcher/resolve"
	"fanout/egress"
)

// Kind says why no status came. All but Blocked and Canceled are reasons of a retry.
type Kind uint8

// The kinds. A time-out is Timeout whatever was waited for, but for names, which are DNS.
const (
	Timeout    Kind = iota // the deadline, or the connect time-out, passed first
	DNS                    // the name has no address, or nobody said so in time
	Connect                // no TCP connection, or the proxy would not make one
	TLS                    // no handshake, or a certificate that does not verify
	Connection             // the connection broke, or what came over it is not an HTTP/1 response
	Blocked                // the egress rules deny every address of the host; nothing was connected to
	Canceled               // the client was closed
	kinds
)

// String is the kind in words.
func (k Kind) String() string {
	return [kinds]string{"timeout", "dns", "connect", "tls", "connection", "blocked", "canceled"}[k]
}

// Error is the error of every exchange that led to no status.
type Error struct {
	Kind   Kind
	Detail string      // short, readable text that names no URL and no address that a name resolved to
	Cause  reach.Cause // who besides the receiver may be at fault

	// Lookup is the look-up that failed, where one did: all exchanges that waited for it have the same number. It is one
	// failure, however many they were. 0: none.
	Lookup uint64

	untrusted bool // the server's certificate leads to nobody who is trusted here
}

// Error is kind and detail.
func (e *Error) Error() string { return e.Kind.String() + ": " + e.Detail }

func failure(kind Kind, detail string) *Error { return &Error{Kind: kind, Detail: detail} }

// causedBy is the same error with its cause.
func (e *Error) causedBy(cause reach.Cause) *Error {
	e.Cause = cause
	return e
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// isBroken reports whether the other side closed or reset the connection, or had done so before it was written to.
func isBroken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.ErrClosedPipe)
}

// systemError is the error where this machine or process has run out of something; nil where err says nothing of that kind.
func systemError(err error, v4 bool) *Error {
	if !reach.SystemFault(err, v4) {
		return nil
	}
	detail := "this machine has no memory left for sockets"
	switch {
	case errors.Is(err, syscall.EMFILE):
		detail = "this process has no file descriptor left"
	case errors.Is(err, syscall.ENFILE):
		detail = "this machine has no file descriptor left"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		detail = "this machine has no local port left for that destination"
	}
	return failure(Connect, detail).causedBy(reach.System)
}

// dialError says why there is no TCP connection. The error of package net names the address and is never shown.
func dialError(err error, v4 bool, limit time.Duration) *Error {
	if e := systemError(err, v4); e != nil {
		return e
	}
	switch ne, ok := errors.AsType[net.Error](err); {
	case isTimeout(err), ok && ne.Timeout():
		return failure(Timeout, "no connection within "+brief(limit))
	case errors.Is(err, syscall.ECONNREFUSED):
		return failure(Connect, "connection refused")
	case errors.Is(err, syscall.ECONNRESET):
		return failure(Connect, "connection reset")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return failure(Connect, "network unreachable")
	case errors.Is(err, syscall.EHOSTUNREACH):
		return failure(Connect, "host unreachable")
	}
	return failure(Connect, "no connection")
}

// lookupError says why a name has no address.
func lookupError(err error, limit time.Duration) *Error {
	e, ok := errors.AsType[*resolve.Error](err)
	switch {
	case !ok:
		return failure(DNS, "name lookup failed").causedBy(reach.DNS)
	case e.NotFound && e.ByName != "":
		return &Error{Kind: DNS, Detail: e.Error() + " (only with the resolver's search list: write it in full, or set egress.search)", Lookup: e.ID}
	case e.NotFound:
		return &Error{Kind: DNS, Detail: e.Error(), Lookup: e.ID}
	}
	out := systemError(err, false)
	switch {
	case out != nil:
		out.Kind = DNS
	case isTimeout(err):
		out = failure(DNS, "no answer to the name lookup within "+brief(limit)).causedBy(reach.DNS)
	default:
		out = failure(DNS, e.Error()).causedBy(reach.DNS)
	}
	out.Lookup = e.ID
	return out
}

// exchangeError says why no status came on a connection that was made; limit is how much time the exchange had.
func exchangeError(cn *conn, err error, limit time.Duration) *Error {
	if isTimeout(err) {
		return failure(Timeout, "no answer within "+brief(limit))
	}
	if cn != nil && remoteAlert(err) != "" {
		return cn.handshakeError(err, limit) // TLS 1.3 servers refuse a client after its handshake
	}
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return failure(Connection, "connection reset before the response was complete")
	case isBroken(err):
		return failure(Connection, "connection closed before the response was complete")
	}
	return failure(Connection, "connection broken")
}

// proxyError says why the proxy did not make a connection to the destination: its answer to CONNECT was no 2xx.
func proxyError(status int) *Error {
	switch status {
	case 407:
		return failure(Connect, "the egress proxy asks for other credentials (407): see the user info in egress.proxy").causedBy(reach.Proxy)
	case 403:
		return failure(Connect, "the egress proxy does not allow this destination (403); where it filters by name, set egress.proxy_names")
	case 400, 404, 405, 501:
		return failure(Connect, fmt.Sprintf("the egress proxy does not take CONNECT (%d)", status))
	case 502, 503:
		return failure(Connect, fmt.Sprintf("the egress proxy cannot reach the destination (%d)", status))
	case 504:
		return failure(Connect, "the egress proxy got no connection to the destination in time (504)")
	}
	return failure(Connect, fmt.Sprintf("the egress proxy answered %d", status))
}

// blocked is an egress refusal as an error of this package.
func blocked(err error) *Error {
	if d, ok := errors.AsType[*egress.Denied](err); ok {
		return failure(Blocked, d.Reason)
	}
	return failure(Blocked, "the destination is denied")
}

// brief is a duration as people write it: 10s, not 9.9987s.
func brief(d time.Duration) string {
	if d >= time.Second {
		return d.Round(time.Second / 10).String()
	}
	return d.Round(time.Millisecond).String()
}
