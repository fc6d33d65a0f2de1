package topic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"fanout/credential"
)

// DialFunc opens a connection to a broker.
type DialFunc = credential.Dial

// security turns the configuration into what a transport takes. The files are read here, so that what is wrong with them is known
// at the start, and again at each connection and sign-in: mounted secrets rotate without a restart. kafka-go's own TLS takes one
// configuration for ever, so connections are made here. A nil dial is the operating system's.
func security(cfg *KafkaConfig, dial DialFunc) (DialFunc, sasl.Mechanism, error) {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 3 * time.Second}).DialContext
	}
	dial = cfg.advertised(dial)
	if cfg.TLS.Enabled {
		t := cfg.TLS.files()
		if _, err := t.Config(); err != nil {
			return nil, nil, err
		}
		dial = t.Over(dial, 0, cfg.TLS.explain)
	}
	dial = cfg.listen(dial)
	if cfg.SASL.Mechanism == "" {
		return dial, nil, nil
	}
	m := &mechanism{cfg: cfg.SASL}
	if _, err := m.current(); err != nil {
		return nil, nil, err
	}
	return dial, m, nil
}

// listen explains the ways in which a broker of another kind than configured hangs up: it says nothing more itself.
func (c *KafkaConfig) listen(dial DialFunc) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &listening{Conn: conn, cfg: c, address: address}, nil
	}
}

// listening is a connection whose first answers are looked at. One goroutine reads it; another may write.
type listening struct {
	net.Conn

	cfg      *KafkaConfig
	address  string
	requests atomic.Int32
	answered bool
	refused  error
}

// Write implements net.Conn. kafka-go writes a request at once, unless it is a long one.
func (l *listening) Write(b []byte) (int, error) {
	l.requests.Add(1)
	return l.Conn.Write(b)
}

// Read implements net.Conn.
func (l *listening) Read(b []byte) (int, error) {
	if l.refused != nil {
		return 0, l.refused
	}
	n, err := l.Conn.Read(b)
	if !l.answered && n > 0 {
		l.answered = true
		// A record of TLS: an alert (21) and its version. As the length of an answer it would be 352 MB.
		if !l.cfg.TLS.Enabled && n > 1 && b[0] == 21 && b[1] == 3 {
			l.refused = fmt.Errorf("kafka.tls.enabled: %s speaks TLS: set it to true, or use another port", l.address)
			return 0, l.refused
		}
	}
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
	switch {
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed):
	case !l.answered && l.cfg.TLS.Enabled:
		err = l.cfg.TLS.explain(l.address, err) // with TLS 1.3 the broker judges the client's certificate now
	// Of an io.EOF that is wrapped kafka-go keeps nothing but an io.ErrUnexpectedEOF.
	case !l.answered && hungUp:
		err = &hungUpError{fmt.Sprintf("kafka.tls.enabled: %s hung up on the first request: set it to true if that listener speaks TLS", l.address)}
	case l.cfg.SASL.Mechanism == "" && hungUp && l.requests.Load() <= 2:
		err = &hungUpError{fmt.Sprintf("kafka.sasl.mechanism: %s hung up on the second request: set it if that listener asks for SASL", l.address)}
	}
	return n, err
}

// hungUpError is an io.EOF with what it may mean.
type hungUpError struct{ text string }

func (e *hungUpError) Error() string { return e.text }

// HungUp says whether the error means that the broker has closed the connection.
func HungUp(err error) bool {
	if _, ok := errors.AsType[*hungUpError](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// AdvertisedError says that a broker cannot be reached at the name that it gives itself. Clients use the configured brokers only to ask
// for those names.
type AdvertisedError struct {
	Address string
	Err     error
}

// Error implements error.
func (e *AdvertisedError) Error() string { return e.Found() + ": " + e.Remedy() }

// Found is what is wrong.
func (e *AdvertisedError) Found() string {
	return fmt.Sprintf("a broker advertises itself as %s, which cannot be looked up: %v", e.Address, e.Err)
}

// Remedy is what to do.
func (e *AdvertisedError) Remedy() string {
	return "set its advertised.listeners (KAFKA_ADVERTISED_LISTENERS) to a name that resolves here, or make that name resolve"
}

// Unwrap returns the resolver's error.
func (e *AdvertisedError) Unwrap() error { return e.Err }

// advertised explains why a name that only a broker has given is not found.
func (c *KafkaConfig) advertised(dial DialFunc) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if dns, ok := errors.AsType[*net.DNSError](err); ok && !slices.Contains(c.Brokers, address) {
			return nil, &AdvertisedError{address, dns}
		}
		return conn, err
	}
}

