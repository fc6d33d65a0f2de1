package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"fanout/credential"
)

// Config is the section `schema_registry` of the configuration.
type Config struct {
	URL          string        `mapstructure:"url"`           // base URL, as in http://127.0.0.1:8081; sources of format confluent need it
	Username     string        `mapstructure:"username"`      // of HTTP basic authentication; Confluent Cloud calls it the API key
	Password     string        `mapstructure:"password"`      // of HTTP basic authentication
	PasswordFile string        `mapstructure:"password_file"` // instead of password: a mounted secret, read at each request
	CAFile       string        `mapstructure:"ca_file"`       // PEM, read at each connection; empty means the system's roots
	Timeout      time.Duration `mapstructure:"timeout"`       // of one request; default 5s
}

const defaultTimeout = 5 * time.Second

// Validate reports every problem, each of which begins with its key. It never quotes the URL, which may hold a password.
func (c *Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("schema_registry."+format, args...))
	}
	if c.URL == "" {
		if c.Username != "" || c.Password != "" || c.PasswordFile != "" || c.CAFile != "" {
			bad("url: other keys of schema_registry are given and no url: set it, as in http://127.0.0.1:8081, or remove them")
		}
	} else {
		u, err := url.Parse(c.URL)
		switch {
		case err != nil:
			bad("url: is not a URL: want one such as http://127.0.0.1:8081") // the parser's own error quotes it
		case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			bad("url: want http:// or https:// with a host, as in http://127.0.0.1:8081")
		case u.User != nil:
			bad("url: has a user name in it: set schema_registry.username and password_file instead")
		case u.RawQuery != "" || u.Fragment != "":
			bad("url: want the base URL alone, without ? and #")
		}
	}
	if c.Password != "" && c.PasswordFile != "" {
		bad("password: password_file is set too, want one of them")
	}
	if (c.Username == "") != (c.Password == "" && c.PasswordFile == "") {
		bad("username: want a user name with a password or password_file, or neither")
	}
	if _, err := c.password(); err != nil {
		problems = append(problems, err)
	}
	if _, err := c.tls(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func (c *Config) password() (string, error) {
	if c.PasswordFile == "" {
		return c.Password, nil
	}
	return credential.Secret("schema_registry.password_file", c.PasswordFile, "password")
}

func (c *Config) tls() (*tls.Config, error) {
	files := credential.TLS{Section: "schema_registry", CAFile: c.CAFile}
	return files.Config()
}

// maxAnswer bounds what is read of an answer of the registry, and so the text of one schema.
const maxAnswer = 1 << 20

// connect makes a client that reads the files again when it uses them: mounted secrets rotate without a restart. It
// follows no redirect, which could carry the password elsewhere, and uses no proxy of the environment.
func (c *Config) connect() (*sr.Client, *http.Client, error) {
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	client := &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: limited{&http.Transport{
			MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
			DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				t, err := c.tls()
				if err != nil {
					return nil, err
				}
				return (&tls.Dialer{Config: t}).DialContext(ctx, network, address)
			},
		}},
	}
	speaker, err := sr.NewClient(sr.URLs(c.URL), sr.HTTPClient(client), sr.UserAgent("fanout"), sr.PreReq(func(req *http.Request) error {
		if c.Username == "" {
			return nil
		}
		password, err := c.password()
		if err == nil {
			req.SetBasicAuth(c.Username, password)
		}
		return err
	}))
	return speaker, client, err
}

// limited bounds the answers of another transport.
type limited struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := l.Transport.RoundTrip(req)
	if err == nil {
		res.Body = &limitedBody{body: res.Body, left: maxAnswer}
	}
	return res, err
}

var errTooLarge = fmt.Errorf("the registry's answer has more than %d bytes", maxAnswer)

type limitedBody struct {
	body io.ReadCloser
	left int
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// Close implements io.Closer.
func (b *limitedBody) Close() error { return b.body.Close() }

// explain says of an error which key to look at.
func (c *Config) explain(err error) error {
	if answer, ok := errors.AsType[*sr.ResponseError](err); ok {
		said := strings.ToValidUTF8(fmt.Sprintf("%.200s", answer.Error()), "?")
		switch code := answer.StatusCode; {
		case code == http.StatusUnauthorized || code == http.StatusForbidden:
			return fmt.Errorf("it refuses user %q with status %d (%q): compare schema_registry.username and password with what it knows", c.Username, code, said)
		case code < 500 && code != http.StatusTooManyRequests:
			return fmt.Errorf("status %d (%q): does schema_registry.url name a schema registry?", code, said)
		default:
			return fmt.Errorf("status %d (%q)", code, said)
		}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w: name a PEM file with its authority in schema_registry.ca_file", err)
	}
	return err
}
