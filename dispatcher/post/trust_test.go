package post_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fanout/dispatcher/post"
	"fanout/dispatcher/reach"
)

// below is an authority that another one vouches for.
func (a *authority) below(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}

// selfSigned is a server's certificate that vouches for itself.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	a := &authority{}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.key = key
	template := &x509.Certificate{
		SerialNumber: big.NewInt(4), Subject: pkix.Name{CommonName: "hook"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTLSFailures says which of the ways in which TLS fails it was.
func TestTLSFailures(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	middle := ca.below(t, "Middle CA R1")
	strangeMiddle := stranger.below(t, "Strange CA R1")
	server := func(cert tls.Certificate, more ...*x509.Certificate) *tls.Config {
		for _, c := range more {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
		return &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	withURL := func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example/r1.der"} }
	wanting := server(ca.issue(t, nil))
	wanting.ClientAuth, wanting.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
	wanting13 := server(ca.issue(t, nil))
	wanting13.ClientAuth = tls.RequireAnyClientCert
	for _, tt := range []struct {
		name   string
		config *tls.Config
		detail string // empty: it works
	}{
		{"whole chain", server(middle.issue(t, nil), middle.cert), ""},
		{"unknown authority", server(stranger.issue(t, nil), stranger.cert), `signed by an unknown authority, "CN=test"; trust it with egress.ca_file`},
		{"unknown authority, with an intermediate", server(strangeMiddle.issue(t, nil), strangeMiddle.cert, stranger.cert), `signed by an unknown authority, "CN=test"`},
		{"incomplete chain", server(middle.issue(t, withURL)), `chain is incomplete: the server does not send the certificate of "CN=Middle CA R1"`},
		{"incomplete chain or unknown authority", server(middle.issue(t, nil)), `signed by an unknown authority, "CN=Middle CA R1": trust it with egress.ca_file; or the chain is incomplete`},
		{"self-signed", server(selfSigned(t)), "certificate is self-signed"},
		{"expired", server(ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })), "has expired, on 20"},
		{"not yet valid", server(ca.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })), "not yet valid: not before 20"},
		{"other names", server(ca.issue(t, func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = nil, []string{"a.test", "b.test", "c.test", "d.test"}
		})), `not for this host name, but for "a.test", "b.test", "c.test" and 1 more`},
		{"no names", server(ca.issue(t, func(c *x509.Certificate) { c.IPAddresses = nil })), "not for this host name"},
		{"client certificate wanted, TLS 1.2", wanting, "asks for a client certificate (egress.client_cert_file) and refused the handshake: "},
		{"client certificate wanted, TLS 1.3", wanting13, "asks for a client certificate (egress.client_cert_file) and refused the handshake: certificate required"},
		{"refused", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, NextProtos: []string{"x"}}, "refused the handshake: no application protocol"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, over(tt.config, answers(ok2)))
			resp, err := do(client(t, post.Config{RootCAs: ca.pool}), s.tlsTarget())
			if tt.detail == "" {
				if err != nil || resp.Status != 200 {
					t.Errorf("got %d, %v", resp.Status, err)
				}
				return
			}
			wantKind(t, err, post.TLS, tt.detail)
			wantCause(t, err, reach.Receiver)
			if strings.ContainsAny(err.Error(), "\r\n\x00") || len(err.Error()) > 400 {
				t.Errorf("%q", err)
			}
		})
	}
	t.Run("no roots here", func(t *testing.T) {
		s := serve(t, over(server(ca.issue(t, nil)), answers(ok2)))
		_, err := do(client(t, post.Config{RootCAs: x509.NewCertPool()}), s.tlsTarget())
		wantKind(t, err, post.TLS, "there are no CA roots here")
		wantCause(t, err, reach.System)
	})
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeCert writes a certificate and its key.
func writeCert(t *testing.T, dir, name string, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", cert.Certificate[0])
	writePEM(t, keyFile, "PRIVATE KEY", key)
	return certFile, keyFile
}

// TestFiles says that the roots of a file are trusted beside the system's, that a certificate is shown to who asks for
// one, and that both follow their files.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	ca, next, clients := newAuthority(t), newAuthority(t), newAuthority(t)
	roots := filepath.Join(dir, "roots.pem")
	writePEM(t, roots, "CERTIFICATE", ca.cert.Raw)
	certFile, keyFile := writeCert(t, dir, "client", clients.issue(t, func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtKeyUsage = "first", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}))
	shown := make(chan string, 4)
	receiver := func(ca *authority) *server {
		cfg := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.pool}
		return serve(t, over(cfg, func(c net.Conn, n int) {
			shown <- c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
			answer(okClose)(c, n)
		}))
	}
	old, fresh := receiver(ca), receiver(next)
	c := client(t, post.Config{Files: post.Files{CA: roots, Cert: certFile, Key: keyFile}})
	if _, err := do(c, old.tlsTarget()); err != nil || <-shown != "first" {
		t.Fatal(err)
	}
	_, err := do(c, fresh.tlsTarget())
	wantKind(t, err, post.TLS, "unknown authority")

	writeCert(t, dir, "client", clients.issue(t, func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtKeyUsage = "second", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}))
	writePEM(t, roots, "CERTIFICATE", next.cert.Raw)
	c.RereadFiles()
	if _, err := do(c, fresh.tlsTarget()); err != nil || <-shown != "second" {
		t.Fatal(err)
	}
	_, err = do(c, old.tlsTarget())
	wantKind(t, err, post.TLS, "unknown authority")

	if err := os.WriteFile(roots, []byte("half wri"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.RereadFiles()
	if _, err := do(c, fresh.tlsTarget()); err != nil || <-shown != "second" {
		t.Fatal("a file that cannot be read has been taken for none:", err)
	}
}

// TestFilesMissing says that what is wrong with the files is said at the start, by their keys.
func TestFilesMissing(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, files := range map[string]post.Files{
		"egress.ca_file: open ": {CA: filepath.Join(dir, "none.pem")},
		fmt.Sprintf("egress.ca_file: %s holds no certificate", empty): {CA: empty},
		"egress.client_cert_file: ":                                   {Cert: empty, Key: empty},
	} {
		if err := files.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", files, err)
		}
		if c, err := post.New(post.Config{Egress: open(t), Files: files}); err == nil {
			c.Close()
			t.Errorf("%+v: a client", files)
		}
	}
}

// TestSystemRoots says that roots which come later are found, although crypto/x509 looks for them once.
func TestSystemRoots(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "roots.pem")
	t.Setenv("SSL_CERT_FILE", file)
	t.Setenv("SSL_CERT_DIR", filepath.Join(dir, "none"))
	if post.LateRoots() {
		t.Error("roots in a file that is not there")
	}
	writePEM(t, file, "CERTIFICATE", newAuthority(t).cert.Raw)
	if !post.LateRoots() {
		t.Error("none in a file that is")
	}
}