// explain says of a failed handshake which key to look at.
func (c *TLSConfig) explain(address string, err error) error {
	if untrusted := c.files().Untrusted(address, err); untrusted != nil {
		return untrusted
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("kafka.tls.enabled: %s: %w: that listener does not speak TLS; use another port, or turn TLS off", address, err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		if c.CertFile == "" {
			return fmt.Errorf("kafka.tls.cert_file: %s: %w: the broker may want a client certificate; name it and its key_file", address, err)
		}
		return fmt.Errorf("kafka.tls.cert_file: %s: %w: the broker refuses %s: compare its authority and dates with what the broker trusts", address, err, c.CertFile)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("kafka.tls.enabled: %s: %w in the handshake: that listener may speak no TLS: use another port, or turn TLS off", address, err)
	}
	return fmt.Errorf("kafka.tls: %s: %w", address, err)
}

func (c *TLSConfig) files() *credential.TLS {
	return &credential.TLS{
		Section: "kafka.tls", CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify,
	}
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
	if m.cfg.Mechanism == "OAUTHBEARER" {
		token, err := credential.Secret("kafka.sasl.token_file", m.cfg.TokenFile, "token")
		return bearer{token: token, file: m.cfg.TokenFile}, err
	}
	password := m.cfg.Password
	if m.cfg.PasswordFile != "" {
		var err error
		if password, err = credential.Secret("kafka.sasl.password_file", m.cfg.PasswordFile, "password"); err != nil {
			return nil, err
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
	return nil, errors.New("kafka.sasl.mechanism: use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
}

// bearer signs in with a token (RFC 7628, KIP-255).
type bearer struct{ token, file string }

// Name implements sasl.Mechanism.
func (b bearer) Name() string { return "OAUTHBEARER" }

// Start implements sasl.Mechanism.
func (b bearer) Start(context.Context) (sasl.StateMachine, []byte, error) {
	return b, []byte("n,,\x01auth=Bearer " + b.token + "\x01\x01"), nil
}

// Next implements sasl.StateMachine. A broker that refuses the token says why, as JSON without the token.
func (b bearer) Next(_ context.Context, challenge []byte) (bool, []byte, error) {
	if len(challenge) > 0 {
		return false, nil, fmt.Errorf("it says %.200q: %w", challenge, kafka.SASLAuthenticationFailed)
	}
	return true, nil, nil
}

// explain says of an error that comes from signing in which key to look at; others it leaves alone.
func (c *SASLConfig) explain(err error) error {
	switch {
	case errors.Is(err, kafka.SASLAuthenticationFailed) && c.Mechanism == "OAUTHBEARER":
		return fmt.Errorf("kafka.sasl.token_file: the broker refuses the token in %s: see whether it has expired, and what audience and scope the broker wants: %w", c.TokenFile, err)
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		from := "kafka.sasl.password"
		if c.PasswordFile != "" {
			from = "kafka.sasl.password_file (" + c.PasswordFile + ")"
		}
		return fmt.Errorf("kafka.sasl: the broker refuses user %s with %s: compare kafka.sasl.username and %s with what the broker knows: %w", c.Username, c.Mechanism, from, err)
	case errors.Is(err, kafka.UnsupportedSASLMechanism):
		return fmt.Errorf("kafka.sasl.mechanism: that listener does not offer %s: use one of its sasl.enabled.mechanisms: %w", c.Mechanism, err)
	case errors.Is(err, kafka.IllegalSASLState):
		return fmt.Errorf("kafka.sasl.mechanism: that listener asks for no SASL: use another port, or remove kafka.sasl: %w", err)
	}
	return err
}

// Needs adds to an error that an authorizer has made which right is missing; others it leaves alone.
func Needs(right string, err error) error {
	for _, denied := range []error{kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed} {
		if errors.Is(err, denied) {
			return fmt.Errorf("%w: the Kafka user needs %s: see ACLs in docs/kafka.md", err, right)
		}
	}
	return err
}
