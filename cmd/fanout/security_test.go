package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"fanout/cmd/internal/lab"
	"fanout/topic"
)

func writeFile(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// connects says whether the cluster answers over new connections.
func connects(t *testing.T, cfg topic.KafkaConfig) error {
	t.Helper()
	a, err := topic.NewCluster(topic.Config{Kafka: cfg})
	if err != nil {
		return err
	}
	defer a.Close()
	_, err = a.Sizes(t.Context())
	return err
}

// turns waits until the same Admin meets what it is asked for: kafka-go asks again after a second only.
func turns(t *testing.T, a *topic.Cluster, to func(counts map[string]int, err error) bool) {
	t.Helper()
	until(t, func() (bool, string) {
		counts, err := a.Sizes(t.Context())
		return to(counts, err), fmt.Sprint(counts, err)
	})
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v\nwant it to name %q", err, part)
		}
	}
}

func certificate(t *testing.T) (*lab.Certificate, tls.Certificate) {
	t.Helper()
	c, err := lab.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return c, pair
}

// Certificates and authorities are read at each connection: a rotated file counts without a new Admin.
func TestTLSFilesRotate(t *testing.T) {
	t.Parallel()
	broker, pair := certificate(t)
	client, _ := certificate(t)
	other, _ := certificate(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "email"), kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: client.Client().RootCAs, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cfg := topic.KafkaConfig{Brokers: cluster.ListenAddrs(), TLS: topic.TLSConfig{Enabled: true, CAFile: ca, CertFile: cert, KeyFile: key}}

	wantError(t, connects(t, cfg), "kafka.tls.ca_file", ca)
	writeFile(t, ca, []byte("no certificate"))
	wantError(t, connects(t, cfg), "kafka.tls.ca_file", ca, "PEM")
	writeFile(t, ca, other.CertPEM)
	writeFile(t, cert, other.CertPEM)
	writeFile(t, key, client.KeyPEM)
	wantError(t, connects(t, cfg), "kafka.tls.cert_file", cert, "key_file "+key)
	writeFile(t, key, other.KeyPEM)

	a, err := topic.NewCluster(topic.Config{Kafka: cfg})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	_, err = a.Sizes(t.Context())
	wantError(t, err, "kafka.tls.ca_file", ca, "authority")
	writeFile(t, ca, broker.CertPEM)
	turns(t, a, func(_ map[string]int, err error) bool {
		return err != nil && strings.Contains(err.Error(), "remote error")
	})
	writeFile(t, cert, client.CertPEM)
	writeFile(t, key, client.KeyPEM)
	turns(t, a, func(counts map[string]int, err error) bool { return err == nil && counts["email"] == 1 })

	anonymous := cfg
	anonymous.TLS.CertFile, anonymous.TLS.KeyFile = "", ""
	wantError(t, connects(t, anonymous), "kafka.tls.cert_file")
	misnamed := cfg
	misnamed.TLS.ServerName = "kafka.example.com"
	wantError(t, connects(t, misnamed), "kafka.tls.server_name", "kafka.example.com")
	plain := cfg
	plain.TLS = topic.TLSConfig{}
	wantError(t, connects(t, plain), "kafka.tls.enabled", "speaks TLS", cluster.ListenAddrs()[0])
	stranger := cfg
	stranger.TLS.CAFile = ""
	wantError(t, connects(t, stranger), "kafka.tls.ca_file", "system's roots")
}

func TestPlainBrokerWithTLS(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	// A broker takes the first bytes of a handshake for the length of a request, and closes the connection.
	wantError(t, connects(t, topic.KafkaConfig{Brokers: cluster.ListenAddrs(), TLS: topic.TLSConfig{Enabled: true}}), "kafka.tls.enabled", "turn TLS off")
}

func TestPasswordFileRotates(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "email"), kfake.EnableSASL(), kfake.Superuser(mechanism, "fanout", "second"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		file := filepath.Join(t.TempDir(), "password")
		cfg := topic.KafkaConfig{Brokers: cluster.ListenAddrs(), SASL: topic.SASLConfig{Mechanism: mechanism, Username: "fanout", PasswordFile: file}}
		wantError(t, connects(t, cfg), "kafka.sasl.password_file", file)
		writeFile(t, file, []byte("\n"))
		wantError(t, connects(t, cfg), "kafka.sasl.password_file", file, "empty")
		writeFile(t, file, []byte("first-secret\n"))
		a, err := topic.NewCluster(topic.Config{Kafka: cfg})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		// The embedded broker hangs up on a wrong password; Apache Kafka says so.
		if _, err = a.Sizes(t.Context()); err == nil || strings.Contains(err.Error(), "first-secret") {
			t.Errorf("%s with a wrong password: %v", mechanism, err)
		}
		writeFile(t, file, []byte("second\n"))
		turns(t, a, func(counts map[string]int, err error) bool { return err == nil && counts["email"] == 1 })
	}
}
