package consumer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// security turns the configuration into what dialer and transport take (FACTS.md 14: both need it).
func security(cfg *KafkaConfig) (*tls.Config, sasl.Mechanism, error) {
	t, err := cfg.TLS.config()
	if err != nil {
		return nil, nil, err
	}
	if cfg.SASL.Mechanism == "" {
		return t, nil, nil
	}
	m := &mechanism{cfg: cfg.SASL}
	if _, err := m.current(); err != nil {
		return nil, nil, err
	}
	return t, m, nil
}

func (c *TLSConfig) config() (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil //nolint:nilnil // no TLS is a valid configuration
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify} //nolint:gosec // the operator's own choice
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca_file: %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("kafka.tls.cert_file: %w", err)
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		// Read at each handshake: a mounted certificate is renewed without a restart.
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return t, nil
}

// mechanism signs in with the credentials as they are at that moment, so that a mounted secret may rotate.
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
			return nil, fmt.Errorf("kafka.sasl.password_file: %w", err)
		}
		password = strings.TrimRight(string(b), "\r\n")
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
