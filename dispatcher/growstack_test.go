package dispatcher_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"fanout/dispatcher"
)

// BenchmarkTLSStack is a request written and read over TLS by a goroutine of its own, which is what the first attempt
// of a lane is: with its stack made deep at once, and left to grow.
func BenchmarkTLSStack(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
	}()
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for _, deep := range []bool{true, false} {
		name := "grown"
		if deep {
			name = "at once"
		}
		b.Run(name, func(b *testing.B) {
			done := make(chan error)
			request, answer := make([]byte, 500), make([]byte, 500)
			for b.Loop() {
				go func() {
					if deep {
						dispatcher.GrowStack()
					}
					_, err := c.Write(request)
					if err == nil {
						_, err = io.ReadFull(c, answer)
					}
					done <- err
				}()
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
