package lab

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
	"time"
)

// Certificate is a certificate for 127.0.0.1 and localhost, good for a day. It is its own authority unless another has
// issued it.
type Certificate struct {
	CertPEM, KeyPEM []byte // the key as PKCS #8
}

// NewCertificate makes a certificate with a new P-256 key.
func NewCertificate() (*Certificate, error) {
	return newCertificate("localhost", net.IPv4(127, 0, 0, 1), nil)
}

// Issue makes a certificate for the same addresses, with that common name and a new key, of which c is the authority.
func (c *Certificate) Issue(commonName string) (*Certificate, error) {
	return newCertificate(commonName, net.IPv4(127, 0, 0, 1), c)
}

// IssueFor is Issue for an address, which is its common name.
func (c *Certificate) IssueFor(ip net.IP) (*Certificate, error) {
	return newCertificate(ip.String(), ip, c)
}

func newCertificate(commonName string, ip net.IP, authority *Certificate) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{ip},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	parent, signer := template, any(key)
	if authority != nil {
		template.KeyUsage, template.IsCA = x509.KeyUsageDigitalSignature, false
		pair, err := tls.X509KeyPair(authority.CertPEM, authority.KeyPEM)
		if err != nil {
			return nil, fmt.Errorf("read the authority: %w", err)
		}
		parent, signer = pair.Leaf, pair.PrivateKey
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return &Certificate{
		CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}

// Client is the configuration of a TLS client that trusts this certificate only.
func (c *Certificate) Client() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CertPEM)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
