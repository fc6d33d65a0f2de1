package post

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher/reach"
)

// handshake puts TLS over a connection, and checks that the server is called name.
func (c *Client) handshake(ctx context.Context, cn *conn, name string, limit time.Duration) error {
	cn.tls = tls.Client(&cn.sock, c.tlsConfig(name, &cn.asked))
	stop := context.AfterFunc(ctx, func() { cn.Close() }) // somebody else has won, or the client is closed
	err := cn.tls.Handshake()                             //nolint:noctx // the socket's deadline, and the line above, end it
	if err == nil && stop() {
		return nil
	}
	stop()
	if err == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = context.DeadlineExceeded
	}
	return c.explainHandshake(cn.handshakeError(err, limit))
}

// explainHandshake is the error of a handshake. That a certificate does not verify is our own fault where none could.
func (c *Client) explainHandshake(e *Error) *Error {
	if e.untrusted && c.trust.noRoots() {
		return failure(TLS, "there are no CA roots here to check certificates with: install the package ca-certificates, or set egress.ca_file").causedBy(reach.System)
	}
	return e
}

// tlsConfig is the configuration of one handshake. *asked becomes true where the server asks for a certificate.
func (c *Client) tlsConfig(name string, asked *bool) *tls.Config {
	shared, cert := c.trust.current(time.Now())
	cfg := shared.Clone()
	cfg.ServerName = name
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		*asked = true
		if cert == nil {
			return &tls.Certificate{}, nil
		}
		return cert, nil
	}
	return cfg
}

// handshakeError says why a handshake failed, or why a server refused this client after it.
func (c *conn) handshakeError(err error, limit time.Duration) *Error {
	alert := remoteAlert(err)
	switch {
	case isTimeout(err):
		return failure(Timeout, "TLS handshake not finished within "+brief(limit))
	case alert != "" && c.asked:
		return failure(TLS, "the server asks for a client certificate (egress.client_cert_file) and refused the handshake: "+alert)
	case alert != "":
		return failure(TLS, "the server refused the handshake: "+alert)
	case isBroken(err):
		return failure(TLS, "connection closed during the handshake")
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return failure(TLS, "the server does not speak TLS")
	}
	return certificateError(err)
}

// remoteAlert is the alert that the server sent, in words; crypto/tls has no exported type for it.
func remoteAlert(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" {
		return strings.TrimPrefix(e.Err.Error(), "tls: ")
	}
	return ""
}

// certificateError says what is wrong with a server's certificate.
func certificateError(err error) *Error {
	chain, _ := errors.AsType[*tls.CertificateVerificationError](err)
	var sent []*x509.Certificate
	if chain != nil {
		sent = chain.UnverifiedCertificates
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return failure(TLS, invalidCertificate(e))
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return failure(TLS, "certificate is not for this host name"+itsNames(e.Certificate))
	}
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, noSystem := errors.AsType[x509.SystemRootsError](err)
	if unknown || noSystem {
		e := failure(TLS, unknownAuthority(sent))
		e.untrusted = true
		return e
	}
	return failure(TLS, "handshake failed")
}

func invalidCertificate(e x509.CertificateInvalidError) string {
	switch {
	case e.Reason != x509.Expired:
		return "certificate is not valid"
	case e.Cert != nil && time.Now().Before(e.Cert.NotBefore):
		return "certificate is not yet valid: not before " + e.Cert.NotBefore.UTC().Format(time.RFC3339) + "; or the clock here is slow"
	case e.Cert != nil:
		return "certificate has expired, on " + e.Cert.NotAfter.UTC().Format(time.RFC3339)
	}
	return "certificate has expired or is not yet valid"
}

// itsNames is the first few names of a certificate.
func itsNames(cert *x509.Certificate) string {
	const shown = 3
	if cert == nil || len(cert.DNSNames) == 0 {
		return ""
	}
	text := ", but for "
	for i, name := range cert.DNSNames {
		if i == shown {
			return text + " and " + strconv.Itoa(len(cert.DNSNames)-shown) + " more"
		}
		if i > 0 {
			text += ", "
		}
		text += quoted(name)
	}
	return text
}

// unknownAuthority tells the ways apart in which a chain ends at nobody that is trusted here. A server that leaves out an
// intermediate certificate works in browsers, which fetch it; public authorities say in their certificates from where.
func unknownAuthority(sent []*x509.Certificate) string {
	if len(sent) == 0 {
		return "certificate is signed by an unknown authority"
	}
	leaf, last := sent[0], sent[len(sent)-1]
	issuer := quoted(last.Issuer.String())
	switch {
	case isSelfSigned(leaf):
		return "certificate is self-signed: it is signed by an unknown authority, itself; trust it with egress.ca_file"
	case isSelfSigned(last):
		return "certificate is signed by an unknown authority, " + issuer + "; trust it with egress.ca_file"
	case len(last.IssuingCertificateURL) > 0:
		return "certificate chain is incomplete: the server does not send the certificate of " + issuer + ", an unknown authority"
	}
	return "certificate is signed by an unknown authority, " + issuer + ": trust it with egress.ca_file; or the chain is incomplete, and the server should send that certificate"
}

func isSelfSigned(cert *x509.Certificate) bool {
	return string(cert.RawIssuer) == string(cert.RawSubject) && cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

// quoted is text from a certificate: short, and nothing but what can be seen.
func quoted(text string) string {
	const longest = 80
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	return strconv.QuoteToGraphic(text)
}
