package consumer

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

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// dialFunc opens a connection to a broker, over TLS where that is configured.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// security turns the configuration into what dialer and transport take (FACTS.md 14: both need it). The files are read
// here, so that what is wrong with them is known at the start, and again at each connection and sign-in: mounted secrets
// rotate without a restart. kafka-go's own TLS takes one configuration for ever, so that connections are made here.
func security(cfg *KafkaConfig) (dialFunc, sasl.Mechanism, error) {
	dial := dialFunc((&net.Dialer{Timeout: 3 * time.Second}).DialContext)
	if cfg.TLS.Enabled {
		if _, err := cfg.TLS.config(); err != nil {
			return nil, nil, err
		}
		dial = cfg.TLS.over(dial)
	}
	if cfg.SASL.Mechanism == "" {
		return dial, nil, nil
	}
	m := &mechanism{cfg: cfg.SASL}
	if _, err := m.current(); err != nil {
		return nil, nil, err
	}
	return dial, m, nil
}

// over speaks TLS over the connections that dial opens.
func (c *TLSConfig) over(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		t, err := c.config()
		if err != nil {
			return nil, err
		}
		if t.ServerName == "" {
			if t.ServerName, _, err = net.SplitHostPort(address); err != nil {
				return nil, err
			}
		}
		plain, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		conn := tls.Client(plain, t)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = plain.Close()
			return nil, c.explain(address, err)
		}
		return conn, nil
	}
}

// explain says of a failed handshake which key to look at.
func (c *TLSConfig) explain(address string, err error) error {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if c.CAFile == "" {
			return fmt.Errorf("kafka.tls.ca_file: %s: %w: the system's roots do not know its authority; name a PEM file that does", address, err)
		}
		return fmt.Errorf("kafka.tls.ca_file: %s: %w: %s does not hold the authority of its certificate", address, err, c.CAFile)
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("kafka.tls.server_name: %s: %w: set it to a name of that certificate", address, err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("kafka.tls.enabled: %s: %w: that listener speaks no TLS; use another port, or turn TLS off", address, err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" && c.CertFile == "" { // with TLS 1.3 it is the first answer that fails
		return fmt.Errorf("kafka.tls.cert_file: %s: %w: the broker may want a client certificate", address, err)
	}
	return fmt.Errorf("kafka.tls: %s: %w", address, err)
}

// config is the files as they are now.
func (c *TLSConfig) config() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify} //nolint:gosec // the operator's own choice
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca_file: %w: name a PEM file that fanout may read", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca_file: %s holds no certificate: want PEM, -----BEGIN CERTIFICATE-----", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.cert_file: %s with key_file %s: %w: want PEM, a certificate and its own key without a passphrase", c.CertFile, c.KeyFile, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// mechanism signs in with the credentials as they are at that moment.
type mechanism struct{ cfg SASLConfig }

// Name implements sasl.Mechanism.
func (m *mechanism) Name() string { return m.cfg.Mechanism }

// Start implements sasl.Mechanism.
func (m *mechanism) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	now, err := m.current()
	if err != nil {
		return nil, nil, err
	}
	return now.Start(ctx)
}

func (m *mechanism) current() (sasl.Mechanism, error) {
	password := m.cfg.Password
	if m.cfg.PasswordFile != "" {
		b, err := os.ReadFile(m.cfg.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.sasl.password_file: %w: name a file that fanout may read", err)
		}
		if password = strings.TrimRight(string(b), "\r\n"); password == "" {
			return nil, fmt.Errorf("kafka.sasl.password_file: %s is empty: write the password into it", m.cfg.PasswordFile)
		}
	}
	switch m.cfg.Mechanism {
	case "PLAIN":
		return plain.Mechanism{Username: m.cfg.Username, Password: password}, nil
	case "SCRAM-SHA-256":
		return scram.Mechanism(scram.SHA256, m.cfg.Username, password)
	case "SCRAM-SHA-512":
		return scram.Mechanism(scram.SHA512, m.cfg.Username, password)
	}
	return nil, errors.New("kafka.sasl.mechanism: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
}

// explain says of an error that comes from signing in which key to look at; others it leaves alone.
func (c *SASLConfig) explain(err error) error {
	switch {
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		from := "kafka.sasl.password"
		if c.PasswordFile != "" {
			from = "kafka.sasl.password_file (" + c.PasswordFile + ")"
		}
		return fmt.Errorf("kafka.sasl: the broker refuses user %s with %s: compare kafka.sasl.username and %s with what the broker knows: %w", c.Username, c.Mechanism, from, err)
	case errors.Is(err, kafka.UnsupportedSASLMechanism):
		return fmt.Errorf("kafka.sasl.mechanism: that listener does not offer %s: use one of its sasl.enabled.mechanisms: %w", c.Mechanism, err)
	}
	return err
}
