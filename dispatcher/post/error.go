package post

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"fanout/dispatcher/egress"
)

// Kind says why there is no status. All but Blocked and Canceled are retry reasons of DESIGN.md section 4.
type Kind uint8

// The kinds. A time-out is Timeout whatever was waited for, but for names, which are DNS.
const (
	Timeout    Kind = iota // the deadline, or the connect time-out, passed first
	DNS                    // the name has no address, or nobody said so in time
	Connect                // no TCP connection, or the proxy would not make one
	TLS                    // no handshake, or a certificate that does not verify
	Connection             // the connection broke, or what came over it is no HTTP/1 response
	Blocked                // the egress rules deny every address of the host; nothing was connected to
	Canceled               // the client was closed
	kinds
)

// String is the kind in words.
func (k Kind) String() string {
	return [kinds]string{"timeout", "dns", "connect", "tls", "connection", "blocked", "canceled"}[k]
}

// Error is the error of every exchange that led to no status. Detail is short, readable text that names no URL and no
// address that a name resolved to.
type Error struct {
	Kind   Kind
	Detail string
}

// Error is kind and detail.
func (e *Error) Error() string { return e.Kind.String() + ": " + e.Detail }

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// isBroken says that the other side closed or reset the connection, or had done so before it was written to.
func isBroken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// dialError says why there is no TCP connection. The error of package net names the address and is never shown.
func dialError(err error, limit time.Duration) *Error {
	switch ne, ok := errors.AsType[net.Error](err); {
	case isTimeout(err), ok && ne.Timeout():
		return &Error{Timeout, "no connection within " + brief(limit)}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Connect, "connection refused"}
	case errors.Is(err, syscall.ECONNRESET):
		return &Error{Connect, "connection reset"}
	case errors.Is(err, syscall.ENETUNREACH):
		return &Error{Connect, "network unreachable"}
	case errors.Is(err, syscall.EHOSTUNREACH):
		return &Error{Connect, "host unreachable"}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return &Error{Connect, "this process is out of file descriptors"}
	}
	return &Error{Connect, "no connection"}
}

// lookupError says why a name has no address. Package net's error names the DNS server and is never shown.
func lookupError(err error, limit time.Duration) *Error {
	de, ok := errors.AsType[*net.DNSError](err)
	switch {
	case ok && de.IsNotFound:
		return &Error{DNS, "name does not exist"}
	case isTimeout(err), ok && de.IsTimeout:
		return &Error{DNS, "no answer to the name lookup within " + brief(limit)}
	}
	return &Error{DNS, "name lookup failed"}
}

func handshakeError(err error, limit time.Duration) *Error {
	if isTimeout(err) {
		return &Error{Timeout, "TLS handshake not finished within " + brief(limit)}
	}
	if isBroken(err) {
		return &Error{TLS, "connection closed during the handshake"}
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return &Error{TLS, "the server does not speak TLS"}
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return &Error{TLS, "certificate has expired or is not yet valid"}
		}
		return &Error{TLS, "certificate is not valid"}
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return &Error{TLS, "certificate is not for this host name"}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return &Error{TLS, "certificate is signed by an unknown authority"}
	}
	if alert := remoteAlert(err); alert != "" {
		return &Error{TLS, "the server refused the handshake: " + alert}
	}
	return &Error{TLS, "handshake failed"}
}

// remoteAlert is the alert that the server sent, in words; crypto/tls has no exported type for it.
func remoteAlert(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" {
		return strings.TrimPrefix(e.Err.Error(), "tls: ")
	}
	return ""
}

// exchangeError says why there is no status on a connection that was made; limit is what the exchange had of time.
func exchangeError(err error, limit time.Duration) *Error {
	if isTimeout(err) {
		return &Error{Timeout, "no answer within " + brief(limit)}
	}
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &Error{Connection, "connection reset before the response was complete"}
	case isBroken(err):
		return &Error{Connection, "connection closed before the response was complete"}
	}
	if remoteAlert(err) != "" {
		return handshakeError(err, limit) // TLS 1.3 servers refuse a client after its handshake
	}
	return &Error{Connection, "connection broken"}
}

// blocked is an egress refusal as an error of this package.
func blocked(err error) *Error {
	if d, ok := errors.AsType[*egress.Denied](err); ok {
		return &Error{Blocked, d.Reason}
	}
	return &Error{Blocked, "the destination is denied"}
}

// brief is a duration as people write it: 10s, not 9.9987s.
func brief(d time.Duration) string {
	if d >= time.Second {
		return d.Round(time.Second / 10).String()
	}
	return d.Round(time.Millisecond).String()
}
