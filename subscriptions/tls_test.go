package subscriptions_test

import (
	"crypto/tls"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"fanout/subscriptions"
)

// Redis is spoken to over TLS with the authority that is configured, and what is wrong with it is said by the key that could change it.
func TestRedisOverTLS(t *testing.T) {
	t.Parallel()
	certificates := httptest.NewTLSServer(nil) // has one, with its key
	defer certificates.Close()
	m, err := miniredis.RunTLS(&tls.Config{Certificates: certificates.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.HSet("fanout:account:acme", "crm", `{"url":"https://example.com/","events":["*"]}`)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificates.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	get := func(c subscriptions.TLSConfig) (there bool, err error) {
		store, err := subscriptions.NewStore(subscriptions.Config{URL: "rediss://" + m.Addr(), TLS: c})
		if err != nil {
			return false, err
		}
		defer store.Close()
		_, there, err = store.Get(t.Context(), "acme", "crm")
		return there, err
	}
	if there, err := get(subscriptions.TLSConfig{CAFile: file}); !there || err != nil {
		t.Errorf("with its authority: %v, %v", there, err)
	}
	for want, c := range map[string]subscriptions.TLSConfig{
		"redis.tls.ca_file: " + m.Addr() + ": ":   {},
		"redis.tls.server_name: ":                 {CAFile: file, ServerName: "else.test"},
		"redis.tls.ca_file: open " + file + ".no": {CAFile: file + ".no"},
	} {
		if _, err := get(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}
