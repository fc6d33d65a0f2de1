package post_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"fanout/dispatcher/post"
	"fanout/egress"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(t *testing.T, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func certFor(t *testing.T, a *authority, name string) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{a.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{name} })}}
}

// over plays a script behind a TLS handshake.
func over(cfg *tls.Config, play script) script {
	return func(c net.Conn, n int) {
		s := tls.Server(c, cfg)
		if s.Handshake() == nil {
			play(s, n)
		}
	}
}

func (s *server) tlsTarget() *egress.Target {
	t := s.target()
	t.TLS = true
	return t
}

// hostileTLSServers are what can go wrong between TCP and HTTP, with the authority that is trusted.
func hostileTLSServers(t *testing.T) (good *authority, tests []hostile) {
	t.Helper()
	good, stranger := newAuthority(t), newAuthority(t)
	cert := good.issue(t, nil)
	with := func(cert tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{cert}} }
	return good, []hostile{
		{name: "fine", play: over(with(cert), answers(ok2)), status: 200},
		{name: "TLS 1.2", play: over(&tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}, answers(ok2)), status: 200},
		{name: "closed without close_notify", play: func(c net.Conn, n int) {
			over(with(cert), func(s net.Conn, _ int) {
				read(bufio.NewReader(s))
				io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\nhi")
				c.Close()
			})(c, n)
		}, status: 200},
		{name: "no common ALPN", play: over(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"x"}}, answers(ok2)), kind: post.TLS, detail: "refused"},
		{name: "expired", play: over(with(good.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })), answers(ok2)), kind: post.TLS, detail: "expired"},
		{name: "wrong host", play: over(with(good.issue(t, func(c *x509.Certificate) { c.IPAddresses = nil; c.DNSNames = []string{"other.test"} })), answers(ok2)), kind: post.TLS, detail: "not for this host"},
		{name: "no server certificate", play: over(with(good.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })), answers(ok2)), kind: post.TLS, detail: "not valid"},
		{name: "unknown authority", play: over(with(stranger.issue(t, nil)), answers(ok2)), kind: post.TLS, detail: "unknown authority"},
		{name: "TLS 1.1", play: over(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, answers(ok2)), kind: post.TLS, detail: "refused"},
		{name: "TLS 1.0", play: over(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, answers(ok2)), kind: post.TLS, detail: "refused"},
		{name: "no cipher suite in common", play: over(&tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}, answers(ok2)), kind: post.TLS, detail: "refused"},
		{name: "not yet valid", play: over(with(good.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })), answers(ok2)), kind: post.TLS, detail: "not yet valid"},
		{name: "renegotiation before the answer", play: renegotiate(cert, ""), kind: post.Connection},
		{name: "renegotiation after the header", play: renegotiate(cert, ok2), status: 200},
		{name: "wants a client certificate", play: over(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert}, answers(ok2)), kind: post.TLS, detail: "certificate required"},
		{name: "HTTP instead", play: func(c net.Conn, _ int) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); io.Copy(io.Discard, c) }, kind: post.TLS, detail: "does not speak TLS"},
		{name: "garbage instead", play: func(c net.Conn, _ int) {
			io.WriteString(c, "\x16\x03\x03\x00\x04\xff\xff\xff\xff")
			io.Copy(io.Discard, c)
		}, kind: post.TLS},
		{name: "closes instead", play: func(c net.Conn, _ int) { io.CopyN(io.Discard, c, 10) }, kind: post.TLS, detail: "handshake"},
		{name: "never finishes the handshake", play: func(c net.Conn, _ int) { io.Copy(io.Discard, c) }, kind: post.Timeout, detail: "TLS handshake not finished within 500ms"},
		{name: "never answers", play: over(with(cert), stall("")), kind: post.Timeout, detail: "no answer within "},
		{name: "drips headers", play: over(with(cert), drip("HTTP/1.1 200 OK\r\n", "A: b\r\n")), kind: post.Timeout},
		{name: "one byte a record", play: over(with(cert), func(c net.Conn, _ int) {
			read(bufio.NewReader(c))
			for i := range len(ok2) {
				io.WriteString(c, ok2[i:i+1])
			}
		}), status: 200},
		{name: "garbage in a record", play: func(c net.Conn, n int) {
			over(with(cert), func(s net.Conn, _ int) {
				read(bufio.NewReader(s))
				io.WriteString(c, "\x17\x03\x03\x00\x20"+payload[:32])
				io.Copy(io.Discard, c)
			})(c, n)
		}, kind: post.Connection},
	}
}

// TestHostileTLS plays what can go wrong between TCP and HTTP.
func TestHostileTLS(t *testing.T) {
	good, tests := hostileTLSServers(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tt.play)
			c := client(t, post.Config{RootCAs: good.pool, ConnectTimeout: 500 * time.Millisecond})
			resp, err := doBody(c, s.tlsTarget(), []byte(payload), 900*time.Millisecond)
			if tt.status == 0 {
				wantKind(t, err, tt.kind, tt.detail)
			} else if err != nil || resp.Status != tt.status || string(resp.Body) != "hi" {
				t.Fatalf("got %d %q, %v", resp.Status, resp.Body, err)
			}
		})
	}
}

// TestTLSReuse says that a kept TLS connection is used again, and that what is left of a response, also inside
// crypto/tls, or a close_notify, is not taken for the next response.
func TestTLSReuse(t *testing.T) {
	ca := newAuthority(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	fill := make([]byte, 4096)
	for i := range fill {
		fill[i] = 'z'
	}
	tests := []struct {
		name  string
		first func(c net.Conn)
		conns int32
	}{
		{"fine", func(c net.Conn) { io.WriteString(c, ok2) }, 1},
		// Exactly one block of response, so that the rest of the record stays within crypto/tls.
		{"the rest of a record", func(c net.Conn) {
			head := "HTTP/1.1 200 OK\r\nContent-Length: 4055\r\n\r\n"
			io.WriteString(c, head+string(fill[:4055])+"HTTP/1.1 299 Poison\r\nContent-Length: 0\r\n\r\n")
		}, 2},
		{"closed", func(c net.Conn) { io.WriteString(c, ok2); c.Close() }, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sent := make(chan struct{}, 3)
			s := serve(t, over(cfg, func(c net.Conn, n int) {
				for r, i := bufio.NewReader(c), 1; ; i++ {
					if _, ok := read(r); !ok {
						return
					}
					if n == 1 && i == 1 {
						tt.first(c)
					} else {
						io.WriteString(c, ok2)
					}
					sent <- struct{}{}
				}
			}))
			c := client(t, post.Config{RootCAs: ca.pool})
			for range 3 {
				resp, err := do(c, s.tlsTarget())
				if err != nil || resp.Status != 200 {
					t.Fatalf("got %d, %v", resp.Status, err)
				}
				<-sent
			}
			if n := s.accepted.Load(); n != tt.conns {
				t.Errorf("%d connections, want %d", n, tt.conns)
			}
		})
	}
}

// TestTLSResumes says that a second connection resumes the first one's session.
func TestTLSResumes(t *testing.T) {
	ca := newAuthority(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	resumed := make(chan bool, 2)
	s := serve(t, over(cfg, func(c net.Conn, n int) {
		resumed <- c.(*tls.Conn).ConnectionState().DidResume
		answer("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")(c, n)
	}))
	c := client(t, post.Config{RootCAs: ca.pool})
	for i := range 2 {
		if _, err := do(c, s.tlsTarget()); err != nil {
			t.Fatal(err)
		}
		if got := <-resumed; got != (i == 1) {
			t.Errorf("connection %d: resumed %v", i, got)
		}
	}
}
