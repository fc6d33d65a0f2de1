package subscriptions

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// The keys of DESIGN.md section 5.
const (
	accountPrefix = "fanout:account:"
	changesKey    = "fanout:changes"
	changesLength = 100_000
)

// The socket's time-outs: a Redis that hangs is noticed soon, so that its return is too.
const (
	dialTimeout  = time.Second
	readTimeout  = 3 * time.Second // a pipeline of accounts
	blockTimeout = time.Second     // how long one XREAD waits for a change
	grace        = time.Second     // past blockTimeout, until XREAD counts as hanging
)

//nolint:gochecknoglobals // go-redis logs to stderr through a global of its own
var quiet = sync.OnceFunc(logging.Disable)

// newClient connects lazily: it succeeds without a Redis.
func newClient(cfg *Config, retries int) (redis.UniversalClient, error) {
	quiet()
	t, err := cfg.target()
	if err != nil {
		return nil, err
	}
	opt := &redis.UniversalOptions{
		Addrs: t.addrs, DB: t.db, MasterName: t.master, IsClusterMode: t.kind == "cluster",
		Username: t.username, Password: t.password,
		SentinelUsername: cfg.SentinelUsername, SentinelPassword: cfg.SentinelPassword,
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRetries:               retries,
		DialTimeout:              dialTimeout, DialerRetries: 1,
		ReadTimeout: readTimeout, WriteTimeout: readTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              8,
	}
	if t.kind == "unix" {
		opt.Dialer = func(ctx context.Context, _, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", addr)
		}
	}
	if cfg.Username != "" {
		opt.Username = cfg.Username
	}
	if cfg.Password != "" {
		opt.Password = cfg.Password
	}
	if cfg.PasswordFile != "" {
		username := opt.Username
		opt.CredentialsProviderContext = func(context.Context) (string, string, error) {
			data, err := os.ReadFile(cfg.PasswordFile)
			return username, strings.TrimSpace(string(data)), err
		}
	}
	if t.secure {
		if opt.TLSConfig, err = cfg.TLS.client(); err != nil {
			return nil, err
		}
	}
	return redis.NewUniversalClient(opt), nil
}

func (c *TLSConfig) client() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("redis.tls.ca_file: holds no certificate")
		}
	}
	if c.CertFile != "" {
		certFile, keyFile := c.CertFile, c.KeyFile
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(certFile, keyFile)
			return &cert, err
		}
	}
	return conf, nil
}

// describe says what went wrong without naming an address or quoting a credential.
func describe(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return "look up redis: " + dns.Err
	}
	if err, ok := errors.AsType[net.Error](err); ok && err.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "redis does not answer in time"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + " redis: " + op.Err.Error()
	}
	if reply, ok := errors.AsType[redis.Error](err); ok {
		return "redis: " + cut(reply.Error(), 200)
	}
	return "redis: " + cut(err.Error(), 200)
}
