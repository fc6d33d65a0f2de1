package credential_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fanout/credential"
)

func write(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A secret is what the file holds, without the new line at its end.
func TestSecret(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"hunter2": "hunter2", "hunter2\n": "hunter2", "hunter2\r\n": "hunter2", " a b \n": " a b "} {
		if got, err := credential.Secret("redis.password_file", write(t, text), "password"); got != want || err != nil {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
}

// What is wrong with a file is said with its key, the file and what to do, and without what it holds.
func TestErrorsNameKeyFileAndRemedy(t *testing.T) {
	t.Parallel()
	none, empty, junk := filepath.Join(t.TempDir(), "none"), write(t, "\n"), write(t, "hunter2")
	_, noSecret := credential.Secret("kafka.sasl.token_file", none, "token")
	_, emptySecret := credential.Secret("kafka.sasl.token_file", empty, "token")
	section := credential.TLS{Section: "kafka.tls", CAFile: junk}
	_, noRoots := section.Config()
	section = credential.TLS{Section: "kafka.tls", CAFile: none}
	_, unreadable := section.Config()
	section = credential.TLS{Section: "kafka.tls", CertFile: junk, KeyFile: empty}
	_, noPair := section.Config()
	for _, c := range []struct {
		err  error
		want []string
	}{
		{noSecret, []string{"kafka.sasl.token_file: ", none, ": name a file that fanout may read"}},
		{emptySecret, []string{"kafka.sasl.token_file: " + empty + " is empty: write the token into it"}},
		{noRoots, []string{"kafka.tls.ca_file: " + junk + " holds no certificate: want PEM, "}},
		{unreadable, []string{"kafka.tls.ca_file: ", none, ": name a PEM file that fanout may read"}},
		{noPair, []string{"kafka.tls.cert_file: " + junk + " with key_file " + empty, ": want PEM, a certificate and its own key"}},
	} {
		for _, want := range c.want {
			if c.err == nil || !strings.Contains(c.err.Error(), want) || strings.Contains(c.err.Error(), "hunter2") {
				t.Errorf("want %q: %v", want, c.err)
			}
		}
	}
}

// A certificate that is not trusted is explained by the key that could change it; nothing else is.
func TestUntrusted(t *testing.T) {
	t.Parallel()
	system := credential.TLS{Section: "redis.tls"}
	own := credential.TLS{Section: "redis.tls", CAFile: "ca.pem"}
	for _, c := range []struct {
		tls  *credential.TLS
		err  error
		want string
	}{
		{&system, x509.UnknownAuthorityError{}, "redis.tls.ca_file: r:6379: x509: certificate signed by unknown authority: the system's roots do not know"},
		{&own, x509.UnknownAuthorityError{}, "redis.tls.ca_file: r:6379: x509: certificate signed by unknown authority: ca.pem does not hold"},
		{&own, x509.HostnameError{Certificate: &x509.Certificate{}, Host: "r"}, "redis.tls.server_name: r:6379: "},
	} {
		if err := c.tls.Untrusted("r:6379", c.err); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("want %q: %v", c.want, err)
		}
	}
	for _, other := range []error{errors.New("reset"), &net.OpError{Op: "dial", Err: errors.New("refused")}} {
		if err := own.Untrusted("r:6379", other); err != nil {
			t.Errorf("%v: %v", other, err)
		}
	}
}

// A connection is made with the files as they are then: an authority that is mounted later is trusted without a restart.
func TestOverFollowsTheFiles(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	address := server.Listener.Addr().String()
	file := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	system, own, other := credential.TLS{Section: "kafka.tls"}, credential.TLS{Section: "kafka.tls", CAFile: file}, credential.TLS{Section: "kafka.tls", CAFile: file, ServerName: "else.test"}
	dial := func(c *credential.TLS) error {
		conn, err := c.Over((&net.Dialer{}).DialContext, 5*time.Second, func(address string, err error) error {
			if untrusted := c.Untrusted(address, err); untrusted != nil {
				return untrusted
			}
			return fmt.Errorf("unexplained: %w", err)
		})(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	wants := func(c *credential.TLS, want string) {
		t.Helper()
		if err := dial(c); err == nil && want != "" || err != nil && (want == "" || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	wants(&system, "kafka.tls.ca_file: "+address+": ")
	wants(&own, "")
	wants(&other, "kafka.tls.server_name: "+address+": ")
	trusted, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{{"", "kafka.tls.ca_file: " + file + " holds no certificate"}, {string(trusted), ""}} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		wants(&own, c.want)
	}
}
