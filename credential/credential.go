// Package credential reads what connections are made with: the PEM files of TLS, and mounted secrets.
//
// What it returns is as the files are at that moment, so that whoever asks at each connection follows a secret that rotates. Its
// errors name the key of the configuration, the file and the remedy, and never quote what a file holds. It opens no connection of
// its own, and keeps nothing.
package credential

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Error is what went wrong because of a key of the configuration, with what to do. It does not unwrap: of an error that does,
// go-redis would hand on what is inside.
type Error struct {
	Key    string
	Err    error
	Remedy string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s: %v: %s", e.Key, e.Err, e.Remedy) }

// Secret is the text of a mounted secret, such as a password, without the new line that editors and `echo` end it with.
func Secret(key, file, what string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", &Error{key, err, "name a file that fanout may read"}
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		return "", &Error{key, errors.New(file + " is empty"), "write the " + what + " into it"}
	}
	return text, nil
}

// AddRoots adds the certificates of a PEM file to the pool.
func AddRoots(pool *x509.CertPool, key, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return &Error{key, err, "name a PEM file that fanout may read"}
	}
	if !pool.AppendCertsFromPEM(data) {
		return &Error{key, errors.New(file + " holds no certificate"), "want PEM, -----BEGIN CERTIFICATE-----"}
	}
	return nil
}

// Certificate is that of a client, with its private key. The keys of the configuration end in cert_file and key_file.
func Certificate(key, certFile, keyFile string) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		private := strings.Replace(key[strings.LastIndexByte(key, '.')+1:], "cert_file", "key_file", 1)
		err = fmt.Errorf("%s with %s %s: %w", certFile, private, keyFile, err)
		return pair, &Error{key, err, "want PEM, a certificate and its own key without a passphrase"}
	}
	return pair, nil
}

// TLS is how a client speaks it, as a section of the configuration says.
type TLS struct {
	Section            string // that begins its keys, such as kafka.tls
	CAFile             string // PEM; empty means the system's roots
	CertFile, KeyFile  string // PEM, for mutual TLS; empty means none
	ServerName         string // instead of the host that is dialled
	InsecureSkipVerify bool
}

// Config is made of the files as they are now.
func (t *TLS) Config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // the operator's own choice
	if t.CAFile != "" {
		cfg.RootCAs = x509.NewCertPool()
		if err := AddRoots(cfg.RootCAs, t.Section+".ca_file", t.CAFile); err != nil {
			return nil, err
		}
	}
	if t.CertFile != "" {
		pair, err := Certificate(t.Section+".cert_file", t.CertFile, t.KeyFile)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// Dial opens a connection.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// Over speaks TLS over the connections that dial opens. A handshake takes patience at most; 0: as long as its context. explain says which key to
// look at where it fails.
func (t *TLS) Over(dial Dial, patience time.Duration, explain func(address string, err error) error) Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		cfg, err := t.Config()
		if err != nil {
			return nil, err
		}
		if cfg.ServerName == "" {
			if cfg.ServerName, _, err = net.SplitHostPort(address); err != nil {
				return nil, err
			}
		}
		plain, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if patience > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, patience)
			defer cancel()
		}
		conn := tls.Client(plain, cfg)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = plain.Close()
			return nil, explain(address, err)
		}
		return conn, nil
	}
}

// Untrusted says which key to look at where the server's certificate was refused; nil where it was not.
func (t *TLS) Untrusted(address string, err error) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		remedy := "the system's roots do not know its authority; name a PEM file that does"
		if t.CAFile != "" {
			remedy = t.CAFile + " does not hold the authority of its certificate"
		}
		return &Error{t.Section + ".ca_file", fmt.Errorf("%s: %w", address, err), remedy}
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return &Error{t.Section + ".server_name", fmt.Errorf("%s: %w", address, err), "set it to a name of that certificate"}
	}
	return nil
}
